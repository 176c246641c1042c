"""Rings when a time is over: one sleeping thread for all deadlines, for one a call would cost more than the call."""

import math
import threading
from collections.abc import Callable

from eventferry import clock

_LATE = 0.01  # seconds that a ring may be late: calls that share a deadline do not wake the thread for the difference


class Alarms:
    """Deadlines by their key. Setting and cancelling one wakes nobody, unless it is the earliest of all."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: dict[object, tuple[float, Callable[[], None]]] = {}
        self._wake = math.inf  # when the thread looks again
        self._thread: threading.Thread | None = None

    def set(self, key: object, seconds: float, ring: Callable[[], None]) -> None:
        """Call `ring` on the thread of the alarms in `seconds`, unless `key` is cancelled by then."""
        end = clock.steady() + seconds
        with self._changed:
            self._due[key] = end, ring
            if self._thread is None or not self._thread.is_alive():  # a forked process has none
                self._thread = threading.Thread(target=self._work, name="deadlines", daemon=True)
                self._thread.start()
            elif end < self._wake - _LATE:
                self._changed.notify()

    def cancel(self, key: object) -> None:
        """Do not ring any more; what rings at this very moment may still do so."""
        with self._changed:
            self._due.pop(key, None)

    def _work(self) -> None:
        while True:
            with self._changed:
                now = clock.steady()
                over = [key for key, (end, _) in self._due.items() if end <= now]
                rings = [self._due.pop(key)[1] for key in over]
                if not rings:
                    self._wake = min((end for end, _ in self._due.values()), default=math.inf)
                    self._changed.wait(None if self._wake == math.inf else self._wake - now)
            for ring in rings:
                ring()


alarms = Alarms()  # those of this process
