"""Reading segments back: one forward pass over each object, every range checked against its digest."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, Protocol, TypeVar

import xxhash

from eventferry.errors import ObjectChanged, ObjectReplaced, StoreError, UnreadableObject
from eventferry.store import Store
from eventferry.store.ahead import ReadAhead, Room
from eventferry.store.opening import StreamLimits, open_stream

SKIP_BYTES = 1024 * 1024
# What all deliveries of this process together may have fetched ahead. One that is held must not keep all of it.
ROOM = Room(8 * 1024 * 1024)
LOOK_AHEAD = 64  # segments


class Readable(Protocol):
    """What is read of a stream."""

    def read(self, size: int = -1, /) -> bytes: ...
    def close(self) -> None: ...


class ReadSource(Protocol):
    """What is read of a source: no configuration and no ledger, because worker processes read, too."""

    @property
    def limits(self) -> StreamLimits: ...
    @property
    def concatenated(self) -> bool: ...
    def open(self) -> Store: ...


class ReadSegment(Protocol):
    """What says where a segment lies."""

    @property
    def position(self) -> int: ...
    @property
    def object_id(self) -> int: ...
    @property
    def key(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def digest(self) -> str: ...


class FarSegment(ReadSegment, Protocol):
    """What says besides whether its object is worth fetching ahead."""

    @property
    def events(self) -> int: ...
    @property
    def size(self) -> int: ...


SegmentT = TypeVar("SegmentT", bound=ReadSegment)
FarT = TypeVar("FarT", bound=FarSegment)


class SegmentReader(Generic[SegmentT]):
    """Reads segments of one source; consecutive ones of an object come out of one open stream."""

    def __init__(
        self, source: ReadSource, newest: Callable[[SegmentT], str | None] = lambda _: None, reads: int = 1
    ) -> None:
        """`reads`: how many small objects `foresee` has fetched at once."""
        self._source = source
        self._reads = reads
        self._newest = newest
        self._ahead = ReadAhead(source.open, reads, ROOM, most=ROOM.size // 4)
        self._stream: Readable | None = None
        self._is_later = False  # the stream is of a later version than the segments'
        self._object_id = 0
        self._at = 0
        self._last: tuple[int, bytes] = (0, b"")

    def read(self, segment: SegmentT) -> bytes:
        """The raw bytes of the segment. Raises ObjectGone, ObjectChanged, StoreError."""
        if self._last[0] == segment.position:  # a batch ended inside it: the next one begins there
            return self._last[1]
        try:
            raw = self._read(segment)
        except UnreadableObject as error:  # it was readable when it was indexed: other bytes under the same version
            self.close()
            raise self._changed(segment, f"{error}; it was readable when it was indexed") from error
        except (StoreError, OSError) as error:
            self.close()
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"{segment.key}: {error}") from error
        if xxhash.xxh3_128_hexdigest(raw) != segment.digest:
            self.close()
            raise self._changed(segment, "its bytes differ from those that were indexed")
        self._last = (segment.position, raw)
        return raw

    def foresee(self: "SegmentReader[FarT]", segments: Iterable[FarT]) -> Iterator[FarT]:
        """The segments as they are, on their way to `read`; small objects of the next ones are fetched meanwhile."""
        if self._reads < 2:
            yield from segments
            return
        coming, window = iter(segments), deque[FarT]()
        window.extend(itertools.islice(coming, LOOK_AHEAD))
        self._ahead.forget(keep={(segment.key, segment.version) for segment in window})
        while window:
            for segment in window:
                is_open = self._stream is not None and self._object_id == segment.object_id
                if is_open or not segment.events:  # nothing is read of one without events
                    continue
                if not self._ahead.expect(segment.key, segment.version, segment.size):
                    break
            yield window.popleft()
            window.extend(itertools.islice(coming, LOOK_AHEAD - len(window)))

    def _changed(self, segment: SegmentT, what: str) -> ObjectChanged:
        return (ObjectReplaced if self._is_later else ObjectChanged)(f"{segment.key}: {what}")

    def _read(self, segment: SegmentT) -> bytes:
        if self._stream is None or self._object_id != segment.object_id or self._at > segment.start:
            self._reopen(segment)
        assert self._stream is not None
        while self._at < segment.start:
            skipped = len(self._stream.read(min(SKIP_BYTES, segment.start - self._at)))
            if not skipped:
                raise self._changed(segment, f"it ends at byte {self._at:,}, before byte {segment.start:,}")
            self._at += skipped
        raw = read_exactly(self._stream, segment.end - segment.start)
        self._at += len(raw)
        return raw

    def _reopen(self, segment: SegmentT) -> None:
        if self._stream is not None:
            self._stream.close()
        limits = self._source.limits
        self._is_later = False
        try:
            self._stream = self._open(segment, segment.version, limits)
        except ObjectChanged:
            # Touched, restored or appended to since: the segment's digest proves whether its bytes are still there.
            version = self._newest(segment)
            if version in (None, segment.version):
                raise
            self._stream = self._open(segment, version, limits)
            self._is_later = True
        self._object_id, self._at = segment.object_id, 0

    def _open(self, segment: SegmentT, version: str, limits: StreamLimits) -> Readable:
        return open_stream(self._ahead, segment.key, version, concatenated=self._source.concatenated, limits=limits)

    def close(self) -> None:
        """Let go of the stream and the store; the next read opens them again."""
        if self._stream is not None:
            self._stream.close()
        self._ahead.close()
        self._stream = None
        self._last = (0, b"")


def read_exactly(stream: Readable, size: int) -> bytes:
    """`size` bytes of the stream, fewer only at its end."""
    first = stream.read(size)
    if len(first) == size or not first:
        return first
    pieces = [first]
    missing = size - len(first)
    while missing and (piece := stream.read(missing)):
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)
