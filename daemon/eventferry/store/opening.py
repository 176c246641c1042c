"""Opens one object version as a stream of decompressed bytes that is checked to its end."""

import io
from dataclasses import dataclass
from typing import Any

from eventferry.errors import UnreadableObject
from eventferry.store.ahead import Opener
from eventferry.store.base import ObjectReader
from eventferry.store.compression import HEAD, Format, FramesReader, format_named, format_of
from eventferry.store.concatenated import SeparatedReader

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """How far an object may expand before it is taken for a bomb."""

    max_bytes: int | None = None  # decompressed bytes; None: unlimited
    max_ratio: int = 1000  # decompressed bytes per stored byte, looked at
    ratio_after: int = 64 * MIB  # ... beyond this many decompressed bytes


_UNLIMITED = StreamLimits()


def open_stream(
    store: Opener, key: str, version: str, *, concatenated: bool = False, limits: StreamLimits = _UNLIMITED
) -> "ObjectStream | SeparatedReader":
    """The decompressed bytes of an object: gzip, zstd, bzip2, xz by their first bytes, else as stored.

    Reads of 128 KiB are fastest. Raises UnreadableObject (at open, or at the read that meets the fault, after all
    bytes before it were handed out), ObjectGone, ObjectChanged, StoreError.
    """
    stored = _Counted(store.open(key, version))
    try:
        kind = _recognise(stored.peek(), key)
        stream = ObjectStream(stored, kind, limits)
    except BaseException:
        stored.close()
        raise
    return SeparatedReader(stream) if concatenated else stream


class ObjectStream(io.RawIOBase):
    """Decompressed bytes, counted and bounded."""

    def __init__(self, stored: "_Counted", kind: Format | None, limits: StreamLimits) -> None:
        self._stored = stored
        self._decoded: Any = FramesReader(stored, kind) if kind else stored
        self._limits = limits
        self._compressed = kind is not None
        self.offset = 0  # decompressed bytes handed out

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        """`size` bytes, fewer only before the end or a fault, b"" at the verified end."""
        if size < 0:
            return self.readall()
        try:
            data: bytes = self._decoded.read(size)
        except UnreadableObject:
            self.verify()  # a file that is being rewritten is not corrupt
            raise
        self.offset += len(data)
        self._refuse_bombs()
        return data

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def verify(self) -> None:
        """Raise ObjectChanged where the bytes read so far may be of another version; reading to the end includes it."""
        self._stored.verify()

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._stored.close()

    def _refuse_bombs(self) -> None:
        limits = self._limits
        if limits.max_bytes is not None and self.offset > limits.max_bytes:
            raise UnreadableObject(f"expands beyond the {limits.max_bytes} bytes allowed for one object", self.offset)
        if not self._compressed or self.offset <= limits.ratio_after:
            return
        if self.offset > limits.max_ratio * self._stored.count:
            raise UnreadableObject(
                f"expands to more than {limits.max_ratio} times its stored size (seen so far: {self.offset} bytes "
                f"from {self._stored.count})",
                self.offset,
            )


class _Counted:
    """Stored bytes with a look at the first ones, and how many were read."""

    def __init__(self, reader: ObjectReader) -> None:
        self._reader = reader
        self._head = b""
        self.count = 0

    def peek(self) -> bytes:
        while len(self._head) < HEAD:
            data = self._reader.read(HEAD - len(self._head))
            if not data:
                break
            self._head += data
        return self._head

    def read(self, size: int, /) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            if len(data) < size:
                data += self._reader.read(size - len(data))
        else:
            data = self._reader.read(size)
        self.count += len(data)
        return data

    def verify(self) -> None:
        self._reader.verify()

    def close(self) -> None:
        self._reader.close()


def _recognise(head: bytes, key: str) -> Format | None:
    kind = format_of(head)
    promised = format_named(key)
    if kind or promised is None:
        return kind
    if not head:
        raise UnreadableObject("empty file where a compressed one was expected")
    if promised.is_cut_start(head):
        raise UnreadableObject(f"truncated: the object ends inside a {promised.name} stream")
    return None
