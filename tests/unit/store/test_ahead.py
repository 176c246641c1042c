"""Reading ahead: the bytes and errors of the store itself, many at once, never more than there is room for."""

import threading
from collections.abc import Iterator

import pytest

from eventferry.errors import ObjectChanged
from eventferry.store import StoreObject
from eventferry.store import ahead as ahead_module
from eventferry.store.ahead import SMALL_BYTES, ReadAhead, Room

SECONDS = 20


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.closed = False

    def read(self, size: int = -1, /) -> bytes:
        piece, self.data = self.data[:size], self.data[size:]
        return piece

    def verify(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


class _Shelf:
    """A store whose objects are opened only when all of `together` ask at once."""

    root = "shelf://"
    list_calls = skipped_names = 0

    def __init__(self, together: int = 1) -> None:
        self.gate = threading.Barrier(together) if together > 1 else None
        self.opened: list[str] = []
        self.closes = 0

    def list(self, start_after: str | None = None, prefix: str = "") -> Iterator[StoreObject]:
        return iter(())

    def open(self, key: str, version: str) -> _Reader:
        self.opened.append(key)
        if self.gate is not None:
            self.gate.wait(SECONDS)
        if version == "old":
            raise ObjectChanged(f"{key}: changed since it was listed")
        return _Reader(f"bytes of {key}".encode())

    def check(self) -> tuple[str, ...]:
        return ()

    def close(self) -> None:
        self.closes += 1


def _read(ahead: ReadAhead, key: str, version: str = "1") -> bytes:
    reader = ahead.open(key, version)
    try:
        return b"".join(iter(lambda: reader.read(4), b""))
    finally:
        reader.close()


def test_objects_are_fetched_at_the_same_time_and_read_in_order() -> None:
    """Sixteen requests are under way together, which none of them would survive alone."""
    shelf = _Shelf(together=16)
    with ReadAhead(lambda: shelf, 16, Room(10_000)) as ahead:
        keys = [f"k{number}" for number in range(16)]
        assert all(ahead.expect(key, "1", 100) for key in keys)
        assert [_read(ahead, key) for key in keys] == [f"bytes of {key}".encode() for key in keys]


def test_what_goes_wrong_is_raised_by_the_open_that_it_belongs_to() -> None:
    """An object that changed says so when it is its turn, and the ones around it are read."""
    with ReadAhead(_Shelf, 4, Room(1000)) as ahead:
        for key, version in (("a", "1"), ("b", "old"), ("c", "1")):
            ahead.expect(key, version, 10)
        assert _read(ahead, "a") == b"bytes of a"
        with pytest.raises(ObjectChanged, match="b: changed"):
            ahead.open("b", "old")
        assert _read(ahead, "c") == b"bytes of c"


def test_a_store_that_cannot_be_opened_says_so_at_each_object() -> None:
    """No thread dies of it, and nobody waits for ever."""

    def refuse() -> _Shelf:
        raise ObjectChanged("no")

    with ReadAhead(refuse, 2, Room(1000)) as ahead:
        for key in "abc":
            ahead.expect(key, "1", 10)
        for key in "abc":
            with pytest.raises(ObjectChanged):
                ahead.open(key, "1")


def test_room_is_never_exceeded_and_given_back() -> None:
    """What does not fit is refused until something was read; large objects and strangers are opened directly."""
    room, shelf = Room(250), _Shelf()
    with ReadAhead(lambda: shelf, 16, room) as ahead:
        assert [ahead.expect(key, "1", 100) for key in "abc"] == [True, True, False]
        assert _read(ahead, "a") == b"bytes of a"
        assert ahead.expect("c", "1", 100)
        assert ahead.expect("huge", "1", SMALL_BYTES + 1)
        assert "huge" not in shelf.opened
        assert _read(ahead, "huge") == b"bytes of huge"
    assert room.take(250)


def test_one_of_many_takes_its_share_only() -> None:
    """A delivery that stands still leaves room for the others."""
    room = Room(400)
    held, other = ReadAhead(_Shelf, 16, room, most=200), ReadAhead(_Shelf, 16, room, most=200)
    assert [held.expect(key, "1", 100) for key in "abc"] == [True, True, False]
    assert [other.expect(key, "1", 100) for key in "abc"] == [True, True, False]
    held.close()
    other.close()
    assert room.take(400)


def test_what_is_forgotten_can_be_read_again() -> None:
    """Forgetting keeps what is named, gives back the rest, and the next open asks the store."""
    room, shelf = Room(300), _Shelf()
    with ReadAhead(lambda: shelf, 2, room) as ahead:
        for key in "abc":
            ahead.expect(key, "1", 100)
        ahead.forget(keep={("b", "1")})
        assert room.take(200)
        assert [_read(ahead, key) for key in "abc"] == [b"bytes of a", b"bytes of b", b"bytes of c"]


def test_where_no_thread_can_be_had_objects_are_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a process that has its fill of threads nor a system that gives none stops reading."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    room, shelf = Room(1000), _Shelf()
    with ReadAhead(lambda: shelf, 4, room) as ahead:
        with monkeypatch.context() as patch:
            patch.setattr(ahead_module, "SEATS", threading.BoundedSemaphore(1))
            ahead_module.SEATS.acquire()
            assert not ahead.expect("a", "1", 10)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            assert not ahead.expect("a", "1", 10)
        assert _read(ahead, "a") == b"bytes of a"
    assert room.take(1000)
