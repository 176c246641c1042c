"""What a batch is made of: cut from the log, rebuilt for a retry, halved for a refusal. Pure, but for `read`."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import xxhash

from eventferry.errors import StoreError
from eventferry.ledger.batches import Place
from eventferry.ledger.log import LogSegment
from eventferry.pipeline.cut import count_events, cut, line_of, newline_after, offset_after
from eventferry.pipeline.frame import event_ranges, frame
from eventferry.query.transform import Transform
from eventferry.sink import Part

Read = Callable[[LogSegment], bytes]


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a batch may be: the body after the transform, and the scan before it."""

    max_events: int
    max_bytes: int
    max_read: int


@dataclass(frozen=True)
class Piece:
    """A range of one segment that belongs to a batch."""

    segment: LogSegment
    start: int
    end: int
    raw: bytes
    first_line: int
    read_events: int
    kept: Sequence[int] | None  # positions of the events that the filter let pass; None: all
    body: bytes

    @property
    def events(self) -> int:
        """Events that are sent."""
        return self.read_events if self.kept is None else len(self.kept)

    def original(self, position: int) -> int:
        """The position among the events read of the event at `position` among those sent."""
        return position if self.kept is None else self.kept[position]

    def offset_past(self, events: int) -> int:
        """The byte of the object just past the first `events` sent events."""
        if events == 0:
            return self.start
        return offset_after(self.raw, self.start, self.segment.holes, self.original(events - 1) + 1)

    def events_before(self, byte: int) -> int:
        """How many sent events begin before that byte of the object."""
        if byte <= self.start or byte >= self.end or not self.events:
            return 0 if byte <= self.start else self.events
        read = count_events(self.raw[: byte - self.start], self.start, self.segment.holes)
        return read if self.kept is None else bisect_left(self.kept, read)

    def starts(self) -> list[int]:
        """The bytes of the object at which the sent events begin."""
        found: list[int] = []
        for low, high in event_ranges(self.start, self.start + len(self.raw), self.segment.holes):
            lines = self.raw[low - self.start : high - self.start].split(b"\n")
            ends = accumulate((len(line) + 1 for line in (lines if lines[-1] else lines[:-1])), initial=low)
            found += list(ends)[:-1]
        return found if self.kept is None else [found[each] for each in self.kept]

    def line(self, position: int) -> int:
        """The line number in the file of the sent event at `position`."""
        return line_of(self.raw, self.start, self.first_line, self.segment.holes, self.original(position))

    def between(self, first: int, last: int) -> "Piece":
        """The piece that holds the sent events first…last-1; ranges of halves meet without a gap."""
        start = self.offset_past(first)
        end = self.end if last == self.events else self.offset_past(last)
        read_from = 0 if first == 0 else self.original(first - 1) + 1
        read_to = self.read_events if last == self.events else self.original(last - 1) + 1
        low = newline_after(self.body, 0, first) if first else 0
        high = newline_after(self.body, low, last - first)
        kept = None if self.kept is None else [each - read_from for each in self.kept[first:last]]
        raw = self.raw[start - self.start : end - self.start]
        first_line = self.first_line + self.raw.count(b"\n", 0, start - self.start)
        return Piece(self.segment, start, end, raw, first_line, read_to - read_from, kept, self.body[low:high])


@dataclass(frozen=True)
class Material:
    """The pieces of a batch, in order; at least one."""

    pieces: tuple[Piece, ...]
    transform: str  # fingerprint
    selection: str = ""  # fingerprint of its filter

    @cached_property
    def body(self) -> bytes:
        """What is sent: NDJSON after the transform."""
        return self.pieces[0].body if len(self.pieces) == 1 else b"".join(piece.body for piece in self.pieces)

    @cached_property
    def digest(self) -> str:
        """xxh3-128 of the body."""
        return xxhash.xxh3_128_hexdigest(self.body)

    @property
    def events(self) -> int:
        return sum(piece.events for piece in self.pieces)

    @property
    def read_events(self) -> int:
        return sum(piece.read_events for piece in self.pieces)

    @property
    def start(self) -> Place:
        return self.pieces[0].segment.position, self.pieces[0].start

    @property
    def end(self) -> Place:
        return self.pieces[-1].segment.position, self.pieces[-1].end

    def left_events(self, left_before: int) -> int:
        """Events of the last segment that the next batch gets; `left_before` is what the cursor said of the first."""
        last = self.pieces[-1]
        if last.end == last.segment.end:
            return 0
        there = last.segment.events if last.start == last.segment.start else left_before
        return there - last.read_events

    def parts(self, source: str) -> tuple[Part, ...]:
        """The ranges that identify the events; `source` is the source's identity."""
        return tuple(
            Part(source, piece.segment.key, piece.segment.object_digest, piece.start, piece.end, piece.read_events)
            for piece in self.pieces
        )

    def ledger_parts(self) -> tuple[tuple[int, int, int, int], ...]:
        """The same for the ledger: (object id, start, end, events)."""
        return tuple((piece.segment.object_id, piece.start, piece.end, piece.read_events) for piece in self.pieces)

    def times(self) -> tuple[int | None, int | None]:
        """Smallest and largest event time of the segments touched, epoch ms."""
        low = [piece.segment.time_min for piece in self.pieces if piece.segment.time_min is not None]
        high = [piece.segment.time_max for piece in self.pieces if piece.segment.time_max is not None]
        return min(low, default=None), max(high, default=None)

    def place(self, position: int) -> str:
        """Where the event at `position` comes from, as key:line."""
        for piece in self.pieces:
            if position < piece.events:
                return f"{piece.segment.key}:{piece.line(position)}"
            position -= piece.events
        raise IndexError(position)

    @cached_property
    def _firsts(self) -> list[int]:
        return list(accumulate((piece.events for piece in self.pieces), initial=0))

    def position(self, piece: int, byte: int) -> int:
        """The position in the batch of the first sent event of a piece that begins at `byte` or after it."""
        return self._firsts[piece] + self.pieces[piece].events_before(byte)

    def starts(self) -> list[list[int]]:
        """For each piece the bytes of its object at which its sent events begin."""
        return [piece.starts() for piece in self.pieces]

    def halves(self) -> tuple["Material", "Material"]:
        """The batch in two; every event of the interval is in exactly one. Needs at least two events."""
        left: list[Piece] = []
        right: list[Piece] = []
        room = self.events // 2
        for piece in self.pieces:
            if not right and piece.events <= room:
                left.append(piece)
                room -= piece.events
            elif not right and room:
                left.append(piece.between(0, room))
                right.append(piece.between(room, piece.events))
            else:
                right.append(piece)
        return replace(self, pieces=tuple(left)), replace(self, pieces=tuple(right))


@dataclass(frozen=True, slots=True)
class Waiting:
    """What lies behind a cursor."""

    oldest_ms: int | None  # when its oldest segment was appended; None where there is nothing
    is_full: bool  # enough for a batch


def weigh(segments: Iterable[LogSegment], limits: Limits) -> Waiting:
    """Whether the segments after a cursor are enough for a batch; looks no further than that."""
    events = size = 0
    oldest: int | None = None
    for segment in segments:
        oldest = segment.appended_ms if oldest is None else oldest
        events, size = events + segment.events, size + segment.end - segment.start
        if events >= limits.max_events or size >= limits.max_bytes:
            return Waiting(oldest, True)
    return Waiting(oldest, False)


def gather(
    segments: Iterable[LogSegment], read: Read, after: Place, transform: Transform, limits: Limits
) -> Material | None:
    """Cut the next batch from the segments after a cursor; None where there are none.

    A segment that cannot be read ends the batch before it; as the first one it raises what reading raises.
    """
    pieces: list[Piece] = []
    events = size = scanned = 0
    for segment in segments:
        start = max(segment.start, after[1]) if segment.position == after[0] else segment.start
        try:
            offered = _piece(segment, read, start, segment.end, transform)
        except StoreError:
            if not pieces:
                raise
            break
        piece, is_whole = _fit(offered, limits.max_events - events, limits.max_bytes - size, is_first=events == 0)
        if piece is None:
            break
        pieces.append(piece)
        events, size, scanned = events + piece.events, size + len(piece.body), scanned + piece.end - piece.start
        if not is_whole or events >= limits.max_events or size >= limits.max_bytes or scanned >= limits.max_read:
            break
    return Material(tuple(pieces), transform.fingerprint(), transform.selection()) if pieces else None


def rebuild(segments: Iterable[LogSegment], read: Read, start: Place, end: Place, transform: Transform) -> Material:
    """The material of a batch that was written down before: the same interval gives the same bytes."""
    pieces = []
    for segment in segments:
        low = start[1] if segment.position == start[0] else segment.start
        high = end[1] if segment.position == end[0] else segment.end
        pieces.append(_piece(segment, read, low, high, transform))
    return Material(tuple(pieces), transform.fingerprint(), transform.selection())


def _piece(segment: LogSegment, read: Read, start: int, end: int, transform: Transform) -> Piece:
    if segment.events == 0:  # bad and blank lines only, one of them perhaps gigabytes long: nothing to read
        return Piece(segment, start, end, b"", segment.first_line, 0, None, b"")
    raw = read(segment)
    is_whole = (start, end) == (segment.start, segment.end)
    part = raw if is_whole else raw[start - segment.start : end - segment.start]
    first_line = segment.first_line + (raw.count(b"\n", 0, start - segment.start) if start > segment.start else 0)
    events = segment.events if is_whole else count_events(part, start, segment.holes)
    body, kept = frame(part, start, segment.flags, segment.holes), None
    if not transform.is_identity:
        body, kept = transform.apply(body)
    if kept == []:  # all of it is filtered out: its bytes need not stay in memory until the batch is full
        part = b""
    return Piece(segment, start, end, part, first_line, events, kept, body)


def _fit(piece: Piece, room_events: int, room_bytes: int, *, is_first: bool) -> tuple[Piece | None, bool]:
    """The part of the piece that fits, and whether that is all of it; None where nothing does."""
    if not piece.body or (piece.events <= room_events and len(piece.body) <= room_bytes):
        return piece, True
    end, events = cut(piece.body, room_events, max(room_bytes, 0), piece.events)
    if end > room_bytes and not is_first:
        return None, False
    return (piece, True) if events == piece.events else (piece.between(0, events), False)
