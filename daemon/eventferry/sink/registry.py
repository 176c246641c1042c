"""Finds sink types by name, through entry points, and makes sinks of them."""

import contextlib
import difflib
import importlib
import importlib.util
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from pydantic import ValidationError

from eventferry.errors import ConfigError
from eventferry.installing import command
from eventferry.sink.base import CONTRACT_VERSION, Sink, SinkOptions
from eventferry.sink.callables import complaint, sink_type_of
from eventferry.sink.complaints import option_problems

GROUP = "eventferry.sinks"


@dataclass(frozen=True, slots=True)
class InstalledType:
    """A sink type that some installed distribution registers; it has not been imported."""

    name: str
    target: str  # module:Class
    distribution: str
    version: str


def installed() -> dict[str, InstalledType]:
    """The registered sink types by name, sorted. Imports none of them."""
    return {name: found[0] for name, found in sorted(_registered().items())}


def load_sink_type(type: str) -> type[Sink[Any]]:
    """The sink type named `type`, or the callable `module:function` as one; imports only that one.

    Raises ConfigError, each naming the type and what to do about it.
    """
    if ":" in type:
        return _adapt(_import_target(type, f"type {type!r}"), type)
    found = _registered().get(type, [])
    if not found:
        raise ConfigError(_unknown(type))
    if len({one.target for one in found}) > 1:
        rivals = " and ".join(sorted(f"{one.distribution} {one.version}" for one in found))
        raise ConfigError(f"sink type {type!r} is registered by {rivals}; uninstall one of them")
    one = found[0]
    who = f"sink type {type!r} ({one.distribution} {one.version})"
    return _adapt(_import_target(one.target, who, _extra(one)), one.target, who)


def types_that_replace() -> list[str]:
    """The registered types that can delete what they hold and take it anew in one transaction; imports all types."""
    found = []
    for name in installed():
        with contextlib.suppress(ConfigError):
            found += [name] if load_sink_type(name).can_replace else []
    return found


def make_sink(type: str, name: str, options: Mapping[str, Any]) -> Sink[Any]:
    """The sink `name` of type `type` with its checked options; not opened. Raises ConfigError with every problem."""
    sink_type = load_sink_type(type)
    problems = list(_missing_libraries(sink_type, name))
    checked: SinkOptions | None = None
    try:
        checked = sink_type.Options.model_validate(dict(options))
    except ValidationError as error:
        problems.extend(option_problems(error, sink_type.Options, name))
    if checked is None or problems:
        raise ConfigError(*problems) from None
    return sink_type(checked, name)


def _registered() -> dict[str, list[InstalledType]]:
    found: dict[str, list[InstalledType]] = {}
    for point in metadata.entry_points(group=GROUP):
        dist = point.dist
        one = InstalledType(point.name, point.value, dist.name if dist else "?", dist.version if dist else "?")
        if one not in found.setdefault(point.name, []):
            found[point.name].append(one)
    return found


def _unknown(type: str) -> str:
    names = sorted(_registered())
    close = difflib.get_close_matches(type, names, 1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    listed = ", ".join(names) or "none"
    return f"sink type {type!r} is not installed; {meant}installed are: {listed}; a function is named `module:function`"


def _extra(one: InstalledType) -> str | None:
    """What pip installs to get the client libraries of a type: the extra of the same name, where there is one."""
    extras = metadata.metadata(one.distribution).get_all("Provides-Extra") or []
    return f"{one.distribution}[{one.name}]" if one.name in extras else None


def _import_target(target: str, who: str, extra: str | None = None) -> object:
    module, _, attributes = target.partition(":")
    try:
        found: object = importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(_import_problem(error, module, who, extra)) from error
    except Exception as error:  # a plugin's module may raise anything while it is imported
        raise ConfigError(f"{who}: importing {module} raised {error.__class__.__name__}: {error}") from error
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            close = difflib.get_close_matches(attribute, dir(found), 1)
            meant = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"{who}: {module} has no {attributes!r}{meant}")
        found = getattr(found, attribute)
    return found


def _import_problem(error: ImportError, module: str, who: str, extra: str | None) -> str:
    missing = error.name or ""
    if missing and (module == missing or module.startswith(missing + ".")):
        return f"{who}: there is no module {missing!r}; install the package that holds it: {command('…')}"
    if missing:
        requirement = extra or missing.partition(".")[0]
        return f"{who}: importing {module} needs {missing!r}, which is not installed; run: {command(requirement)}"
    return f"{who}: importing {module} failed: {error}"


def _adapt(found: object, target: str, who: str = "") -> type[Sink[Any]]:
    who = who or f"type {target!r}"
    if not inspect.isclass(found):
        if problem := complaint(found):
            raise ConfigError(f"{who}: {target} {problem}")
        return sink_type_of(found, target)  # type: ignore[arg-type]
    if not issubclass(found, Sink):
        raise ConfigError(f"{who}: class {target} is not a sink; expected a subclass of eventferry.sink.Sink")
    if problem := _contract_problem(found):
        raise ConfigError(f"{who}: {target} {problem}")
    return found


def _contract_problem(sink_type: type[Sink[Any]]) -> str | None:
    if sink_type.contract != CONTRACT_VERSION:
        return (
            f"is written for version {sink_type.contract} of the sink contract, this eventferry has"
            f" {CONTRACT_VERSION}; install a version of it that fits"
        )
    if inspect.isabstract(sink_type):
        return f"does not define {', '.join(sorted(sink_type.__abstractmethods__))}"
    if not (inspect.isclass(sink_type.Options) and issubclass(sink_type.Options, SinkOptions)):
        return "has Options that are not a subclass of eventferry.sink.SinkOptions"
    if sink_type.Options.model_config.get("extra") != "forbid":
        return 'has Options that accept unknown keys; expected extra="forbid"'
    return None


def _missing_libraries(sink_type: type[Sink[Any]], name: str) -> list[str]:
    lacking: dict[str, list[str]] = {}  # what one command installs
    for module, requirement in sink_type.needs.items():
        if not is_installed(module):
            lacking.setdefault(requirement, []).append(repr(module))
    return [
        f"sinks.{name}.type: needs {' and '.join(modules)}, not installed here; run: {command(requirement)}"
        for requirement, modules in lacking.items()
    ]


def is_installed(module: str) -> bool:
    """Whether a client library is there; it is not imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
