"""One worker slot of a sink: a sink instance, the thread that uses it, and the deadline of the call under way."""

import contextlib
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from eventferry import clock
from eventferry.pipeline.outcome import Overdue
from eventferry.pipeline.told import Told, hear
from eventferry.sink import BatchRejected, BatchTooLarge, EventsRejected, Sink

AnySink = Sink[Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the sink."""

    seq: int  # of the batch
    use: Callable[[AnySink], Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """How a call ended."""

    slot: "Slot"
    call: Call
    value: Any = None
    error: BaseException | None = None
    told: Told = field(default_factory=Told)


class Slot:
    """Runs calls one at a time on its own thread. A thread cannot be killed: an overdue one is abandoned."""

    def __init__(self, make: Callable[[], AnySink], replies: "queue.SimpleQueue[Reply | None]", name: str) -> None:
        self._make = make
        self._replies = replies
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._sink: AnySink | None = None
        self._abandoned = threading.Event()
        self.current: Call | None = None
        self.deadline = 0.0
        self._thread = threading.Thread(target=self._work, name=f"sink-{name}", daemon=True)
        self._thread.start()

    @property
    def is_free(self) -> bool:
        return self.current is None and not self._abandoned.is_set()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def start(self, call: Call, timeout: float) -> None:
        """Begin a call; its reply comes through the queue, or never."""
        assert self.is_free
        self.current, self.deadline = call, clock.monotonic() + timeout
        self._calls.put(call)

    def take(self, reply: Reply) -> bool:
        """Accept a reply; False where it comes from a call that was given up."""
        if self._abandoned.is_set() or reply.call is not self.current:
            return False
        self.current = None
        return True

    def abandon(self, timeout: float) -> Reply:
        """Give the call under way up: its instance and its result are lost."""
        assert self.current is not None
        self._abandoned.set()
        return Reply(self, self.current, error=Overdue(f"no answer within {timeout:g} s"))

    def close(self) -> None:
        """Close the sink and end the thread, after the call under way; does not wait."""
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            reply = self._carry_out(call)
            if self._abandoned.is_set():
                break
            self._replies.put(reply)
        self._close_sink()

    def _carry_out(self, call: Call) -> Reply:
        try:
            if self._sink is None:
                sink = self._make()
                sink.open()
                self._sink = sink
            value = call.use(self._sink)
            return Reply(self, call, value=value, told=hear(self._sink))
        except BaseException as error:
            told = Told() if self._sink is None else hear(self._sink)
            if not isinstance(error, (BatchRejected, BatchTooLarge, EventsRejected)):
                self._close_sink()  # after a failure, unlike an answer, the next call begins with a fresh connection
            return Reply(self, call, error=error, told=told)

    def _close_sink(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            with contextlib.suppress(Exception):  # it is let go of anyway, and its last answer is already recorded
                sink.close()
