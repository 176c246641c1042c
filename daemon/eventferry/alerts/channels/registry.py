"""Makes channels by the name of their type: ours, a function, or one that another package registers."""

import difflib
import importlib
import inspect
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from pydantic import ValidationError

from eventferry.alerts.channels.base import Channel, ChannelOptions
from eventferry.alerts.channels.callables import CallableChannel, complaint
from eventferry.errors import ConfigError
from eventferry.sink.complaints import option_problems

GROUP = "eventferry.channels"
OWN = {
    "slack": "eventferry.alerts.channels.slack:SlackChannel",
    "email": "eventferry.alerts.channels.email:EmailChannel",
    "webhook": "eventferry.alerts.channels.webhook:WebhookChannel",
    "apprise": "eventferry.alerts.channels.services:AppriseChannel",
}


def channel_types() -> dict[str, str]:
    """The known types and where each is defined, as module:Class. Imports none of them."""
    others = {point.name: point.value for point in metadata.entry_points(group=GROUP)}
    return {**dict(sorted(others.items())), **OWN}


def make_channel(type: str, name: str, options: Mapping[str, Any]) -> Channel[Any]:
    """The channel `name` with its checked options. Raises ConfigError with every problem; connects to nothing."""
    found = load_channel_type(type, name)
    is_class = inspect.isclass(found)
    model: Any = found.Options if is_class else ChannelOptions
    try:
        checked = model.model_validate(dict(options))
    except ValidationError as error:
        said = option_problems(error, model, name)
        raise ConfigError(*(one.replace("sinks.", "alerts.channels.", 1) for one in said)) from None
    channel: Channel[Any] = found(checked, name) if is_class else CallableChannel(checked, name, found)
    return channel


def known_options(type: str, name: str) -> frozenset[str]:
    """The keys that a channel of this type takes. Raises ConfigError."""
    found = load_channel_type(type, name)
    model: Any = found.Options if inspect.isclass(found) else ChannelOptions  # type: ignore[attr-defined]
    fields = model.model_fields
    return frozenset(field.alias or key for key, field in fields.items())


def load_channel_type(type: str, name: str) -> Any:
    """The class of a channel type, or the function that `module:function` names. Raises ConfigError."""
    where = f"alerts.channels.{name}.type"
    known = channel_types()
    target = type if ":" in type else known.get(type)
    if target is None:
        close = difflib.get_close_matches(type, known, 1)
        meant = f"did you mean {close[0]!r}? " if close else ""
        listed = ", ".join(sorted(known))
        raise ConfigError(f"{where}: {type!r} is unknown; {meant}known are: {listed}, or a function `module:function`")
    found = _import(target, f"{where}: {type!r}")
    if inspect.isclass(found) and issubclass(found, Channel):
        return found
    if ":" not in type:
        raise ConfigError(f"{where}: {type!r} is no channel; {target} is not a subclass of eventferry.alerts.Channel")
    if problem := complaint(found):
        raise ConfigError(f"{where}: {type!r} {problem}")
    return found


def _import(target: str, who: str) -> Any:
    module, _, attributes = target.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{who}: there is no module {error.name!r}; install the package that holds it") from error
    except AttributeError as error:
        raise ConfigError(f"{who}: {error}") from error
    except Exception as error:  # a plugin's module may raise anything while it is imported
        raise ConfigError(f"{who}: importing {module} raised {error.__class__.__name__}: {error}") from error
    return found
