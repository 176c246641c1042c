"""What the ledger says, put together for people: read-only queries that only commands ask."""

import json
from collections.abc import Iterator, Sequence
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


# A statement of SQLite takes some 30,000 values.
PAGE = 10_000


@dataclass(frozen=True, slots=True)
class LetterState:
    """How far a dead letter is."""

    id: int
    sink: str
    state: str
    attempts: int
    reason: str


def letter_states(tx: sa.Connection, ids: Sequence[int]) -> list[LetterState]:
    """How far these dead letters are."""
    c = t.dead_letters.c
    query = sa.select(c.id, t.sinks.c.name, c.state, c.attempts, c.reason).join_from(
        t.dead_letters, t.sinks, c.sink_id == t.sinks.c.id
    )
    return [LetterState(*row) for page in _pages(ids) for row in tx.execute(query.where(c.id.in_(page)).order_by(c.id))]


def retrying_letters(tx: sa.Connection) -> list[int]:
    """The numbers of all dead letters whose retry somebody asked for."""
    c = t.dead_letters.c
    return list(tx.execute(sa.select(c.id).where(c.state == "retrying").order_by(c.id)).scalars())


def _pages(ids: Sequence[int]) -> Iterator[list[int]]:
    for start in range(0, len(ids), PAGE):
        yield list(ids[start : start + PAGE])


def log_after(tx: sa.Connection, source_id: int, position: int) -> tuple[int, int]:
    """(events, bytes) that the log holds of a source behind that position."""
    c = t.segments.c
    sums = [sa.func.coalesce(sa.func.sum(each), 0) for each in (c.events, c.end - c.start)]
    events, size = tx.execute(sa.select(*sums).where(c.source_id == source_id, c.position > position)).one()
    return int(events), int(size)


def cursor_names(tx: sa.Connection) -> set[tuple[str, str]]:
    """(sink, source) wherever a sink has a place in a source."""
    c = t.cursors.c
    query = sa.select(t.sinks.c.name, t.sources.c.name).join_from(t.cursors, t.sinks, c.sink_id == t.sinks.c.id)
    return {(sink, source) for sink, source in tx.execute(query.join(t.sources, c.source_id == t.sources.c.id))}


@dataclass(frozen=True, slots=True)
class Reach:
    """What batches cover: all of it, and how much of that lies in files dated in the span that was asked for."""

    events: int
    files: int
    events_within: int
    files_within: int


def reach_of(tx: sa.Connection, batch_seqs: Sequence[int], low_ms: int, high_ms: int) -> Reach:
    """The events and files of these batches, before any filter; within: of files dated in [low, high)."""
    events: dict[int, int] = {}
    for page in _pages(batch_seqs):
        for text in tx.execute(sa.select(t.batches.c.parts).where(t.batches.c.seq.in_(page))).scalars():
            for object_id, _, _, count in json.loads(text):
                events[object_id] = events.get(object_id, 0) + count
    c = t.objects.c
    dated = sa.func.coalesce(c.dated_ms, c.modified_ms)
    within: set[int] = set()
    for page in _pages(sorted(events)):
        within |= set(tx.execute(sa.select(c.id).where(c.id.in_(page), dated >= low_ms, dated < high_ms)).scalars())
    return Reach(sum(events.values()), len(events), sum(events[each] for each in within), len(within))


@dataclass(frozen=True, slots=True)
class ChannelFacts:
    """How the sends of a channel went."""

    channel: str
    failing: bool  # its last sends failed
    waiting: int  # messages that it has not taken yet
    given_up: int  # messages that it was not given, since it last took one
    error: str | None
    sent_ms: int | None


def channels(tx: sa.Connection) -> list[ChannelFacts]:
    """Every channel that ever had a message, by name."""
    c = t.sends.c
    names = tx.execute(sa.select(c.channel).distinct().order_by(c.channel)).scalars().all()
    return [_channel(tx, name) for name in names]


def _channel(tx: sa.Connection, name: str) -> ChannelFacts:
    c = t.sends.c
    of = c.channel == name
    good, sent_ms = tx.execute(
        sa.select(sa.func.coalesce(sa.func.max(c.message_id), 0), sa.func.max(c.sent_ms)).where(of, c.state == "sent")
    ).one()
    # Attempts carry no time; messages are numbered in theirs. A wait with an error is an attempt that failed.
    given_up = of & (c.state == "failed") & (c.message_id > good)
    waiting = of & (c.state == "pending")
    failed = given_up | (waiting & c.error.is_not(None))
    error = tx.execute(sa.select(c.error).where(failed).order_by(c.message_id.desc()).limit(1)).scalar_one_or_none()
    lost, left = (
        tx.execute(sa.select(sa.func.count()).select_from(t.sends).where(each)).scalar_one()
        for each in (given_up, waiting)
    )
    return ChannelFacts(name, error is not None, int(left), int(lost), error, sent_ms)
