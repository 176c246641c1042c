"""Makes any importable function of (message text, level) a channel: `type = "acme_bi:log"`."""

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from eventferry.alerts.channels.base import Channel, ChannelError, ChannelOptions
from eventferry.alerts.message import Message
from eventferry.alerts.render import plain_text
from eventferry.sink.safe import safe_text


class CallableChannel(Channel[ChannelOptions]):
    """Calls `function` with each message's text and level; raising means that it was not taken."""

    default_level: ClassVar[str] = "info"

    def __init__(self, options: ChannelOptions, name: str, function: Callable[[str, str], object]) -> None:
        super().__init__(options, name)
        self._function = function

    def send(self, message: Message) -> None:
        try:
            self._function(plain_text(message), message.level)
        except Exception as error:  # somebody else's code may raise anything
            raise ChannelError(f"it raised {type(error).__name__}: {safe_text(str(error))}") from error


def complaint(function: Any) -> str | None:
    """Why `function` cannot be a channel, as the end of a sentence; None where it can."""
    if not callable(function):
        return f"is a {type(function).__name__}; expected a function of (message, level)"
    if inspect.iscoroutinefunction(function):
        return "is asynchronous and would never run; expected a plain function of (message, level)"
    try:
        inspect.signature(function).bind("", "")
    except TypeError:
        return "cannot be called with two arguments; expected a function of (message, level)"
    except ValueError:  # some built-in callables have no signature
        pass
    return None
