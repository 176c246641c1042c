"""The log: the numbered list of segments, appended in one transaction with the end of their object."""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import sqlalchemy as sa

from eventferry import clock
from eventferry.ledger import tables as t

Holes = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class LogSegment:
    """A segment with its place in the log and the object version it lies in."""

    position: int
    source_id: int
    object_id: int
    key: str
    version: str
    object_digest: str
    start: int
    end: int
    first_line: int
    lines: int
    events: int
    time_min: int | None
    time_max: int | None
    digest: str
    flags: int
    holes: Holes
    appended_ms: int
    size: int = 0  # stored bytes of the object


class FoundSegment(Protocol):
    """What `append` needs of a found segment (see pipeline.scan.Segment)."""

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def events(self) -> int: ...
    @property
    def untimed(self) -> int: ...
    @property
    def first_line(self) -> int: ...
    @property
    def lines(self) -> int: ...
    @property
    def time_min(self) -> int | None: ...
    @property
    def time_max(self) -> int | None: ...
    @property
    def digest(self) -> str: ...
    @property
    def flags(self) -> int: ...
    @property
    def holes(self) -> Holes: ...


def pack_holes(holes: Holes) -> bytes | None:
    """Holes as pairs of little-endian int64; None where there are none."""
    return struct.pack(f"<{2 * len(holes)}q", *(edge for hole in holes for edge in hole)) if holes else None


def unpack_holes(packed: bytes | None) -> Holes:
    """The reverse of pack_holes."""
    return tuple((start, end) for start, end in struct.iter_unpack("<qq", packed)) if packed else ()


def head(tx: sa.Connection) -> int:
    """The last position of the log; 0 where it is empty."""
    return int(tx.execute(sa.select(sa.func.coalesce(sa.func.max(t.segments.c.position), 0))).scalar_one())


def append(tx: sa.Connection, source_id: int, found: Iterable[tuple[int, Iterable[FoundSegment]]]) -> None:
    """Append the segments of objects, given as (object id, segments), at the end of the log."""
    now = clock.now_ms()
    listed = [(object_id, segment) for object_id, segments in found for segment in segments]
    if not listed:
        return
    first = head(tx) + 1
    rows = [
        {
            "position": first + number,
            "source_id": source_id,
            "object_id": object_id,
            "start": segment.start,
            "end": segment.end,
            "first_line": segment.first_line,
            "lines": segment.lines,
            "events": segment.events,
            "untimed": segment.untimed,
            "time_min": segment.time_min,
            "time_max": segment.time_max,
            "digest": segment.digest,
            "flags": segment.flags,
            "holes": pack_holes(segment.holes),
            "appended_ms": now,
        }
        for number, (object_id, segment) in enumerate(listed)
    ]
    tx.execute(sa.insert(t.segments), rows)


_s, _o = t.segments.c, t.objects.c
_HOLES = list(LogSegment.__slots__).index("holes")
_SELECT = sa.select(
    _s.position, _s.source_id, _s.object_id, _o.key, _o.version, _o.digest.label("object_digest"),
    _s.start, _s.end, _s.first_line, _s.lines, _s.events,
    _s.time_min, _s.time_max, _s.digest, _s.flags, _s.holes, _s.appended_ms, _o.size,
).join_from(t.segments, t.objects, _s.object_id == _o.id)  # fmt: skip


def _read(row: Sequence[Any]) -> LogSegment:
    values = list(row)
    values[_HOLES] = unpack_holes(values[_HOLES])
    return LogSegment(*values)


def _rows(tx: sa.Connection, query: sa.Select[Any]) -> list[LogSegment]:
    return [_read(row) for row in tx.execute(query)]


def segments_after(tx: sa.Connection, source_id: int, position: int, byte: int, limit: int = 64) -> list[LogSegment]:
    """The next segments of a source after the place (position, byte); the first may be half planned."""
    query = (
        _SELECT.where(
            _s.source_id == source_id,
            _s.position >= position,
            (_s.position > position) | (_s.end > byte),
        )
        .order_by(_s.position)
        .limit(limit)
    )
    return _rows(tx, query)


def segments_between(tx: sa.Connection, source_id: int, first: int, last: int) -> list[LogSegment]:
    """The segments of a source from position `first` to `last`, both included."""
    query = _SELECT.where(_s.source_id == source_id, _s.position.between(first, last)).order_by(_s.position)
    return _rows(tx, query)


def last_of(tx: sa.Connection, source_id: int) -> int:
    """The last position of a source; 0 where it has none."""
    last = sa.select(sa.func.coalesce(sa.func.max(_s.position), 0)).where(_s.source_id == source_id)
    return int(tx.execute(last).scalar_one())


def first_since(tx: sa.Connection, source_id: int, after: int, since_ms: int, by_age: bool = False) -> int | None:
    """The first position behind `after` whose object is not before `since_ms`, by its key's date or by its age."""
    dated = _o.modified_ms if by_age else sa.func.coalesce(_o.dated_ms, _o.modified_ms)
    found = tx.execute(
        sa.select(_s.position)
        .join_from(t.segments, t.objects, _s.object_id == _o.id)
        .where(_s.source_id == source_id, _s.position > after, dated >= since_ms)
        .order_by(_s.position)
        .limit(1)
    ).scalar_one_or_none()
    return None if found is None else int(found)


def events_of(tx: sa.Connection, source_ids: Sequence[int]) -> int:
    """How many events the log holds of these sources."""
    total = sa.select(sa.func.coalesce(sa.func.sum(_s.events), 0)).where(_s.source_id.in_(list(source_ids)))
    return int(tx.execute(total).scalar_one())
