"""Replays: ended batches made due again under their old ids, or copied under a new epoch, beside or in their place."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from eventferry import clock
from eventferry.ledger import Ledger, batches, dead_letters, replayable, sinks
from eventferry.ledger import tables as t
from eventferry.ledger.batches import BatchRow
from eventferry.ledger.database import get_meta, set_meta
from eventferry.ledger.identity import batch_id, letter_id
from eventferry.ledger.sinks import SinkRow
from eventferry.sink import Part

_o, _b = t.objects.c, t.batches.c

# Batches per transaction, and numbers per query.
PAGE = 500
IDS = 10_000

Finish = Callable[[sa.Connection, int], None]  # done in the last transaction, with how many batches there are


def repair(ledger: Ledger, rows: Sequence[BatchRow], finish: Finish) -> int:
    """Send again under the same ids: a sink that recorded them takes only what it lacks. Returns how many batches."""

    def reopen(tx: sa.Connection, page: Sequence[BatchRow]) -> int:
        seqs = [row.seq for row in page]
        dead_letters.supersede(tx, seqs)
        _take_ids_of_letters(tx, [row for row in page if row.state == "dead"])
        return batches.reopen(tx, seqs)

    return _in_pages(ledger, rows, reopen, finish)


def _take_ids_of_letters(tx: sa.Connection, rows: Sequence[BatchRow]) -> None:
    """Refused events that a retry delivered go under the ids that it delivered them under: these are recorded."""
    letters = (t.dead_letters.c.batch_seq.in_([row.seq for row in rows]), t.dead_letters.c.state == "delivered")
    delivered = sa.select(t.dead_letters.c.batch_seq, t.dead_letters.c.id, t.dead_letters.c.place)
    sink_of = {row.seq: row.sink_id for row in rows}
    for seq, number, place in tx.execute(delivered.where(*letters)).all():
        identity = sinks.get_sink_by_id(tx, sink_of[seq]).identity
        tx.execute(sa.update(t.batches).where(_b.seq == seq).values(id=letter_id(identity, number, place)))


def again(
    ledger: Ledger, sink: SinkRow, rows: Sequence[BatchRow], name: str, finish: Finish, *, replaces: bool = False
) -> int:
    """Send once more under new ids, in a new epoch: duplicates on purpose. Returns how many batches.

    One that was interrupted goes on in its epoch when it is asked for again: the same `name`. With `replaces` each copy
    names what the sink may hold of it under other ids, and takes its place.
    """
    note = _note(sink, name, replaces=replaces)

    def copy(tx: sa.Connection, page: Sequence[BatchRow]) -> int:
        epoch = get_meta(tx, note)
        if epoch is None:
            epoch = sinks.new_epoch(tx, sink.id)
            set_meta(tx, note, epoch)
        instead = replayable.superseded(tx, sink, page, epoch) if replaces else {}
        copies = _copies(tx, sink, page, epoch, instead)
        if copies:
            tx.execute(sa.insert(t.batches), copies)
        return len(page)

    def end(tx: sa.Connection, count: int) -> None:
        # A replacement that was interrupted before this replay would not know of it: it begins anew.
        over = (t.meta.c.key == note) | t.meta.c.key.startswith(_note(sink, "", replaces=True))
        tx.execute(sa.delete(t.meta).where(over))
        finish(tx, count)

    return _in_pages(ledger, rows, copy, end)


def replacement_under_way(tx: sa.Connection, sink: SinkRow, name: str) -> int | None:
    """The epoch of the replacement of that name that was interrupted while it was planned."""
    epoch = get_meta(tx, _note(sink, name, replaces=True))
    return None if epoch is None else int(epoch)


def _note(sink: SinkRow, name: str, *, replaces: bool) -> str:
    """What an interrupted replay is found by; a replacement only as long as it would write the same."""
    if not replaces:
        return f"replay:{sink.id}:{name}"
    return f"replay:{sink.id}:replace:" + (f"{sink.transform}:{name}" if name else "")


def _in_pages(
    ledger: Ledger,
    rows: Sequence[BatchRow],
    work: Callable[[sa.Connection, Sequence[BatchRow]], int],
    finish: Finish,
) -> int:
    """Each page is a transaction, so that nobody else waits for all of it; `finish` is part of the last."""
    count = 0
    for start in range(0, max(1, len(rows)), PAGE):
        page = rows[start : start + PAGE]
        with ledger.write() as tx:
            count += work(tx, page) if page else 0
            if start + PAGE >= len(rows):
                finish(tx, count)
    return count


def _copies(
    tx: sa.Connection, sink: SinkRow, rows: Sequence[BatchRow], epoch: int, instead: Mapping[int, Sequence[str]]
) -> list[dict[str, Any]]:
    """New batches over the same ranges, but for those that are there already."""
    found = tx.execute(sa.select(_b.seq, _b.parts).where(_b.seq.in_([row.seq for row in rows])))
    parts = {seq: json.loads(text) for seq, text in found}
    objects = _identities(tx, {part[0] for each in parts.values() for part in each})
    ids = {
        row.seq: batch_id(sink.identity, epoch, sink.transform, [Part(*objects[id_], *rest) for id_, *rest in each])
        for row in rows
        if (each := parts.get(row.seq)) is not None  # else it was pruned meanwhile
    }
    there = _b.sink_id == sink.id, _b.id.in_(list(ids.values()))
    known = set(tx.execute(sa.select(_b.id).where(*there)).scalars())
    copies = []
    for row in rows:
        if row.seq not in ids or ids[row.seq] in known:
            continue
        known.add(ids[row.seq])
        copy = _copy(row, ids[row.seq], json.dumps(parts[row.seq], separators=(",", ":")), sink, epoch)
        copies.append(copy | {"replaces": json.dumps(instead[row.seq]) if row.seq in instead else None})
    return copies


def _copy(row: BatchRow, id_: str, parts: str, sink: SinkRow, epoch: int) -> dict[str, Any]:
    return {
        "id": id_,
        "sink_id": sink.id,
        "source_id": row.source_id,
        "epoch": epoch,
        "replay_id": epoch,
        "from_position": row.from_position,
        "from_byte": row.from_byte,
        "to_position": row.to_position,
        "to_byte": row.to_byte,
        "order_position": row.from_position,
        "order_byte": row.from_byte,
        "parts": parts,
        "read_events": row.read_events,
        "events": row.read_events,
        "body_bytes": 0,
        "body_digest": "",  # cut anew under the transform of today, when it is first sent
        "transform": sink.transform,
        "state": "planned",
        "created_ms": clock.now_ms(),
    }


def _identities(tx: sa.Connection, object_ids: Collection[int]) -> dict[int, tuple[str, str, str]]:
    """Object → the identity of its source, its key, the digest of its content."""
    query = sa.select(_o.id, t.sources.c.identity, _o.key, _o.digest).join_from(
        t.objects, t.sources, _o.source_id == t.sources.c.id
    )
    listed, found = sorted(object_ids), {}
    for start in range(0, len(listed), IDS):
        for id_, *identity in tx.execute(query.where(_o.id.in_(listed[start : start + IDS]))):
            found[id_] = tuple(identity)
    return found
