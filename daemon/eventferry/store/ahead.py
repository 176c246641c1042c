"""Fetches small objects before they are asked for, many at once, so that a far store's latency is not paid for each.

Index workers and deliveries read objects one after another, in order; a store over a network answers many requests in
the time of one. What is fetched ahead is bounded in bytes; larger objects are streamed when it is their turn.
"""

import threading
from collections import deque
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Protocol, Self

from eventferry.store.base import ObjectReader, Store

# Stored bytes of the largest object that is fetched ahead: of a larger one the transfer takes longer than the latency.
SMALL_BYTES = 1024 * 1024
# Threads of all who read ahead in this process; the unit of systemd bounds the service's as well.
SEATS = threading.BoundedSemaphore(64)


class Opener(Protocol):
    """Opens object versions."""

    def open(self, key: str, version: str) -> ObjectReader: ...


class Room:
    """Bytes that may be held at the same time by all who share it; thread-safe."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._free = size
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Take so many bytes, if they are free."""
        with self._lock:
            if size > self._free:
                return False
            self._free -= size
            return True

    def give_back(self, size: int) -> None:
        with self._lock:
            self._free += size


class _Fetch:
    """One object on its way into memory."""

    def __init__(self, key: str, version: str, size: int) -> None:
        self.key = key
        self.version = version
        self.size = size
        self.data = b""
        self.error: Exception | None = None
        self.done = threading.Event()

    def run(self, store: Opener) -> None:
        """Fetch it; what goes wrong is kept for whoever opens it."""
        try:
            reader = store.open(self.key, self.version)
            try:
                self.data = b"".join(iter(lambda: reader.read(self.size + 1), b""))
                reader.verify()
            finally:
                reader.close()
        except Exception as error:
            self.error = error
        finally:
            self.done.set()


class ReadAhead:
    """A store that can be told what will be opened next. Used by one thread; its own threads end when they are idle.

    `open` gives the same bytes and raises the same errors as the store itself.
    """

    def __init__(self, open_store: Callable[[], Store], reads: int, room: Room, most: int | None = None) -> None:
        """`most`: bytes of the room that this one may take; None: all."""
        self._open_store = open_store
        self._reads = reads
        self._room = room
        self._most = room.size if most is None else most
        self._held = 0
        self._store: Store | None = None
        self._fetches: dict[tuple[str, str], _Fetch] = {}
        self._waiting: deque[_Fetch] = deque()
        self._threads = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def expect(self, key: str, version: str, size: int) -> bool:
        """This one will be opened, and after those named before; False where there is no room or thread for it yet."""
        if (key, version) in self._fetches or size > SMALL_BYTES:
            return True
        if len(self._fetches) >= 2 * self._reads or self._held + size > self._most or not self._room.take(size):
            return False
        self._held += size
        fetch = _Fetch(key, version, size)
        with self._lock:
            if self._threads < self._reads:
                self._start_thread()
            if self._threads:
                self._waiting.append(fetch)
                self._fetches[key, version] = fetch
                return True
        self._give_back(fetch)
        return False

    def open(self, key: str, version: str) -> ObjectReader:
        """The stored bytes of exactly this version. Raises as the store does."""
        fetch = self._fetches.pop((key, version), None)
        if fetch is None:
            if self._store is None:
                self._store = self._open_store()
            return self._store.open(key, version)
        fetch.done.wait()  # the store's own limits of time end it
        self._give_back(fetch)
        if fetch.error is not None:
            raise fetch.error
        return _FetchedReader(fetch.data)

    def forget(self, keep: Collection[tuple[str, str]] = ()) -> None:
        """Let go of what was fetched and not opened, but for these (key, version); what is under way ends by itself."""
        dropped = [self._fetches.pop(name) for name in self._fetches.keys() - keep]
        with self._lock:
            self._waiting = deque(fetch for fetch in self._waiting if fetch not in dropped)
        for fetch in dropped:
            self._give_back(fetch)

    def _give_back(self, fetch: _Fetch) -> None:
        self._held -= fetch.size
        self._room.give_back(fetch.size)

    def close(self) -> None:
        self.forget()
        if self._store is not None:
            self._store.close()
            self._store = None

    def _start_thread(self) -> None:
        """One more thread, if this process may have it; it begins once the lock is free."""
        if not SEATS.acquire(blocking=False):
            return
        try:
            threading.Thread(target=self._work, name="read-ahead", daemon=True).start()
        except RuntimeError:  # the system gives none: one object after another, as without this
            SEATS.release()
        else:
            self._threads += 1

    def _work(self) -> None:
        try:
            self._fetch_waiting()
        finally:
            SEATS.release()

    def _fetch_waiting(self) -> None:
        store: Store | None = None
        while True:
            with self._lock:
                if not self._waiting:
                    self._threads -= 1
                    break
                fetch = self._waiting.popleft()
            try:
                store = store or self._open_store()
            except Exception as error:
                fetch.error = error
                fetch.done.set()
                continue
            fetch.run(store)
        if store is not None:
            store.close()


class _FetchedReader:
    """Bytes that are in memory already."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def read(self, size: int = -1, /) -> bytes:
        end = len(self._data) if size < 0 else self._at + size
        piece = self._data[self._at : end]
        self._at += len(piece)
        return piece

    def verify(self) -> None:
        """All of it was verified when it was fetched."""

    def close(self) -> None:
        self._data = b""
