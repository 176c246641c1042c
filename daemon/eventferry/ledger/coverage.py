"""Which segments of the log a read of events covers: pages of them, and what became of their objects since."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from eventferry.ledger import tables as t
from eventferry.ledger.log import Holes, unpack_holes

PAGE = 2000  # fewer than SQLite takes parameters

_s, _o = t.segments.c, t.objects.c


@dataclass(frozen=True, slots=True)
class CoveredSegment:
    """A segment of the log with what decides whether and how it is read."""

    position: int
    source_id: int
    object_id: int
    key: str
    key_hash: str
    version: str
    start: int
    end: int
    first_line: int
    events: int
    untimed: int
    time_min: int | None
    time_max: int | None
    digest: str
    flags: int
    holes: Holes


@dataclass(frozen=True, slots=True)
class KeyVersion:
    """A version of a key, and where the log holds what came with it."""

    object_id: int
    version: str
    is_new_content: bool  # indexed, and not only more of the version before
    first_position: int | None  # None: nothing of it is in the log
    taken_ms: int | None  # when it was indexed; None: it was not yet


_SELECT = sa.select(
    _s.position, _s.source_id, _s.object_id, _o.key, _o.key_hash, _o.version, _s.start, _s.end, _s.first_line,
    _s.events, _s.untimed, _s.time_min, _s.time_max, _s.digest, _s.flags, _s.holes,
).join_from(t.segments, t.objects, _s.object_id == _o.id)  # fmt: skip


def covered(
    tx: sa.Connection,
    source_ids: Sequence[int],
    after: int,
    as_of: int,
    start_ms: int | None,
    end_ms: int | None,
    limit: int = PAGE,
) -> list[CoveredSegment]:
    """The next segments of the sources with after < position <= as_of that may hold events of the range.

    With a range (start inclusive, end exclusive, epoch ms) those without any timed event are left out.
    """
    # Of several sources the rows are read in the log's order, which their index does not have: else SQLite would sort
    # all that is left of the log for every page.
    source_id = _s.source_id if len(source_ids) == 1 else _s.source_id + 0
    where = [source_id.in_(list(source_ids)), _s.position > after, _s.position <= as_of, _s.events > 0]
    if start_ms is not None or end_ms is not None:
        where.append(_s.time_min.is_not(None))
    if end_ms is not None:
        where.append(_s.time_min < end_ms)
    if start_ms is not None:
        where.append(_s.time_max >= start_ms)
    rows = tx.execute(_SELECT.where(*where).order_by(_s.position).limit(limit))
    return [_read(list(row)) for row in rows]


def _read(values: list[Any]) -> CoveredSegment:
    values[-1] = unpack_holes(values[-1])
    return CoveredSegment(*values)


def versions_of(tx: sa.Connection, source_id: int, key_hashes: Sequence[str]) -> dict[str, list[KeyVersion]]:
    """Every version of these keys that was seen, by key hash, the oldest first."""
    first = sa.select(sa.func.min(_s.position)).where(_s.object_id == _o.id).scalar_subquery()
    is_new = (_o.state == "indexed") & (_o.base == 0)
    rows = tx.execute(
        sa.select(_o.key_hash, _o.id, _o.version, is_new, first, _o.finished_ms)
        .where(_o.source_id == source_id, _o.key_hash.in_(list(key_hashes)))
        .order_by(_o.id)
    )
    found: dict[str, list[KeyVersion]] = {}
    for key_hash, object_id, version, is_new_content, *when in rows:
        found.setdefault(key_hash, []).append(KeyVersion(object_id, version, bool(is_new_content), *when))
    return found
