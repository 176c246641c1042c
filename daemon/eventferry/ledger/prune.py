"""Pruning: what is older than the retention and needed by nobody leaves the ledger."""

import sqlalchemy as sa

from eventferry import clock
from eventferry.ledger import Ledger, alerts
from eventferry.ledger import tables as t
from eventferry.ledger.batches import ENDED, OPEN

_s, _o, _b = t.segments.c, t.objects.c, t.batches.c


def prune(ledger: Ledger, before_ms: int) -> dict[str, int]:
    """Delete ended batches, delivered segments, their objects, old runs, messages and requests; counts per table.

    Nothing goes that an enabled sink, or one disabled for less than its limit, still needs. The floor of a source rises
    with the objects that go, so that their keys are not taken again.
    """
    with ledger.write() as tx:
        counts = {"segments": 0, "objects": 0}
        for source_id in tx.execute(sa.select(t.sources.c.id)).scalars().all():
            needed_from = _first_needed(tx, source_id)
            segments, objects = _prune_source(tx, source_id, before_ms, needed_from)
            counts["segments"] += segments
            counts["objects"] += objects
        counts["batches"] = _delete_batches(tx, before_ms)
        counts["runs"] = _delete(tx, t.runs, t.runs.c.started_ms < before_ms)
        counts["requests"] = _delete(tx, t.requests, t.requests.c.done_ms < before_ms)
        old_letters = t.dead_letters.c.state.in_(("delivered", "dropped")) & (t.dead_letters.c.created_ms < before_ms)
        counts["dead_letters"] = _delete(tx, t.dead_letters, old_letters)
        old_messages = sa.select(t.messages.c.id).where(t.messages.c.created_ms < before_ms)
        _delete(tx, t.sends, t.sends.c.message_id.in_(old_messages))
        counts["messages"] = _delete(tx, t.messages, t.messages.c.created_ms < before_ms)
        return counts


def _first_needed(tx: sa.Connection, source_id: int) -> int:
    """The first position of the source that some sink has not ended with; a huge number where none lacks anything."""
    needed = [1 << 62]
    for sink_id, position in tx.execute(
        sa.select(t.cursors.c.sink_id, t.cursors.c.position)
        .join_from(t.cursors, t.sinks, t.cursors.c.sink_id == t.sinks.c.id)
        .where(t.cursors.c.source_id == source_id, sa.not_(_is_expired()))
    ).all():
        needed.append(position)
        first = tx.execute(
            sa.select(sa.func.min(_b.from_position)).where(
                _b.sink_id == sink_id, _b.source_id == source_id, _b.state.in_(OPEN)
            )
        ).scalar_one()
        if first is not None:
            needed.append(first)
    return min(needed)


def _is_expired() -> sa.ColumnElement[bool]:
    """A sink switched off for longer than its limit no longer keeps what it lacks."""
    s = t.sinks.c
    return sa.and_(sa.not_(s.enabled), s.disabled_ms + s.pinned_ms < clock.now_ms())


def _note_gaps(tx: sa.Connection, source_id: int, up_to: int) -> None:
    """Sinks switched off for too long lose what goes now: a named gap, and their cursor moves past it."""
    c = t.cursors.c
    for sink_id, name, position, left in tx.execute(
        sa.select(t.sinks.c.id, t.sinks.c.name, c.position, c.left_events)
        .join_from(t.cursors, t.sinks, c.sink_id == t.sinks.c.id)
        .where(c.source_id == source_id, c.position < up_to, _is_expired())
    ).all():
        events = sa.select(sa.func.coalesce(sa.func.sum(_s.events), 0))
        lost = tx.execute(events.where(_s.source_id == source_id, _s.position > position, _s.position <= up_to))
        tx.execute(
            sa.update(t.cursors)
            .where(c.sink_id == sink_id, c.source_id == source_id)
            .values(position=up_to, byte=1 << 62, left_events=0, start_position=up_to)
        )
        tx.execute(
            sa.update(t.batches)
            .where(_b.sink_id == sink_id, _b.source_id == source_id, _b.state.in_(OPEN), _b.from_position <= up_to)
            .values(state="missing", finished_ms=clock.now_ms(), error="pruned: the sink was switched off for too long")
        )
        alerts.write_notice(
            tx,
            event="sink.gap",
            level="error",
            subject=f"Sink {name} was switched off for longer than pinned_for; events that it lacked are forgotten",
            detail=f"{int(lost.scalar_one()) + left:,} events up to position {up_to} of the log.",
            command=f"eventferry status --sink {name}",
            fields={"sink": name},
        )


def _prune_source(tx: sa.Connection, source_id: int, before_ms: int, needed_from: int) -> tuple[int, int]:
    kept = sa.select(_s.object_id).where(_s.source_id == source_id, _s.position >= needed_from)
    head = sa.select(sa.func.max(_s.position)).scalar_subquery()
    dated = sa.func.coalesce(_o.dated_ms, _o.modified_ms)
    old = tx.execute(
        sa.select(_o.id, dated).where(
            _o.source_id == source_id,
            _o.state.in_(("indexed", "unchanged", "gone", "dropped")),
            _o.finished_ms < before_ms,
            dated < before_ms,
            _o.id.not_in(kept),
        )
    ).all()
    if not old:
        return 0, 0
    ids = [row[0] for row in old]
    _note_gaps(tx, source_id, _last_position(tx, ids))
    removed = 0
    for start in range(0, len(ids), 500):
        page = ids[start : start + 500]
        # The last position stays, so that the log goes on counting where it was.
        removed += _delete(tx, t.segments, _s.object_id.in_(page) & (_s.position < head))
        _delete(tx, t.bad_lines, t.bad_lines.c.object_id.in_(page))
        _delete(tx, t.objects, _o.id.in_(page) & _o.id.not_in(sa.select(_s.object_id)))
    floor = max(row[1] for row in old) + 1
    tx.execute(
        sa.update(t.sources).where(t.sources.c.id == source_id, t.sources.c.floor_ms < floor).values(floor_ms=floor)
    )
    return removed, len(ids)


def _last_position(tx: sa.Connection, object_ids: list[int]) -> int:
    """The last position of any of these objects; 0 where they have none."""
    last = 0
    for start in range(0, len(object_ids), 500):
        page = sa.select(sa.func.max(_s.position)).where(_s.object_id.in_(object_ids[start : start + 500]))
        last = max(last, tx.execute(page).scalar_one() or 0)
    return last


def _delete_batches(tx: sa.Connection, before_ms: int) -> int:
    """Only batches whose segments are gone too: the books stay balanced over what is left."""
    first = sa.select(sa.func.coalesce(sa.func.min(_s.position), 0)).scalar_subquery()
    tx.execute(
        sa.update(t.cursors)
        .where(t.cursors.c.start_position < first - 1, t.cursors.c.position >= first - 1)
        .values(start_position=first - 1)
    )
    return _delete(tx, t.batches, _b.state.in_(ENDED) & (_b.finished_ms < before_ms) & (_b.to_position < first))


def _delete(tx: sa.Connection, table: sa.Table, where: sa.ColumnElement[bool]) -> int:
    return int(tx.execute(sa.delete(table).where(where)).rowcount)
