"""Finds what a command works on: the configuration, the state directory, the ledger; as the user that owns them."""

import contextlib
import os
import pwd
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eventferry.errors import ConfigError, EventferryError

if TYPE_CHECKING:
    from eventferry.config import Config
    from eventferry.ledger import Ledger

DEFAULT_CONFIG = Path("/etc/eventferry/config.toml")
DEFAULT_STATE = Path("/var/lib/eventferry")
ACCOUNT = "eventferry"
# Where systemd shows the running unit its credentials; root may read them, too.
CREDENTIALS = Path("/run/credentials/eventferry.service")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an installation keeps its things."""

    config: Path
    state_dir: Path
    ledger: Path


def find_place(config: Path) -> Place:
    """Where the installation of this configuration is, even if the configuration is broken. Raises ConfigError."""
    try:
        text: str | None = config.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        text = None
    state, url = _read_leniently(text or "")
    state_dir = Path(state or os.environ.get("STATE_DIRECTORY", "").split(":")[0] or DEFAULT_STATE)
    ledger = Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:////") else state_dir / "ledger.db"
    if text is None and not config.exists() and not state_dir.is_dir():
        raise ConfigError(f"{config}: there is no such file; `eventferry init` writes one, --config names another")
    return Place(config, state_dir, ledger)


def _read_leniently(text: str) -> tuple[str, str]:
    """state_dir and ledger.url as far as the text tells; "" where it does not."""
    try:
        data: dict[str, Any] = tomllib.loads(text)
        ledger = data.get("ledger")
        found = data.get("state_dir"), ledger.get("url") if isinstance(ledger, dict) else None
    except (ValueError, RecursionError):
        top = re.split(r"(?m)^\s*\[", text, maxsplit=1)[0]
        found = _quoted(r"state_dir", top), _quoted(r"url", text, "sqlite:////")
    return _resolved(found[0]), _resolved(found[1])


def _quoted(key: str, text: str, begins: str = "/") -> str | None:
    match = re.search(rf"""(?m)^\s*{key}\s*=\s*(["'])({re.escape(begins)}[^"'\n]*)\1""", text)
    return match[2] if match else None


def _resolved(value: object) -> str:
    from eventferry.config.secrets import SecretError, resolve_text

    if not isinstance(value, str):
        return ""
    with contextlib.suppress(SecretError):
        return resolve_text(value)[0]
    return ""


def load_config(path: Path, *, strict: bool = True) -> "Config":
    """The checked configuration; from here on its secrets are hidden in whatever is printed. Raises ConfigError."""
    from eventferry.alerts.channels import make_channel
    from eventferry.cli.syntax import with_remedy
    from eventferry.config import load, redactor
    from eventferry.logs import set_redactor

    _lend_credentials()
    set_redactor(redactor.redact)
    try:
        return load(path, check_sinks=strict, make_channel=make_channel if strict else None)
    except ConfigError as error:
        told = tuple(map(with_remedy, error.problems))
        if told == error.problems:
            raise
        raise ConfigError(*told) from None


def try_config(path: Path) -> "Config | None":
    """The configuration where it makes sense; its secrets are known afterwards either way."""
    try:
        return load_config(path, strict=False)
    except ConfigError:
        return None


def _lend_credentials() -> None:
    """Outside the unit, root finds the credentials where systemd put them for the running unit."""
    if "CREDENTIALS_DIRECTORY" not in os.environ and os.geteuid() == 0 and CREDENTIALS.is_dir():
        os.environ["CREDENTIALS_DIRECTORY"] = str(CREDENTIALS)


def step_down(state_dir: Path) -> None:
    """As root, become the user that owns the state directory, before a file of root's appears in it."""
    if os.geteuid() != 0:
        return
    is_standard = state_dir in (DEFAULT_STATE, Path(os.environ.get("STATE_DIRECTORY", DEFAULT_STATE)))
    account = _account(ACCOUNT)
    if not state_dir.exists() and is_standard and account is not None:
        state_dir.mkdir(parents=True, mode=0o700)
        os.chown(state_dir, account.pw_uid, account.pw_gid)
    if state_dir.exists() and (owner := state_dir.stat()).st_uid != 0:
        _become(owner.st_uid, owner.st_gid)


def _account(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _become(uid: int, gid: int) -> None:
    os.chdir("/")  # the directory that root stands in may be closed to others
    try:
        account = pwd.getpwuid(uid)
        os.initgroups(account.pw_name, account.pw_gid)
        gid = account.pw_gid
        os.environ |= {"HOME": account.pw_dir, "USER": account.pw_name, "LOGNAME": account.pw_name}
    except KeyError:  # a user of another machine's, on a shared disk
        os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    os.umask(0o077)
    for needed in (os.path.dirname(os.__file__), os.path.dirname(__file__)):  # noqa: PTH120
        if not os.access(needed, os.R_OK | os.X_OK):
            raise EventferryError(
                f"{needed} cannot be read by the user (uid {uid}) that owns the state directory; "
                "install eventferry where everybody may read it, such as /opt/eventferry/venv"
            )


def open_place(place: Place) -> "Ledger":
    """The ledger as it is, opened as its owner. Raises LedgerError."""
    from eventferry.ledger import open_ledger

    step_down(place.state_dir)
    return open_ledger(place.ledger, migrate=False)


def be_quiet() -> None:
    """Log nothing but what should never happen: the command itself says what there is to say."""
    import logging

    from eventferry.logs import configure_logs

    configure_logs("auto", "critical")
    logging.getLogger().setLevel(logging.CRITICAL)
