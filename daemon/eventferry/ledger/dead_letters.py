"""Dead letters: events refused for good, with reason, bytes and place, until a person retries or drops them."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from eventferry import clock
from eventferry.ledger import alerts
from eventferry.ledger import tables as t

_d = t.dead_letters.c


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event (or a vanished range of events) that a sink will not get by itself."""

    source_id: int
    batch_seq: int | None
    kind: str  # refused | too_large | source_gone
    place: str  # key:line
    reason: str
    events: int
    body: bytes | None
    object_id: int | None = None
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class DeadLetterRow:
    """A dead letter as the ledger knows it."""

    id: int
    sink_id: int
    source_id: int
    batch_seq: int | None
    kind: str
    place: str
    events: int
    reason: str
    body: bytes | None
    bytes: int
    state: str
    attempts: int
    created_ms: int


_COLUMNS = [_d[name] for name in DeadLetterRow.__slots__]


def bury(tx: sa.Connection, sink_id: int, letters: Sequence[DeadLetter]) -> None:
    """Write dead letters down, in the transaction that ends their batch."""
    now = clock.now_ms()
    rows = [
        {
            "sink_id": sink_id,
            "source_id": letter.source_id,
            "object_id": letter.object_id,
            "batch_seq": letter.batch_seq,
            "kind": letter.kind,
            "place": letter.place,
            "start": letter.start,
            "end": letter.end,
            "events": letter.events,
            "reason": letter.reason,
            "body": letter.body,
            "bytes": len(letter.body or b""),
            "state": "waiting",
            "created_ms": now,
        }
        for letter in letters
    ]
    if rows:
        tx.execute(sa.insert(t.dead_letters), rows)


def stored_bytes(tx: sa.Connection) -> int:
    """How many bytes of events all kept dead letters hold."""
    kept = _d.state.in_(("waiting", "retrying"))
    return int(tx.execute(sa.select(sa.func.coalesce(sa.func.sum(_d.bytes), 0)).where(kept)).scalar_one())


def find(
    tx: sa.Connection, *, sink_id: int | None = None, state: str | None = "waiting", limit: int = 100
) -> list[DeadLetterRow]:
    """Dead letters, newest first."""
    query = sa.select(*_COLUMNS).order_by(_d.id.desc()).limit(limit)
    if sink_id is not None:
        query = query.where(_d.sink_id == sink_id)
    if state is not None:
        query = query.where(_d.state == state)
    return [DeadLetterRow(*row) for row in tx.execute(query)]


def get(tx: sa.Connection, letter_id: int) -> DeadLetterRow | None:
    """The dead letter of that number, or None."""
    row = tx.execute(sa.select(*_COLUMNS).where(_d.id == letter_id)).one_or_none()
    return None if row is None else DeadLetterRow(*row)


def set_state(tx: sa.Connection, ids: Sequence[int], state: str, *, drop_body: bool = False) -> int:
    """retrying, waiting, delivered or dropped; returns how many changed."""
    values: dict[str, object] = {"state": state, "next_ms": 0}
    if drop_body:
        values["body"] = None
    done = tx.execute(sa.update(t.dead_letters).where(_d.id.in_(list(ids)), _d.state != state).values(**values))
    return int(done.rowcount)


def retry(tx: sa.Connection, ids: Sequence[int]) -> int:
    """Ask for another attempt of waiting letters that still have their bytes; returns how many."""
    where = _d.id.in_(list(ids)) & (_d.state == "waiting") & _d.body.is_not(None)
    done = tx.execute(sa.update(t.dead_letters).where(where).values(state="retrying", next_ms=0))
    return int(done.rowcount)


def supersede(tx: sa.Connection, batch_seqs: Sequence[int]) -> int:
    """Drop the letters of batches that are sent again as a whole; returns how many."""
    where = _d.batch_seq.in_(list(batch_seqs)) & _d.state.in_(("waiting", "retrying"))
    done = tx.execute(sa.update(t.dead_letters).where(where).values(state="dropped", body=None))
    return int(done.rowcount)


def supersede_replaced(tx: sa.Connection, sink_id: int, name: str, batch_ids: Sequence[str]) -> None:
    """Drop the letters of batches that another one has replaced: their events were offered again, in it."""
    if not batch_ids:
        return
    replaced = sa.select(t.batches.c.seq).where(t.batches.c.sink_id == sink_id, t.batches.c.id.in_(list(batch_ids)))
    if supersede(tx, tx.execute(replaced).scalars().all()) and not are_left(tx, sink_id):
        alerts.close_condition(tx, f"events.dead:{name}", "they were replaced by a replay", proven=False)


def are_left(tx: sa.Connection, sink_id: int) -> bool:
    """Whether letters of the sink wait, for a person or for another attempt."""
    where = (_d.sink_id == sink_id) & _d.state.in_(("waiting", "retrying"))
    return tx.execute(sa.select(_d.id).where(where).limit(1)).one_or_none() is not None


def refuse_again(tx: sa.Connection, letter_id: int, reason: str) -> None:
    """A retried dead letter was refused once more."""
    tx.execute(
        sa.update(t.dead_letters)
        .where(_d.id == letter_id)
        .values(state="waiting", reason=reason, attempts=_d.attempts + 1)
    )


def postpone(tx: sa.Connection, letter_id: int, next_ms: int) -> None:
    """The sink could not be reached; the retry stays asked for."""
    tx.execute(sa.update(t.dead_letters).where(_d.id == letter_id).values(next_ms=next_ms, attempts=_d.attempts + 1))


def next_due_ms(tx: sa.Connection, sink_id: int) -> int | None:
    """When the next retry that was asked for is due; None where none was."""
    asked = (_d.sink_id == sink_id, _d.state == "retrying", _d.body.is_not(None))
    first: int | None = tx.execute(sa.select(sa.func.min(_d.next_ms)).where(*asked)).scalar_one()
    return first


def due(tx: sa.Connection, sink_id: int, limit: int = 20) -> list[DeadLetterRow]:
    """Dead letters whose retry a person asked for."""
    rows = tx.execute(
        sa.select(*_COLUMNS)
        .where(_d.sink_id == sink_id, _d.state == "retrying", _d.body.is_not(None), _d.next_ms <= clock.now_ms())
        .order_by(_d.id)
        .limit(limit)
    )
    return [DeadLetterRow(*row) for row in rows]
