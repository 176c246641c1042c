"""Replays: ended batches made due again under their old ids, or copied under a new epoch."""

import json

import sqlalchemy as sa

from eventferry.ledger import batches, dead_letters, sinks
from eventferry.ledger import tables as t
from eventferry.ledger.batches import BatchRow, PlannedBatch
from eventferry.ledger.sinks import SinkRow

_s, _o, _b = t.segments.c, t.objects.c, t.batches.c
ENDED = ("delivered", "missing", "dead")


def ended_between(tx: sa.Connection, sink_id: int, low_ms: int, high_ms: int) -> list[BatchRow]:
    """The sink's ended batches that touch files dated in [low, high)."""
    dated = sa.func.coalesce(_o.dated_ms, _o.modified_ms)
    found: dict[int, BatchRow] = {}
    for source_id in tx.execute(sa.select(t.cursors.c.source_id).where(t.cursors.c.sink_id == sink_id)).scalars().all():
        positions = tx.execute(
            sa.select(sa.func.min(_s.position), sa.func.max(_s.position))
            .join_from(t.segments, t.objects, _s.object_id == _o.id)
            .where(_s.source_id == source_id, dated >= low_ms, dated < high_ms)
        ).one()
        if positions[0] is not None:
            rows = batches.batches_between(tx, sink_id, source_id, positions[0], positions[1], ENDED)
            found |= {row.seq: row for row in rows if row.replay_id is None}
    return list(found.values())


def repair(tx: sa.Connection, sink: SinkRow, low_ms: int, high_ms: int) -> int:
    """Send again under the same ids: a sink that recorded them takes only what it lacks. Returns how many batches."""
    seqs = [row.seq for row in ended_between(tx, sink.id, low_ms, high_ms)]
    dead_letters.supersede(tx, seqs)
    return batches.reopen(tx, seqs)


def again(tx: sa.Connection, sink: SinkRow, low_ms: int, high_ms: int) -> int:
    """Send once more under new ids, in a new epoch: duplicates on purpose. Returns how many batches."""
    from eventferry.ledger.identity import batch_id_of

    rows = ended_between(tx, sink.id, low_ms, high_ms)
    if not rows:
        return 0
    epoch = sinks.new_epoch(tx, sink.id)
    for row in rows:
        parts = json.loads(tx.execute(sa.select(_b.parts).where(_b.seq == row.seq)).scalar_one())
        batches.plan(
            tx,
            sink.id,
            PlannedBatch(
                id=batch_id_of(tx, sink.identity, epoch, sink.transform, parts),
                source_id=row.source_id,
                epoch=epoch,
                start=(row.from_position, row.from_byte),
                end=(row.to_position, row.to_byte),
                parts=tuple(tuple(part) for part in parts),
                read_events=row.read_events,
                events=row.read_events,
                body_bytes=0,
                body_digest="",  # cut anew under the transform of today, when it is first sent
                transform=sink.transform,
                replay_id=epoch,
            ),
            "planned",
        )
    return len(rows)
