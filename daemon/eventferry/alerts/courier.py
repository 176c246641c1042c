"""Carries messages through channels, each within a deadline, none waiting for another."""

import threading
from collections.abc import Mapping
from concurrent.futures import Future, wait
from typing import Any

from eventferry.alerts.channels.base import Channel, ChannelError
from eventferry.alerts.message import Message
from eventferry.logs import redact

# Above the deadline of the channels' own calls, so that theirs, which know more, speak first.
PATIENCE_S = 15.0


class Courier:
    """Calls channels on threads of their own. A call that never returns costs its channel, and nobody else."""

    def __init__(self, patience: float = PATIENCE_S) -> None:
        self._patience = patience
        self._overdue: dict[str, Future[None]] = {}

    def carry(
        self, messages: Mapping[str, Message], channels: Mapping[str, Channel[Any]]
    ) -> dict[str, ChannelError | None]:
        """Send one message to each channel, all at once. Per channel: None where it was taken, else why not."""
        stuck = {name for name in messages if self._is_stuck(name)}
        calls = {name: _start(channels[name], one) for name, one in messages.items() if name not in stuck}
        wait(calls.values(), self._patience)
        outcomes: dict[str, ChannelError | None] = {
            name: ChannelError("an earlier call has not returned yet") for name in stuck
        }
        return outcomes | {name: self._outcome(name, call) for name, call in calls.items()}

    def _is_stuck(self, name: str) -> bool:
        # One abandoned call a channel: a second one would hang beside it.
        call = self._overdue.get(name)
        if call is not None and call.done():
            del self._overdue[name]
        return name in self._overdue

    def _outcome(self, name: str, call: Future[None]) -> ChannelError | None:
        if not call.done():
            self._overdue[name] = call
            return ChannelError(f"no answer within {self._patience:g} s; the call was abandoned")
        error = call.exception()
        if error is None or isinstance(error, ChannelError):
            return error
        # A bug in one channel must not silence the others.
        return ChannelError(redact(f"it raised {type(error).__name__}: {error}"))


def _start(channel: Channel[Any], message: Message) -> Future[None]:
    call: Future[None] = Future()

    def run() -> None:
        try:
            channel.send(message)
        except BaseException as error:
            call.set_exception(error)
        else:
            call.set_result(None)

    # A daemon thread, not an executor's: those are joined at exit, however long they hang.
    threading.Thread(target=run, name=f"alert-{channel.name}", daemon=True).start()
    return call
