"""Ends a check: what was proven, what was not, and what to run next."""

from pathlib import Path
from typing import TYPE_CHECKING

from eventferry import app
from eventferry.cli import console
from eventferry.cli.options import is_service
from eventferry.cli.pulling import missing_packages
from eventferry.config import Config
from eventferry.ledger import Ledger, api_keys
from eventferry.service.reload import digest_of, get_loaded

if TYPE_CHECKING:
    from eventferry.cli.check import Steps


def is_idle(config: Config) -> bool:
    """Whether nothing would be carried under this configuration."""
    return not app.is_anybody_listening(config) or not any(each.enabled for each in config.sources)


def conclude(
    config: Config, path: Path, ledger: Ledger | None, steps: "Steps", *, idle: bool, everything: bool
) -> None:
    """Say in a sentence what the check has shown, and what comes next."""
    console.say()
    if steps.code:
        console.mark(console.BAD, "Mend what is marked above, then check again.")
    elif idle:
        console.mark(console.MIND, "Nothing is wrong, but nothing would be carried either.")
        for missing in _missing(config, path):
            console.advise(missing)
    else:
        proven = _proven(steps, everything=everything)
        if steps.new_names:
            console.mark(console.MIND, f"{proven} But look at the new names above before anything runs. Next:")
        else:
            console.mark(console.OK, f"{proven} Next:")
        _advise_next(config, path, ledger)


def _missing(config: Config, path: Path) -> list[str]:
    add = []
    if not config.enabled:
        add.append(f"set enabled = true in {path}")
    if not any(each.enabled for each in config.sources):
        add.append(f"add a table [[sources]] to {path}" if not config.sources else f"switch a source on in {path}")
    if not any(each.enabled for each in config.sinks):
        add.append(f"add a table [[sinks]] to {path}" if not config.sinks else f"switch a sink on in {path}")
    return [*add, "eventferry config example   shows every option", "eventferry check            tries it then"]


def _proven(steps: "Steps", *, everything: bool) -> str:
    unknown = f"not contacted: {', '.join(steps.not_contacted)}." if steps.not_contacted else ""
    if not everything:
        return f"What was tried works; {unknown}" if unknown else "That works; the rest was not tried."
    return f"What could be tried works; {unknown}" if unknown else "Everything that was tried works."


def _advise_next(config: Config, path: Path, ledger: Ledger | None) -> None:
    if app.is_owned(config.state_dir):
        if ledger is not None and _is_edited(ledger, path):
            console.advise("eventferry reload   makes the running daemon load this configuration")
        else:
            console.advise("eventferry status   shows how the running daemon is doing")
    else:
        if any(each.enabled for each in config.sinks):
            console.advise("eventferry once   delivers what there is")
        if is_service(path):
            console.advise("systemctl enable --now eventferry   does so from now on")
        else:
            console.advise("eventferry run    does so from now on, until it is stopped")
    if config.pull.enabled and not missing_packages() and not _has_key(ledger):
        _advise_serving(path)


def _advise_serving(path: Path) -> None:
    console.advise("eventferry keys create NAME   lets somebody ask for events and exports")
    if is_service(path, "eventferry-api.service"):
        console.advise("systemctl enable --now eventferry-api   answers them from now on")
    else:
        console.advise("eventferry serve   answers them, until it is stopped; in a second terminal, beside `run`")


def _has_key(ledger: Ledger | None) -> bool:
    if ledger is None:
        return False
    with ledger.read() as tx:
        return bool(api_keys.all_keys(tx))


def _is_edited(ledger: Ledger, path: Path) -> bool:
    with ledger.read() as tx:
        loaded = get_loaded(tx)
    return loaded is not None and Path(loaded.path) == path and loaded.digest != digest_of(path)
