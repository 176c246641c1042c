"""What sink types may ask of the clock: what is left of a deadline, calls that end at one, the time of day."""

import math
from collections.abc import Callable
from threading import Thread
from typing import TypeVar

from eventferry import clock
from eventferry.sink.errors import SinkUnavailable

T = TypeVar("T")


class Deadline:
    """The end of a call that is made of several steps."""

    def __init__(self, seconds: float = math.inf) -> None:
        self.seconds = seconds
        self._end = clock.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds until the end; 0 once it has passed."""
        return max(0.0, self._end - clock.monotonic())

    def remaining(self, who: str) -> float:
        """Seconds left, more than 0. Raises SinkUnavailable, for a step that is then not taken."""
        if not (left := self.left):
            raise SinkUnavailable(f"{who}: not done within {self.seconds:g} s", untouched=True)
        return left


def within(seconds: float, call: Callable[[], T], late: Exception) -> T:
    """What `call` returns or raises, unless it takes longer: then `late` is raised.

    For what has no deadline of its own and cannot be interrupted. It runs on a thread, on which it is left behind, and
    may still take effect.
    """
    returned: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            returned.append(call())
        except BaseException as error:
            raised.append(error)

    thread = Thread(target=run, name="within", daemon=True)
    thread.start()
    thread.join(seconds)
    if raised:
        raise raised[0]
    if not returned:
        raise late
    return returned[0]


def unix_seconds() -> int:
    """The current instant in whole seconds since the epoch."""
    return clock.now_ms() // 1000
