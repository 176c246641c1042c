"""What the HTTP receiver of the fault lane keeps: every request's body on disk, before anything is answered."""

import threading
from collections.abc import Callable
from pathlib import Path

from tests.contract.receiver import Answer, Request

OK: Answer = (200, {}, b"ok")


class Journal:
    """Writes each request down as `NNNNNN-<key>.ndjson`, then answers; can be told to keep its answer back."""

    def __init__(self, folder: Path, then: Callable[[Request, int], Answer] = lambda request, seen: OK) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._then = then
        self._lock = threading.Lock()
        self._countdown = 0
        self.keys: dict[str, int] = {}  # key → how often it came
        self.arrivals = 0
        self.events = 0  # of distinct keys
        self.held = threading.Event()
        self._release = threading.Event()

    def take(self, request: Request) -> Answer:
        """The receiver's answer to a request."""
        key = request.headers["idempotency-key"]
        with self._lock:
            self.arrivals += 1
            (self._folder / f"{self.arrivals:06d}-{key}.ndjson").write_bytes(request.body)
            if key not in self.keys:
                self.events += request.body.count(b"\n")
            self.keys[key] = seen = self.keys.get(key, 0) + 1
            self._countdown -= 1
            holds = self._countdown == 0
        if holds:
            release = self._release
            self.held.set()
            release.wait(60)
        return self._then(request, seen)

    def hold(self, nth: int) -> None:
        """Keep the answer to the nth request from now on back."""
        self.held.clear()
        self._release = threading.Event()
        with self._lock:
            self._countdown = nth

    def release(self) -> None:
        """Answer what was kept back; hold nothing more."""
        with self._lock:
            self._countdown = 0
        self._release.set()

    @property
    def repeats(self) -> int:
        """Requests whose key had come before."""
        return self.arrivals - len(self.keys)
