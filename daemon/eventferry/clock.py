"""The only module that reads time; everything else asks it, so that tests can set it."""

import datetime as dt
import time

UTC = dt.UTC


def now() -> dt.datetime:
    """The current instant, aware, in UTC."""
    return dt.datetime.now(UTC)


def now_ms() -> int:
    """The current instant in milliseconds since the epoch."""
    return int(time.time() * 1000)


def monotonic() -> float:
    """Seconds on a clock that never steps back; for deadlines inside one process."""
    return time.monotonic()


def steady() -> float:
    """Seconds on the machine's own clock, also while a test holds time still: for what must end in real time."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def from_ms(ms: int) -> dt.datetime:
    """The aware UTC datetime of `ms` milliseconds since the epoch."""
    return dt.datetime.fromtimestamp(ms / 1000, UTC)


def to_ms(moment: dt.datetime) -> int:
    """Milliseconds since the epoch of an aware datetime."""
    return int(moment.timestamp() * 1000)
