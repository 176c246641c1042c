"""Pruning: what is older than the retention and needed by nobody leaves the ledger, page by page."""

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from eventferry import clock
from eventferry.ledger import Ledger, alerts, coverage, exports, log, pull_tables, sends
from eventferry.ledger import tables as t
from eventferry.ledger.batches import OPEN

_s, _o, _b, _c = t.segments.c, t.objects.c, t.batches.c, t.cursors.c

# So long an export that is queued or running keeps what it may select: one that never ends is not to fill the disk.
EXPORT_PIN_MS = 24 * 3600 * 1000
# Rows per transaction: others who write wait for one page, not for all of it.
PAGE = 500


def prune(ledger: Ledger, before_ms: int) -> dict[str, int]:
    """Delete ended batches, delivered segments, their objects, old runs, messages, requests, exports; counts per table.

    Nothing goes that an enabled sink, or one disabled for less than its limit, still needs, nor what may be selected by
    an export under way that was asked for within a day. The floor of a source rises with the objects that go, so that
    their keys are not taken again. Each page is a transaction after which the books balance: pruning may end between
    any two.
    """
    counts = {"segments": 0, "objects": 0, "batches": 0}
    with ledger.read() as tx:
        source_ids = tx.execute(sa.select(t.sources.c.id)).scalars().all()
    for source_id in source_ids:
        _prune_log(ledger, source_id, before_ms, counts)
        counts["objects"] += _prune_empty_objects(ledger, source_id, before_ms)
    d, m = t.dead_letters.c, t.messages.c
    # A replay that replaces the letter's batch has to know what was delivered of it under an id of its own.
    is_known = sa.exists().where(_b.seq == d.batch_seq)
    over = d.state.in_(("delivered", "dropped")) & (d.created_ms < before_ms) & sa.not_(is_known)
    counts["runs"] = _prune_rows(ledger, t.runs.c.id, t.runs.c.started_ms < before_ms)
    counts["requests"] = _prune_rows(ledger, t.requests.c.id, t.requests.c.done_ms < before_ms)
    counts["dead_letters"] = _prune_rows(ledger, d.id, over)
    counts["messages"] = _prune_rows(ledger, m.id, sends.is_forgettable(before_ms), sends.forget)
    counts["exports"] = _prune_rows(
        ledger, pull_tables.exports.c.seq, exports.is_forgettable(before_ms), exports.forget
    )
    counts["conditions"] = _prune_rows(ledger, t.conditions.c.cause, t.conditions.c.resolved_ms < before_ms)
    return counts


def _prune_rows(
    ledger: Ledger,
    key: sa.Column[int] | sa.Column[str],
    where: sa.ColumnElement[bool],
    forget: Callable[[sa.Connection, Sequence[Any]], int] | None = None,
) -> int:
    """Delete the rows of the key's table for which `where` holds."""
    count, last = 0, None
    while True:
        # By key, not until nothing is found: a rehearsal finds the same rows for ever.
        query = sa.select(key).where(where, *(() if last is None else (key > last,))).order_by(key).limit(PAGE)
        with ledger.read() as tx:
            found = tx.execute(query).scalars().all()
        if not found:
            return count
        with ledger.write() as tx:
            chosen = tx.execute(query.where(key <= found[-1])).scalars().all()  # as it is now
            count += _delete(tx, key.table, key.in_(chosen)) if forget is None else forget(tx, chosen)
        last = found[-1]


def _prune_log(ledger: Ledger, source_id: int, before_ms: int, counts: dict[str, int]) -> None:
    with ledger.read() as tx:
        keep = _keep_from(tx, source_id, before_ms)
    with ledger.write() as tx:
        _note_gaps(tx, source_id, keep - 1)
    low = 0
    while True:
        with ledger.read() as tx:
            high = _page_end(tx, source_id, low, keep)
        if high <= low:
            return
        with ledger.write() as tx:
            # Whatever was asked for since, as by a replay, is needed again.
            if _first_needed(tx, source_id) < high or _first_selected(tx, source_id, low, high) < high:
                return
            for table, count in _prune_page(tx, source_id, low, high, before_ms).items():
                counts[table] += count
        low = high


def _page_end(tx: sa.Connection, source_id: int, low: int, keep: int) -> int:
    """The position before which a page ends that begins at `low`: enough rows, and whole objects."""
    ends = [keep]
    for place in (_s.position, _b.from_position):
        rows = sa.select(place).where(place.table.c.source_id == source_id, place >= low, place < keep)
        beyond = tx.execute(rows.order_by(place).offset(PAGE).limit(1)).scalar_one_or_none()
        ends.append(keep if beyond is None else max(int(beyond), low + 1))
    last = sa.select(_s.object_id).where(_s.source_id == source_id, _s.position < min(ends))
    of_last = sa.select(sa.func.max(_s.position)).where(
        _s.object_id == last.order_by(_s.position.desc()).limit(1).scalar_subquery()
    )
    return min(keep, max(min(ends), int(tx.execute(of_last).scalar_one() or 0) + 1))


def _prune_page(tx: sa.Connection, source_id: int, low: int, high: int, before_ms: int) -> dict[str, int]:
    """Delete the source's segments from `low` to before `high`, what begins there, and its place in the books."""
    below = (_s.source_id == source_id) & (_s.position >= low) & (_s.position < high)
    begun = (_b.source_id == source_id) & (_b.from_position >= low) & (_b.from_position < high)
    ids = tx.execute(sa.select(_s.object_id).where(below).distinct()).scalars().all()
    _shift_starts(tx, source_id, high - 1, begun)
    counts = {"batches": _delete(tx, t.batches, begun), "segments": _delete(tx, t.segments, below)}
    counts["objects"] = _delete_objects(tx, source_id, _o.id.in_(ids) & _is_over(before_ms))
    return counts


def _shift_starts(tx: sa.Connection, source_id: int, start: int, gone: sa.ColumnElement[bool]) -> None:
    """Let the sinks' books begin after `start`, without the events of the batches that go.

    A batch may reach past the new start: these events stay in the log while their batch goes.
    """
    for sink_id, old in tx.execute(
        sa.select(_c.sink_id, _c.start_position).where(
            _c.source_id == source_id, _c.start_position < start, _c.position >= start
        )
    ).all():
        in_books = (_b.sink_id == sink_id) & _b.replay_id.is_(None) & (_b.state != "split") & (_b.to_position > old)
        batched = sa.select(sa.func.coalesce(sa.func.sum(_b.read_events), 0)).where(gone, in_books)
        logged = sa.select(sa.func.coalesce(sa.func.sum(_s.events), 0)).where(
            _s.source_id == source_id, _s.position > old, _s.position <= start
        )
        beyond = int(tx.execute(batched).scalar_one()) - int(tx.execute(logged).scalar_one())
        tx.execute(
            sa.update(t.cursors)
            .where(_c.sink_id == sink_id, _c.source_id == source_id)
            .values(start_position=start, pruned_events=_c.pruned_events + beyond)
        )


def _prune_empty_objects(ledger: Ledger, source_id: int, before_ms: int) -> int:
    """Old objects of keys that never had anything in the log, or have nothing any more.

    While another version of the key has, they say what became of it: whoever reads it needs to know.
    """
    count = last = 0
    same = t.objects.alias()
    logged = sa.exists().where(
        same.c.source_id == _o.source_id, same.c.key_hash == _o.key_hash, _s.object_id == same.c.id
    )
    empty = sa.not_(logged) & _is_over(before_ms) & (_o.source_id == source_id)
    while True:
        query = sa.select(_o.id).where(empty, _o.id > last).order_by(_o.id).limit(PAGE)
        with ledger.read() as tx:
            found = tx.execute(query).scalars().all()
        if not found:
            return count
        with ledger.write() as tx:
            count += _delete_objects(tx, source_id, _o.id.in_(found) & empty)
        last = found[-1]


def _delete_objects(tx: sa.Connection, source_id: int, where: sa.ColumnElement[bool]) -> int:
    old = tx.execute(sa.select(_o.id).where(where)).scalars().all()
    _raise_floor(tx, source_id, old)
    _delete(tx, t.bad_lines, t.bad_lines.c.object_id.in_(old))
    return _delete(tx, t.objects, _o.id.in_(old))


def _first_needed(tx: sa.Connection, source_id: int) -> int:
    """The first position of the source that some sink has not ended with; a huge number where none lacks anything."""
    needed = [1 << 62]
    for sink_id, position in tx.execute(
        sa.select(_c.sink_id, _c.position)
        .join_from(t.cursors, t.sinks, _c.sink_id == t.sinks.c.id)
        .where(_c.source_id == source_id, sa.not_(_is_expired()))
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


def _first_selected(tx: sa.Connection, source_id: int, low: int, high: int) -> int:
    """The source's first position from `low` that a young export under way may select; `high` where none is before."""
    young = [
        each
        for state in exports.UNDER_WAY
        for each in exports.under_way(tx, state)
        if each.created_ms >= clock.now_ms() - EXPORT_PIN_MS
    ]
    ranges = {(each.selection["start_ms"], each.selection["end_ms"], each.as_of) for each in young}
    for start_ms, end_ms, as_of in ranges:
        for first in coverage.covered(tx, [source_id], low - 1, min(as_of, high - 1), start_ms, end_ms, limit=1):
            high = first.position
    return high


def _is_expired() -> sa.ColumnElement[bool]:
    """A sink switched off for longer than its limit no longer keeps what it lacks."""
    s = t.sinks.c
    return sa.and_(sa.not_(s.enabled), s.disabled_ms + s.pinned_ms < clock.now_ms())


def _note_gaps(tx: sa.Connection, source_id: int, up_to: int) -> None:
    """Sinks switched off for too long lose what goes now: a named gap, and their cursor moves past it."""
    for sink_id, name, position, left in tx.execute(
        sa.select(t.sinks.c.id, t.sinks.c.name, _c.position, _c.left_events)
        .join_from(t.cursors, t.sinks, _c.sink_id == t.sinks.c.id)
        .where(_c.source_id == source_id, _is_expired())
    ).all():
        lost = 0
        if position < up_to:
            events = sa.select(sa.func.coalesce(sa.func.sum(_s.events), 0))
            behind = events.where(_s.source_id == source_id, _s.position > position, _s.position <= up_to)
            lost = int(tx.execute(behind).scalar_one()) + left
            tx.execute(
                sa.update(t.cursors)
                .where(_c.sink_id == sink_id, _c.source_id == source_id)
                .values(position=up_to, byte=1 << 62, left_events=0, start_position=up_to, pruned_events=0)
            )
        open_ = (_b.sink_id == sink_id) & (_b.source_id == source_id) & _b.state.in_(OPEN) & (_b.from_position <= up_to)
        owed = sa.select(sa.func.coalesce(sa.func.sum(_b.read_events), 0)).where(open_, _b.replay_id.is_(None))
        lost += int(tx.execute(owed).scalar_one())
        tx.execute(
            sa.update(t.batches)
            .where(open_)
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


def _keep_from(tx: sa.Connection, source_id: int, before_ms: int) -> int:
    """The first position that stays: needed, young, selected, or part of an object or of a batch that is.

    The last position of the log stays, too, so that the log goes on counting where it was. One look back is enough: a
    batch that reaches past the result, but not to what is needed or young, goes whole.
    """
    young = sa.select(sa.func.min(_s.position)).join_from(t.segments, t.objects, _s.object_id == _o.id)
    first = tx.execute(young.where(_s.source_id == source_id, sa.not_(_is_old(before_ms)))).scalar_one()
    keep = min(each for each in (_first_needed(tx, source_id), first, log.head(tx)) if each is not None)
    keep = _first_selected(tx, source_id, 0, keep)
    of_batch = tx.execute(
        sa.select(sa.func.min(_b.from_position)).where(
            _b.source_id == source_id, _b.from_position < keep, _b.to_position >= keep
        )
    ).scalar_one()
    keep = keep if of_batch is None else min(keep, of_batch)
    inside = sa.select(_s.object_id).where(_s.source_id == source_id, _s.position >= keep).order_by(_s.position)
    of_object = tx.execute(
        sa.select(sa.func.min(_s.position)).where(_s.object_id == inside.limit(1).scalar_subquery())
    ).scalar_one()
    return int(keep if of_object is None else min(keep, of_object))


def _is_over(before_ms: int) -> sa.ColumnElement[bool]:
    return _o.state.in_(("indexed", "unchanged", "gone", "dropped")) & _is_old(before_ms)


def _is_old(before_ms: int) -> sa.ColumnElement[bool]:
    dated = sa.func.coalesce(_o.dated_ms, _o.modified_ms)
    return sa.not_(sa.or_(_o.finished_ms >= before_ms, _o.modified_ms >= before_ms, dated >= before_ms))


def _raise_floor(tx: sa.Connection, source_id: int, old: Sequence[int]) -> None:
    """Keys of objects that go lie below the floor from now on, by their date and by their age."""
    newest = tx.execute(sa.select(sa.func.max(_o.modified_ms), sa.func.max(_o.dated_ms)).where(_o.id.in_(old))).one()
    floor = max((each for each in newest if each is not None), default=-1) + 1
    tx.execute(
        sa.update(t.sources).where(t.sources.c.id == source_id, t.sources.c.floor_ms < floor).values(floor_ms=floor)
    )


def _delete(tx: sa.Connection, table: sa.FromClause, where: sa.ColumnElement[bool]) -> int:
    assert isinstance(table, sa.Table)
    return int(tx.execute(sa.delete(table).where(where)).rowcount)
