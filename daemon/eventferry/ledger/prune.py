"""Pruning: what is older than the retention and needed by nobody leaves the ledger."""

import sqlalchemy as sa

from eventferry import clock
from eventferry.ledger import Ledger, alerts, log
from eventferry.ledger import tables as t
from eventferry.ledger.batches import ENDED, OPEN

_s, _o, _b = t.segments.c, t.objects.c, t.batches.c


def prune(ledger: Ledger, before_ms: int) -> dict[str, int]:
    """Delete ended batches, delivered segments, their objects, old runs, messages and requests; counts per table.

    Nothing goes that an enabled sink, or one disabled for less than its limit, still needs. The floor of a source rises
    with the objects that go, so that their keys are not taken again.
    """
    with ledger.write() as tx:
        counts = {"segments": 0, "objects": 0, "batches": 0}
        for source_id in tx.execute(sa.select(t.sources.c.id)).scalars().all():
            for table, count in _prune_source(tx, source_id, before_ms).items():
                counts[table] += count
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
        behind = events.where(_s.source_id == source_id, _s.position > position, _s.position <= up_to)
        lost = int(tx.execute(behind).scalar_one()) + left
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
        if not lost:
            continue
        alerts.write_notice(
            tx,
            event="sink.gap",
            level="error",
            subject=f"Sink {name} was switched off for longer than pinned_for; events that it lacked are forgotten",
            detail=f"{lost:,} events up to position {up_to} of the log.",
            command=f"eventferry status --sink {name}",
            fields={"sink": name},
        )


def _prune_source(tx: sa.Connection, source_id: int, before_ms: int) -> dict[str, int]:
    keep_from = _keep_from(tx, source_id, before_ms)
    _note_gaps(tx, source_id, keep_from - 1)
    # The last position stays, so that the log goes on counting where it was.
    below = (_s.source_id == source_id) & (_s.position < keep_from) & (_s.position < log.head(tx))
    counts = {"segments": _delete(tx, t.segments, below)}
    old = sa.select(_o.id).where(
        _o.source_id == source_id,
        _o.state.in_(("indexed", "unchanged", "gone", "dropped")),
        sa.not_(_is_young(before_ms)),
        sa.not_(sa.exists().where(_s.object_id == _o.id)),
    )
    _raise_floor(tx, source_id, old)
    _delete(tx, t.bad_lines, t.bad_lines.c.object_id.in_(old))
    counts["objects"] = _delete(tx, t.objects, _o.id.in_(old))
    # Batches go with their segments, and cursors forget both: the books balance over what is left.
    ended = (_b.source_id == source_id) & _b.state.in_(ENDED) & (_b.to_position < keep_from)
    counts["batches"] = _delete(tx, t.batches, ended)
    c = t.cursors.c
    tx.execute(
        sa.update(t.cursors)
        .where(c.source_id == source_id, c.start_position < keep_from - 1, c.position >= keep_from - 1)
        .values(start_position=keep_from - 1)
    )
    return counts


def _keep_from(tx: sa.Connection, source_id: int, before_ms: int) -> int:
    """The first position that stays: needed or young, and not in the middle of an object or of a batch."""
    young = sa.select(sa.func.min(_s.position)).join_from(t.segments, t.objects, _s.object_id == _o.id)
    first = tx.execute(young.where(_s.source_id == source_id, _is_young(before_ms))).scalar_one()
    keep = min(each for each in (_first_needed(tx, source_id), first, log.head(tx) + 1) if each is not None)
    while True:
        inside = sa.select(_s.object_id).where(_s.source_id == source_id, _s.position >= keep).order_by(_s.position)
        of_object = tx.execute(
            sa.select(sa.func.min(_s.position)).where(_s.object_id == inside.limit(1).scalar_subquery())
        ).scalar_one()
        of_batch = tx.execute(
            sa.select(sa.func.min(_b.from_position)).where(
                _b.source_id == source_id, _b.from_position < keep, _b.to_position >= keep
            )
        ).scalar_one()
        edge = min(each for each in (of_object, of_batch, keep) if each is not None)
        if edge == keep:
            return keep
        keep = edge


def _is_young(before_ms: int) -> sa.ColumnElement[bool]:
    dated = sa.func.coalesce(_o.dated_ms, _o.modified_ms)
    return sa.or_(_o.finished_ms >= before_ms, _o.modified_ms >= before_ms, dated >= before_ms)


def _raise_floor(tx: sa.Connection, source_id: int, old: sa.Select[tuple[int]]) -> None:
    """Keys of objects that go lie below the floor from now on, by their date and by their age."""
    newest = tx.execute(sa.select(sa.func.max(_o.modified_ms), sa.func.max(_o.dated_ms)).where(_o.id.in_(old))).one()
    floor = max((each for each in newest if each is not None), default=-1) + 1
    tx.execute(
        sa.update(t.sources).where(t.sources.c.id == source_id, t.sources.c.floor_ms < floor).values(floor_ms=floor)
    )


def _delete(tx: sa.Connection, table: sa.Table, where: sa.ColumnElement[bool]) -> int:
    return int(tx.execute(sa.delete(table).where(where)).rowcount)
