"""How often somebody may ask: token buckets, in memory, in a bounded number."""

import ipaddress
import math
import threading
from collections import OrderedDict

from eventferry import clock


class Rate:
    """`per_minute` requests each, of which `burst` may come at once; the longest unseen are forgotten. Thread-safe."""

    def __init__(self, per_minute: int, burst: int | None = None, capacity: int = 10_000) -> None:
        self._per_second = per_minute / 60
        self._burst = float(burst or per_minute)
        self._capacity = capacity
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens left, when
        self._lock = threading.Lock()

    def take(self, who: str) -> int:
        """0 where one more request is in order; else after how many seconds it will be."""
        with self._lock:
            left = self._left(who)
            if left < 1:
                return self._wait(left)
            self._buckets[who] = (left - 1, clock.monotonic())
            self._buckets.move_to_end(who)
            if len(self._buckets) > self._capacity:
                self._buckets.popitem(last=False)
            return 0

    def retry_after(self, who: str) -> int:
        """What `take` would say, without taking."""
        with self._lock:
            return self._wait(self._left(who))

    def __len__(self) -> int:
        return len(self._buckets)

    def _left(self, who: str) -> float:
        now = clock.monotonic()
        left, then = self._buckets.get(who, (self._burst, now))
        return min(self._burst, left + (now - then) * self._per_second)

    def _wait(self, left: float) -> int:
        return 0 if left >= 1 else max(1, math.ceil((1 - left) / self._per_second))


class Failures:
    """Failed authentications by network address: after `per_minute` of them an address has to wait. Thread-safe."""

    def __init__(self, per_minute: int = 20, capacity: int = 10_000) -> None:
        self._rate = Rate(per_minute, capacity=capacity)

    def note(self, address: str) -> int:
        """Count one. 0 where that is still bearable; else after how many seconds it will be again."""
        return self._rate.take(_network(address))

    def retry_after(self, address: str) -> int:
        """What `note` would say, without counting."""
        return self._rate.retry_after(_network(address))


def _network(address: str) -> str:
    """Whom the address belongs to: of IPv6 a customer has a whole /64."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv6Address):
        mapped = found.ipv4_mapped
        return str(mapped or ipaddress.ip_network((int(found) >> 64 << 64, 64)))
    return str(found)
