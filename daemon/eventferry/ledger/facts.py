"""What the ledger says, put together for people: read-only queries that only commands ask."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from eventferry.ledger import tables as t
from eventferry.ledger.batches import OPEN


@dataclass(frozen=True, slots=True)
class Run:
    """The last run of a source."""

    kind: str
    started_ms: int
    finished_ms: int | None
    listed: int
    found: int
    indexed: int
    quarantined: int
    events: int
    bad: int
    limited: bool
    error: str | None


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """A source with its last run."""

    id: int
    name: str
    root: str
    foreign_keys: int
    relisted_ms: int | None
    last_run: Run | None


def sources_with_runs(tx: sa.Connection) -> list[SourceFacts]:
    """Every source ever registered."""
    c = t.sources.c
    rows = tx.execute(sa.select(c.id, c.name, c.root, c.foreign_keys, c.relisted_ms).order_by(c.id)).all()
    return [SourceFacts(*row, last_run=_last_run(tx, row.id)) for row in rows]


def _last_run(tx: sa.Connection, source_id: int) -> Run | None:
    columns = [t.runs.c[name] for name in Run.__slots__]
    query = sa.select(*columns).where(t.runs.c.source_id == source_id).order_by(t.runs.c.id.desc()).limit(1)
    row = tx.execute(query).one_or_none()
    return None if row is None else Run(*row)


def waiting_letters(tx: sa.Connection) -> dict[int, int]:
    """Sink id → events in dead letters that wait for a person."""
    c = t.dead_letters.c
    rows = tx.execute(sa.select(c.sink_id, sa.func.sum(c.events)).where(c.state == "waiting").group_by(c.sink_id))
    return {sink_id: int(events) for sink_id, events in rows}


def waiting_errors(tx: sa.Connection) -> dict[int, str]:
    """Sink id → what the sink said last about a batch that waits."""
    c = t.batches.c
    chosen = c.state.in_(OPEN) & c.error.is_not(None)
    rows = tx.execute(sa.select(c.sink_id, c.error).where(chosen).order_by(c.seq))
    return {sink_id: error or "" for sink_id, error in rows}


def ids_in_state(tx: sa.Connection, state: str) -> list[int]:
    """The numbers of all files in that state."""
    return list(tx.execute(sa.select(t.objects.c.id).where(t.objects.c.state == state)).scalars())


def letter_ids(tx: sa.Connection, sink_id: int, *, with_bytes: bool) -> list[int]:
    """The numbers of all dead letters of the sink that wait; `with_bytes`: only those that can be sent again."""
    c = t.dead_letters.c
    query = sa.select(c.id).where(c.sink_id == sink_id, c.state == "waiting")
    return list(tx.execute(query.where(c.body.is_not(None)) if with_bytes else query).scalars())


@dataclass(frozen=True, slots=True)
class BadFile:
    """A file with bad lines."""

    id: int
    source_id: int
    key: str
    state: str
    lines: int
    bad: int
    seen_ms: int
    samples: Sequence[tuple[int, int, int, str]]  # line, offset, length, reason


def bad_files(tx: sa.Connection, *, source_id: int | None, state: str | None, limit: int) -> list[BadFile]:
    """Files with bad lines and samples of those, newest first."""
    c = t.objects.c
    query = sa.select(c.id, c.source_id, c.key, c.state, c.lines, c.bad, c.seen_ms).where(c.bad > 0)
    if source_id is not None:
        query = query.where(c.source_id == source_id)
    if state is not None:
        query = query.where(c.state == state)
    rows = tx.execute(query.order_by(c.id.desc()).limit(limit)).all()
    return [BadFile(*row, samples=_samples(tx, row.id)) for row in rows]


def _samples(tx: sa.Connection, object_id: int) -> list[tuple[int, int, int, str]]:
    c = t.bad_lines.c
    query = sa.select(c.line, c.offset, c.length, c.reason).where(c.object_id == object_id).order_by(c.line).limit(5)
    return [(row.line, row.offset, row.length, row.reason) for row in tx.execute(query)]
