"""Reads a configuration: TOML text to checked, immutable settings, or all of its mistakes at once."""

import os
import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from eventferry.config.checks import cross_mistakes
from eventferry.config.locate import KeyPath, Locator
from eventferry.config.mistakes import ConfigMistakes, Mistake, did_you_mean, dotted, mistakes_of
from eventferry.config.model import Config
from eventferry.config.secrets import Found, Redactor, is_secret_name, redactor, resolve_tree
from eventferry.config.sink import SinkConfig
from eventferry.config.syntax import explain
from eventferry.config.urls import is_url, secrets_of_url
from eventferry.errors import ConfigError

_LARGEST = 1024 * 1024
_SECRET_SETTINGS = frozenset(
    {"redact_salt", "access_key", "secret_key", "session_token", "account_key", "sas_token", "connection_string"}
)
_TRUST = ("s3", "external_id")  # what a role's trust policy asks for; elsewhere an option of that name is no secret

Make = Callable[[str, str, Mapping[str, Any]], object]  # type, name, options; raises ConfigError


def load(
    path: str | os.PathLike[str],
    *,
    check_sinks: bool = True,
    make_channel: Make | None = None,
    environ: Mapping[str, str] | None = None,
    redactor: Redactor = redactor,
) -> Config:
    """The configuration in a file. Raises ConfigError with one sentence per mistake.

    Secrets are fetched now and made known to `redactor`. With `check_sinks` the own options of every enabled sink are
    checked against its type, which imports that type; with `make_channel` (type, name, options) those of every channel.
    """
    name = os.fspath(path)
    try:
        with Path(path).open("rb") as file:
            raw = file.read(_LARGEST + 1)
    except FileNotFoundError:
        raise ConfigError(f"{name}: there is no such file; `eventferry init` writes one") from None
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror or error}") from None
    if len(raw) > _LARGEST:
        raise ConfigError(f"{name}: is larger than 1 MiB, which no configuration is; name another file")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{name}:{line}: is not UTF-8 text; save it as UTF-8") from None
    return load_text(text, name, check_sinks=check_sinks, make_channel=make_channel, environ=environ, redactor=redactor)


def load_text(
    text: str,
    name: str = "config.toml",
    *,
    check_sinks: bool = True,
    make_channel: Make | None = None,
    environ: Mapping[str, str] | None = None,
    redactor: Redactor = redactor,
) -> Config:
    """As load, for text that is no file; `name` stands in the sentences."""
    environ = os.environ if environ is None else environ
    data = _parse(text, name)
    locator = Locator(text)
    resolved, found, failed = resolve_tree(data, environ)
    secrets = frozenset(_secret_paths(resolved, found))
    _remember(resolved, found, secrets - failed.keys(), redactor)
    if "state_dir" not in resolved and environ.get("STATE_DIRECTORY"):
        resolved["state_dir"] = environ["STATE_DIRECTORY"].split(":")[0]
    mistakes = [Mistake(path, reason) for path, reason in failed.items()]
    config: Config | None = None
    try:
        config = Config.model_validate(resolved)
    except ValidationError as error:
        mistakes += mistakes_of(error, Config, secrets)
    mistakes += cross_mistakes(resolved)
    mistakes += _type_mistakes(resolved, _make_sink if check_sinks else None, make_channel)
    if mistakes or config is None:
        # A value that could not be fetched is one mistake, not a second one for its own text.
        told = [each for each in mistakes if each.path not in failed or each.text == failed[each.path]]
        raise ConfigMistakes(name, locator, told, redactor.redact)
    config._secrets, config._locator, config._file = secrets, locator, name
    return config


def _remember(
    data: dict[str, Any], found: dict[KeyPath, tuple[Found, ...]], secrets: Collection[KeyPath], redactor: Redactor
) -> None:
    """Makes every secret known to the redactor: what was put in, else the text itself, or what a plain URL holds."""
    for path, text in _texts(data):
        if path in secrets:
            for value in [each.value for each in found.get(path, ())] or [text]:
                redactor.add(value)
        elif "filter" not in path and is_url(str(path[-1]), text):
            for value in secrets_of_url(text):
                redactor.add(value)


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"{name}: is nested too deeply to be read") from None
    except ValueError as error:  # TOMLDecodeError, and integers of thousands of digits
        match = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", str(error), re.DOTALL)
        if match is None:
            raise ConfigError(f"{name}: is not TOML: {error}") from None
        end = text.rstrip("\n").count("\n") + 1, len(text.rstrip("\n").rpartition("\n")[2]) + 1
        line, column = (int(match[2]), int(match[3])) if match[2] else end
        said = explain(text, line, column, match[1])
        raise ConfigError(f"{name}:{line}:{column}: is not TOML: {said} (line {line}, column {column})") from None


def _texts(data: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _texts(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _texts(value, (*path, index))
    elif isinstance(data, str):
        yield path, data


def _secret_paths(data: dict[str, Any], found: dict[KeyPath, tuple[Found, ...]]) -> Iterator[KeyPath]:
    """The paths of all texts that must not be shown: secret by name, or put in from where secrets are kept.

    An environment variable in one of the product's own plain keys, such as a source's url, is no secret.
    """
    for path, _ in _texts(data):
        own = _is_own_key(path)
        kinds = {each.kind for each in found.get(path, ())}
        if kinds & {"file", "credential"} or (kinds and not own) or _is_secret_key(path, own):
            yield path


_OWN_SINK_KEYS = SinkConfig.model_fields.keys() - {"options"}
_OWN_CHANNEL_KEYS = {"name", "type", "level", "events"}


def _is_own_key(path: KeyPath) -> bool:
    """Whether the key is one of the product's, rather than an option of a sink type or channel type."""
    match path:
        case ("sinks", int(), key, *_):
            return key in _OWN_SINK_KEYS
        case ("alerts", "channels", int(), key, *_):
            return key in _OWN_CHANNEL_KEYS
    return True


def _is_secret_key(path: KeyPath, own: bool) -> bool:
    if path[-2:] == _TRUST and "redact" not in path:
        return True
    if own:
        is_hook = path == ("alerts", "ping_url") or (path[0] == "exports" and path[-1] == "webhook")
        return is_hook or (path[-1] in _SECRET_SETTINGS and "redact" not in path)
    named = any(is_secret_name(step) for step in path[2:] if isinstance(step, str) and step != "channels")
    return named or (path[0] == "alerts" and path[3] in ("url", "urls"))


def _type_mistakes(data: dict[str, Any], make_sink: Make | None, make_channel: Make | None) -> Iterator[Mistake]:
    """What the types of sinks and channels say about their own options."""
    if make_sink is not None:
        yield from _option_mistakes(data.get("sinks"), ("sinks",), _OWN_SINK_KEYS, make_sink)
    alerts = data.get("alerts")
    if make_channel is not None and isinstance(alerts, dict):
        yield from _option_mistakes(alerts.get("channels"), ("alerts", "channels"), _OWN_CHANNEL_KEYS, make_channel)


def _option_mistakes(tables: Any, path: KeyPath, own_keys: Collection[str], make: Make) -> Iterator[Mistake]:
    for index, table in enumerate(tables if isinstance(tables, list) else ()):
        if isinstance(table, dict) and isinstance(table.get("type"), str) and table.get("enabled") is not False:
            name = str(table.get("name", index))
            options = {key: value for key, value in table.items() if key not in own_keys}
            for problem in _problems(make, table["type"], name, options):
                yield _as_mistake(problem, f"{dotted(path)}.{name}", (*path, index), own_keys)


def _make_sink(type: str, name: str, options: Mapping[str, Any]) -> object:
    from eventferry.sink.registry import make_sink  # looks at entry points, which not every command needs

    return make_sink(type, name, options)


def _problems(make: Make, type: str, name: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    try:
        make(type, name, options)
    except ConfigError as error:
        return error.problems
    except Exception as error:  # a third party's class may raise anything
        return (f"type {type!r} raised {error.__class__.__name__}: {error}",)
    return ()


_VALUE_EXPECTED = re.compile(r"""\A('.*'|".*"|-?[\d.]+|true|false|null|a \w+) expected (?=.)""", re.DOTALL)


def _as_mistake(problem: str, label: str, path: KeyPath, own_keys: Collection[str]) -> Mistake:
    """The problem `sinks.NAME.key: sentence` at its key; one of another form belongs to the type."""
    match = re.fullmatch(rf"{re.escape(label)}(?:\.([\w.-]+))?: (.*)", problem, re.DOTALL)
    if match is None:
        return Mistake((*path, "type"), problem)
    steps = [int(step) if step.isdecimal() else step for step in match[1].split(".")] if match[1] else []
    text = _VALUE_EXPECTED.sub(r"\1 is not accepted; expected ", match[2])
    if text.startswith("unknown key;") and "did you mean" not in text and len(steps) == 1:
        meant = did_you_mean(str(steps[0]), own_keys)
        text = f"unknown key; {meant}" if meant.startswith("did") else text
    return Mistake((*path, *steps), text)
