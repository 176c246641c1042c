"""The books: what came in, and what became of it at each sink; both sides must balance."""

from dataclasses import dataclass

import sqlalchemy as sa

from eventferry.ledger import tables as t
from eventferry.ledger.batches import OPEN

_b, _s, _o, _c = t.batches.c, t.segments.c, t.objects.c, t.cursors.c


@dataclass(frozen=True, slots=True)
class SourceBooks:
    """What a source brought in, over all versions whose content is in the log."""

    source: str
    files: int
    lines: int
    events: int
    bad: int
    blank: int
    untimed: int
    bytes: int
    states: dict[str, int]  # object state → count

    @property
    def balance(self) -> bool:
        return self.lines == self.events + self.bad + self.blank


@dataclass(frozen=True, slots=True)
class SinkBooks:
    """What became of a source's events at a sink, since the sink's start."""

    sink: str
    source: str
    indexed: int
    delivered: int
    filtered: int
    dead: int
    missing: int
    open: int  # planned, without an end
    unplanned: int  # behind the cursor

    @property
    def waiting(self) -> int:
        return self.open + self.unplanned

    @property
    def balance(self) -> bool:
        return self.indexed == self.delivered + self.filtered + self.dead + self.missing + self.waiting


@dataclass(frozen=True, slots=True)
class DeadParts:
    """What became of the events that a sink's books count as dead, in events."""

    waiting: int
    retrying: int
    retried: int  # delivered by a retry
    dropped: int
    forgotten: int  # ended so long ago that only the books know of them

    @property
    def total(self) -> int:
        return self.waiting + self.retrying + self.retried + self.dropped + self.forgotten


def source_books(tx: sa.Connection) -> list[SourceBooks]:
    """The books of every source."""
    names = ("lines", "events", "bad", "blank", "untimed")
    sums = [sa.func.coalesce(sa.func.sum(_o[name]), 0) for name in names]
    size = sa.func.coalesce(sa.func.sum(_o.bytes - _o.base), 0)
    found = []
    for source_id, name in tx.execute(sa.select(t.sources.c.id, t.sources.c.name).order_by(t.sources.c.id)).all():
        row = tx.execute(
            sa.select(sa.func.count(), *sums, size).where(_o.source_id == source_id, _o.state == "indexed")
        ).one()
        counted = sa.select(_o.state, sa.func.count()).where(_o.source_id == source_id).group_by(_o.state)
        states = {str(state): int(count) for state, count in tx.execute(counted)}
        files, lines, events, bad, blank, untimed, held = (int(value) for value in row)
        found.append(SourceBooks(name, files, lines, events, bad, blank, untimed, held, states))
    return found


def sink_books(tx: sa.Connection) -> list[SinkBooks]:
    """The books of every sink and source that it takes."""
    pairs = tx.execute(
        sa.select(
            t.sinks.c.id, t.sinks.c.name, t.sources.c.id, t.sources.c.name,
            _c.start_position, _c.position, _c.left_events, _c.pruned_events,
        )
        .join_from(t.cursors, t.sinks, _c.sink_id == t.sinks.c.id)
        .join(t.sources, _c.source_id == t.sources.c.id)
        .order_by(t.sinks.c.id, t.sources.c.id)
    ).all()  # fmt: skip
    return [_sink_books(tx, *pair) for pair in pairs]


def _sink_books(
    tx: sa.Connection,
    sink_id: int,
    sink: str,
    source_id: int,
    source: str,
    start: int,
    position: int,
    left: int,
    pruned: int,
) -> SinkBooks:
    events = sa.func.coalesce(sa.func.sum(_s.events), 0)
    indexed = tx.execute(sa.select(events).where(_s.source_id == source_id, _s.position > start)).scalar_one()
    behind = tx.execute(sa.select(events).where(_s.source_id == source_id, _s.position > position)).scalar_one()
    total = sa.func.coalesce
    row = tx.execute(
        sa.select(
            total(sa.func.sum(sa.case((_b.state == "delivered", _b.events - _b.dead_events), else_=0)), 0),
            total(sa.func.sum(sa.case((_b.state.in_(OPEN), 0), else_=_b.read_events - _b.events)), 0),
            total(sa.func.sum(sa.case((_b.state.in_(("delivered", "dead")), _b.dead_events), else_=0)), 0),
            total(sa.func.sum(sa.case((_b.state == "missing", _b.events), else_=0)), 0),
            total(sa.func.sum(sa.case((_b.state.in_(OPEN), _b.read_events), else_=0)), 0),
        ).where(
            _b.sink_id == sink_id,
            _b.source_id == source_id,
            _b.state != "split",
            _b.replay_id.is_(None),
            _b.to_position > start,
        )
    ).one()
    delivered, filtered, dead, missing, open_ = (int(value) for value in row)
    unplanned = int(behind) + left
    return SinkBooks(sink, source, int(indexed) - pruned, delivered, filtered, dead, missing, open_, unplanned)


def dead_parts(tx: sa.Connection) -> dict[str, DeadParts]:
    """Sink → what became of its dead letters; replays and vanished files are left out."""
    dead: dict[str, int] = {}
    for each in sink_books(tx):
        dead[each.sink] = dead.get(each.sink, 0) + each.dead
    d = t.dead_letters.c
    # Letters are written with the end of their batch: older ones are of an end that a replay has undone.
    counted = (_b.state.in_(("delivered", "dead")) & _b.replay_id.is_(None) & (_b.to_position > _c.start_position)) & (
        d.created_ms >= _b.finished_ms
    )
    rows = tx.execute(
        sa.select(t.sinks.c.name, d.state, sa.func.sum(d.events))
        .join_from(t.dead_letters, t.batches, d.batch_seq == _b.seq)
        .join(t.sinks, d.sink_id == t.sinks.c.id)
        .join(t.cursors, (_c.sink_id == _b.sink_id) & (_c.source_id == _b.source_id))
        .where(counted)
        .group_by(t.sinks.c.name, d.state)
    )
    kept: dict[str, dict[str, int]] = {name: {} for name in dead}
    for name, state, events in rows:
        kept[name][state] = int(events)
    return {name: _dead_parts(total, kept[name]) for name, total in dead.items()}


def _dead_parts(total: int, kept: dict[str, int]) -> DeadParts:
    waiting, retrying, retried, dropped = (
        kept.get(state, 0) for state in ("waiting", "retrying", "delivered", "dropped")
    )
    forgotten = total - waiting - retrying - retried - dropped
    return DeadParts(waiting, retrying, retried, dropped, max(0, forgotten))


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a sink still lacks of a source."""

    sink: str
    source: str
    events: int
    bytes: int
    since_ms: int | None  # when the oldest file that it lacks was seen; None where it lacks nothing


def backlogs(tx: sa.Connection) -> list[Backlog]:
    """The backlog of every sink and source."""
    rows = tx.execute(
        sa.select(t.sinks.c.id, t.sinks.c.name, t.sources.c.id, t.sources.c.name, _c.position, _c.left_events)
        .join_from(t.cursors, t.sinks, _c.sink_id == t.sinks.c.id)
        .join(t.sources, _c.source_id == t.sources.c.id)
        .order_by(t.sinks.c.id, t.sources.c.id)
    ).all()
    return [_backlog(tx, *row) for row in rows]


def _backlog(
    tx: sa.Connection, sink_id: int, sink: str, source_id: int, source: str, position: int, left: int
) -> Backlog:
    open_ = (_b.sink_id == sink_id) & (_b.source_id == source_id) & _b.state.in_(OPEN)
    first, events, size = tx.execute(
        sa.select(
            sa.func.min(_b.from_position),
            sa.func.coalesce(sa.func.sum(_b.read_events), 0),
            sa.func.coalesce(sa.func.sum(_b.body_bytes), 0),
        ).where(open_)
    ).one()
    more, more_bytes, next_position = tx.execute(
        sa.select(
            sa.func.coalesce(sa.func.sum(_s.events), 0),
            sa.func.coalesce(sa.func.sum(_s.end - _s.start), 0),
            sa.func.min(_s.position),
        ).where(_s.source_id == source_id, _s.position > position)
    ).one()
    if left:
        next_position = position
    oldest = min((each for each in (first, next_position) if each is not None), default=None)
    since = None
    if oldest is not None:
        since = tx.execute(
            sa.select(_o.seen_ms).join_from(t.segments, t.objects, _s.object_id == _o.id).where(_s.position == oldest)
        ).scalar_one_or_none()
    return Backlog(sink, source, int(events) + int(more) + left, int(size) + int(more_bytes), since)


def indexed_since(tx: sa.Connection, since_ms: int) -> tuple[int, int]:
    """(files, events) indexed since then."""
    row = tx.execute(
        sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(_o.events), 0)).where(
            _o.state == "indexed", _o.finished_ms >= since_ms
        )
    ).one()
    return int(row[0]), int(row[1])


def delivered_since(tx: sa.Connection, since_ms: int) -> dict[str, int]:
    """Sink → events delivered since then."""
    rows = tx.execute(
        sa.select(t.sinks.c.name, sa.func.sum(_b.events - _b.dead_events))
        .join_from(t.batches, t.sinks, _b.sink_id == t.sinks.c.id)
        .where(_b.state == "delivered", _b.finished_ms >= since_ms)
        .group_by(t.sinks.c.name)
    )
    return {name: int(count) for name, count in rows}
