"""Connections that nobody holds for nothing: requests arrive in time, answers are taken, waiting ones make room."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# What a whole request, head and body, may take to arrive; counted from its first byte, or from the connection's begin.
ARRIVAL_SECONDS = 60.0
# After this long in which the client has taken not one byte of an answer, the answer is given up.
STALL_SECONDS = 120.0


class Connection(H11Protocol):
    """Uvicorn's connection, with an end to slow requests and to readers that stopped.

    Where all places are taken, the connection that has waited longest for a request makes room.
    """

    _late: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self.since = self.loop.time()
        self._watch_arrival()
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            _make_room([each for each in self.connections if isinstance(each, Connection) and each is not self])

    def data_received(self, data: bytes) -> None:
        """Take what came; the clock runs until the request is whole."""
        super().data_received(data)
        self._watch_arrival()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self._late = _cancelled(self._late)
        self._stalled = _cancelled(self._stalled)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client takes less than it is sent: see whether it takes anything."""
        super().pause_writing()
        if self._stalled is None:
            self._watch_reader()

    def resume_writing(self) -> None:
        """It goes on."""
        self._stalled = _cancelled(self._stalled)
        super().resume_writing()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self.since = self.loop.time()
        super().on_response_complete()
        if self.conn.trailing_data[0]:  # it has begun to come already
            self._watch_arrival()

    @property
    def waits(self) -> bool:
        """Whether nothing is at work here: a request is yet to come, or to come wholly."""
        return self._late is not None or self.cycle is None or self.cycle.response_complete

    def _watch_arrival(self) -> None:
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._late = _cancelled(self._late)
        elif self._late is None and not self.transport.is_closing():
            self._late = self.loop.call_later(ARRIVAL_SECONDS, self.transport.abort)

    def _watch_reader(self, left: int = -1) -> None:
        """Give up where as much waits to be taken as the last time."""
        now = self.transport.get_write_buffer_size()
        if now == left:
            self.transport.abort()
        else:
            self._stalled = self.loop.call_later(STALL_SECONDS, self._watch_reader, now)


def _make_room(others: list[Connection]) -> None:
    waiting = [each for each in others if each.waits and not each.transport.is_closing()]
    if waiting:
        min(waiting, key=lambda each: each.since).transport.abort()


def _cancelled(timer: asyncio.TimerHandle | None) -> Any:
    if timer is not None:
        timer.cancel()
