"""What sink types may ask of the clock: how much of a deadline is left, and what time it is."""

from eventferry import clock


class Deadline:
    """The end of a call that is made of several steps."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = clock.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds until the end; 0 once it has passed."""
        return max(0.0, self._end - clock.monotonic())


def unix_seconds() -> int:
    """The current instant in whole seconds since the epoch."""
    return clock.now_ms() // 1000
