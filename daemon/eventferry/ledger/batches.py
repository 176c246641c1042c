"""Batches: written down before they are sent, then given the outcome of each attempt."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from eventferry import clock
from eventferry.ledger import tables as t

OPEN = ("planned", "sending", "waiting", "suspect")
ENDED = ("delivered", "split", "dead", "filtered", "missing")

Place = tuple[int, int]  # (position in the log, byte in the object's stream)


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """A batch as it is first written down."""

    id: str
    source_id: int
    epoch: int
    start: Place
    end: Place
    parts: tuple[tuple[int, int, int, int], ...]  # (object id, start, end, events)
    read_events: int
    events: int
    body_bytes: int
    body_digest: str
    transform: str
    parent_seq: int | None = None
    root_seq: int | None = None
    replay_id: int | None = None
    repeatable: bool = False
    refused_at: int | None = None
    replaces: str | None = None


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A batch as the ledger knows it."""

    seq: int
    id: str
    sink_id: int
    source_id: int
    epoch: int
    replay_id: int | None
    replaces: str | None
    parent_seq: int | None
    root_seq: int | None
    from_position: int
    from_byte: int
    to_position: int
    to_byte: int
    read_events: int
    events: int
    body_bytes: int
    body_digest: str
    transform: str
    state: str
    attempts: int
    unknown: bool
    repeatable: bool
    refused_at: int | None
    bugs: int
    next_ms: int
    error: str | None
    created_ms: int

    @property
    def start(self) -> Place:
        return self.from_position, self.from_byte

    @property
    def end(self) -> Place:
        return self.to_position, self.to_byte

    @property
    def epoch_of_replay(self) -> int | None:
        """The epoch of the replay that it belongs to."""
        return None if self.replay_id is None else self.epoch

    @property
    def replaced_ids(self) -> tuple[str, ...]:
        """The ids whose events it supersedes at the sink."""
        return tuple(json.loads(self.replaces)) if self.replaces else ()

    @property
    def replaces_as_parent(self) -> str | None:
        """What its halves replace: the same, and this one, of which an abandoned attempt may yet arrive."""
        return json.dumps([*self.replaced_ids, self.id]) if self.replaced_ids else self.replaces


_COLUMNS = [t.batches.c[name] for name in BatchRow.__slots__]
_b = t.batches.c


def plan(tx: sa.Connection, sink_id: int, planned: PlannedBatch, state: str) -> int:
    """Write a batch down, as `sending` (its first attempt begins), `planned` or `filtered`; returns its number."""
    now = clock.now_ms()
    sending = state == "sending"
    done = tx.execute(
        sa.insert(t.batches).values(
            id=planned.id,
            sink_id=sink_id,
            source_id=planned.source_id,
            epoch=planned.epoch,
            replay_id=planned.replay_id,
            replaces=planned.replaces,
            parent_seq=planned.parent_seq,
            root_seq=planned.root_seq,
            from_position=planned.start[0],
            from_byte=planned.start[1],
            to_position=planned.end[0],
            to_byte=planned.end[1],
            order_position=planned.start[0],
            order_byte=planned.start[1],
            parts=json.dumps(planned.parts, separators=(",", ":")),
            read_events=planned.read_events,
            events=planned.events,
            body_bytes=planned.body_bytes,
            body_digest=planned.body_digest,
            transform=planned.transform,
            repeatable=planned.repeatable,
            refused_at=planned.refused_at,
            state=state,
            attempts=1 if sending else 0,
            created_ms=now,
            sent_ms=now if sending else None,
            finished_ms=now if state in ENDED else None,
        )
    )
    assert done.inserted_primary_key is not None
    return int(done.inserted_primary_key[0])


def get_batch(tx: sa.Connection, seq: int) -> BatchRow:
    """The batch of that number."""
    return BatchRow(*tx.execute(sa.select(*_COLUMNS).where(_b.seq == seq)).one())


# A copy under a new epoch, or one that was made due again under its old id and not tried since.
_IS_REPLAYED = sa.or_(_b.replay_id.is_not(None), sa.and_(_b.attempts == 0, _b.sent_ms.is_not(None)))


def open_batches(
    tx: sa.Connection, sink_id: int, source_ids: Sequence[int], limit: int = 64, *, replays: bool | None = None
) -> list[BatchRow]:
    """Batches of these sources without an end, in sending order; all of them, only replayed ones, or only others."""
    chosen = [] if replays is None else [_IS_REPLAYED if replays else sa.not_(_IS_REPLAYED)]
    rows = tx.execute(
        sa.select(*_COLUMNS)
        .where(_b.sink_id == sink_id, _b.state.in_(OPEN), _b.source_id.in_(list(source_ids)), *chosen)
        .order_by(_b.order_position, _b.order_byte, _b.seq)
        .limit(limit)
    )
    return [BatchRow(*row) for row in rows]


def parts_of(tx: sa.Connection, seq: int) -> list[tuple[int, int, int, int]]:
    """The ranges of a batch in order: (object id, start, end, events)."""
    parts = json.loads(tx.execute(sa.select(_b.parts).where(_b.seq == seq)).scalar_one())
    return [tuple(part) for part in parts]


def settle_body(
    tx: sa.Connection, row: BatchRow, events: int, body_bytes: int, body_digest: str, transform: str
) -> BatchRow:
    """Write down the body of a batch that was planned without having been read; nothing to send ends it as filtered."""
    tx.execute(
        sa.update(t.batches)
        .where(_b.seq == row.seq)
        .values(events=events, body_bytes=body_bytes, body_digest=body_digest, transform=transform)
    )
    if not events and not row.replaced_ids:  # one that replaces still has to delete
        end_batch(tx, row.seq, "filtered")
    return get_batch(tx, row.seq)


def begin_attempt(tx: sa.Connection, seq: int) -> bool:
    """Write down that an attempt begins; what a start finds as `sending` is unknown. False where it may not begin."""
    done = tx.execute(
        sa.update(t.batches)
        .where(_b.seq == seq, _b.state.in_(("planned", "waiting", "suspect")))
        .values(state="sending", attempts=_b.attempts + 1, sent_ms=sa.func.coalesce(_b.sent_ms, clock.now_ms()))
    )
    return bool(done.rowcount)


def is_under_way(tx: sa.Connection, seq: int, attempt: int) -> bool:
    """Whether this attempt is the one whose result is waited for; a newer one makes its result worthless."""
    found = tx.execute(sa.select(_b.state, _b.attempts).where(_b.seq == seq)).one()
    return (found.state, found.attempts) == ("sending", attempt)


def recover_interrupted(tx: sa.Connection, sink_id: int) -> int:
    """After a crash: every batch whose outcome was not recorded may have taken effect; returns how many."""
    done = tx.execute(
        sa.update(t.batches)
        .where(_b.sink_id == sink_id, _b.state == "sending")
        .values(state="waiting", unknown=True, next_ms=0)
    )
    return int(done.rowcount)


def end_batch(tx: sa.Connection, seq: int, state: str, *, error: str | None = None, dead_events: int = 0) -> bool:
    """Give the batch its end; False where it already has one (a late result of an abandoned attempt)."""
    assert state in ENDED
    done = tx.execute(
        sa.update(t.batches)
        .where(_b.seq == seq, _b.state.in_(OPEN))
        .values(state=state, error=error, dead_events=dead_events, finished_ms=clock.now_ms())
    )
    return bool(done.rowcount)


def postpone(
    tx: sa.Connection, seq: int, *, next_ms: int, error: str, unknown: bool, bugs: int = 0, state: str = "waiting"
) -> None:
    """The attempt failed; try again from `next_ms` on. An unknown outcome stays unknown until the sink can tell."""
    values: dict[str, object] = {"state": state, "next_ms": next_ms, "error": error, "bugs": bugs}
    if unknown:
        values["unknown"] = True
    tx.execute(sa.update(t.batches).where(_b.seq == seq, _b.state.in_(OPEN)).values(**values))


def mark_untouched(tx: sa.Connection, seq: int) -> None:
    """The sink said that no attempt took effect."""
    tx.execute(sa.update(t.batches).where(_b.seq == seq).values(unknown=False))


def mark_refused(tx: sa.Connection, seq: int, accepted: int) -> None:
    """Remember how much the sink had accepted when it first refused this batch or its root."""
    tx.execute(sa.update(t.batches).where(_b.seq == seq, _b.refused_at.is_(None)).values(refused_at=accepted))


def suspects(tx: sa.Connection, sink_id: int) -> list[BatchRow]:
    """Refused batches that nobody believes yet: the sink has accepted nothing since."""
    rows = tx.execute(
        sa.select(*_COLUMNS)
        .where(_b.sink_id == sink_id, _b.state == "suspect")
        .order_by(_b.order_position, _b.order_byte, _b.seq)
    )
    return [BatchRow(*row) for row in rows]


def wake(tx: sa.Connection, sink_id: int, states: Sequence[str] = ("waiting", "suspect")) -> None:
    """Make waiting batches due now."""
    tx.execute(
        sa.update(t.batches)
        .where(_b.sink_id == sink_id, _b.state.in_(list(states)))
        .values(next_ms=0, state=sa.case((_b.state == "suspect", "planned"), else_=_b.state))
    )


def count_open(tx: sa.Connection, sink_id: int) -> int:
    """How many batches of the sink have no end yet."""
    return int(tx.execute(sa.select(sa.func.count()).where(_b.sink_id == sink_id, _b.state.in_(OPEN))).scalar_one())


def is_any_tried(tx: sa.Connection, sink_id: int, attempts: int) -> bool:
    """Whether a batch without an end was tried at least so often."""
    where = (_b.sink_id == sink_id, _b.state.in_(OPEN), _b.attempts >= attempts)
    return tx.execute(sa.select(_b.seq).where(*where).limit(1)).first() is not None


def batches_between(
    tx: sa.Connection, sink_id: int, source_id: int, first: int, last: int, states: Sequence[str]
) -> list[BatchRow]:
    """Batches of the sink that touch the positions first…last, in sending order."""
    rows = tx.execute(
        sa.select(*_COLUMNS)
        .where(
            _b.sink_id == sink_id, _b.source_id == source_id, _b.state.in_(list(states)),
            _b.to_position >= first, _b.from_position <= last,
        )
        .order_by(_b.order_position, _b.order_byte, _b.seq)
    )  # fmt: skip
    return [BatchRow(*row) for row in rows]


def reopen(tx: sa.Connection, seqs: Sequence[int]) -> int:
    """Make ended batches due again under their old ids; returns how many."""
    done = tx.execute(
        sa.update(t.batches)
        .where(_b.seq.in_(list(seqs)), _b.state.in_(("delivered", "missing", "dead")))
        .values(
            state="planned",
            attempts=0,
            unknown=False,
            bugs=0,
            next_ms=0,
            finished_ms=None,
            error=None,
            sent_ms=sa.func.coalesce(_b.sent_ms, _b.created_ms),  # marks it as replayed until it is tried
        )
    )
    return int(done.rowcount)
