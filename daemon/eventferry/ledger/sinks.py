"""Sinks in the ledger: their identity, state and cursors."""

from dataclasses import dataclass

import sqlalchemy as sa

from eventferry import clock
from eventferry.ledger import log
from eventferry.ledger import tables as t
from eventferry.ledger.batches import OPEN
from eventferry.ledger.database import get_meta, set_meta

# A cursor on (position, ALL) has planned the whole segment at `position`.
ALL = 1 << 62


@dataclass(frozen=True, slots=True)
class SinkRow:
    """A sink as the ledger knows it."""

    id: int
    name: str
    identity: str
    type: str
    epoch: int
    state: str
    enabled: bool
    reason: str | None
    since_ms: int | None
    probe_ms: int | None
    failures: int
    failing_since_ms: int | None
    transform: str
    created_ms: int
    delivered_ms: int | None
    accepted: int
    guarantee: str | None  # as its last opened instance said


_COLUMNS = [t.sinks.c[name] for name in SinkRow.__slots__]


def get_sink(tx: sa.Connection, name: str) -> SinkRow | None:
    """The sink of that name, or None."""
    row = tx.execute(sa.select(*_COLUMNS).where(t.sinks.c.name == name)).one_or_none()
    return None if row is None else SinkRow(*row)


def get_sink_by_id(tx: sa.Connection, sink_id: int) -> SinkRow:
    """The sink of that id."""
    return SinkRow(*tx.execute(sa.select(*_COLUMNS).where(t.sinks.c.id == sink_id)).one())


def all_sinks(tx: sa.Connection) -> list[SinkRow]:
    """Every sink ever registered."""
    return [SinkRow(*row) for row in tx.execute(sa.select(*_COLUMNS).order_by(t.sinks.c.id))]


def register_sink(
    tx: sa.Connection, name: str, type_: str, *, pinned_ms: int = 0, renamed_from: str | None = None
) -> SinkRow:
    """Find or create the sink; a known one is enabled again."""
    if renamed_from and get_sink(tx, name) is None:
        tx.execute(sa.update(t.sinks).where(t.sinks.c.name == renamed_from).values(name=name))
    row = get_sink(tx, name)
    if row is None:
        tx.execute(
            sa.insert(t.sinks).values(
                name=name, identity=name, type=type_, state="active", created_ms=clock.now_ms(), pinned_ms=pinned_ms
            )
        )
    else:
        known = row.guarantee if row.type == type_ else None
        tx.execute(
            sa.update(t.sinks)
            .where(t.sinks.c.id == row.id)
            .values(type=type_, enabled=True, disabled_ms=None, pinned_ms=pinned_ms, guarantee=known)
        )
    found = get_sink(tx, name)
    assert found is not None
    return found


def disable_sinks_except(tx: sa.Connection, names: set[str]) -> None:
    """Mark sinks that are no longer configured or switched off; their cursors stay."""
    tx.execute(
        sa.update(t.sinks)
        .where(t.sinks.c.name.not_in(list(names)), t.sinks.c.enabled)
        .values(enabled=False, disabled_ms=clock.now_ms())
    )


def rename(tx: sa.Connection, what: str, old: str, new: str) -> bool:
    """Give a "sink" or "source" another name; its memory comes along. False where that cannot be."""
    table = {"sink": t.sinks, "source": t.sources}[what]
    names = set(tx.execute(sa.select(table.c.name)).scalars())
    if old not in names or new in names:
        return False
    tx.execute(sa.update(table).where(table.c.name == old).values(name=new))
    return True


def claim(tx: sa.Connection, sink_id: int) -> int:
    """Become the worker of the sink; from now on an earlier one may begin nothing more."""
    tx.execute(sa.update(t.sinks).where(t.sinks.c.id == sink_id).values(claim=t.sinks.c.claim + 1))
    return claimed_by(tx, sink_id)


def claimed_by(tx: sa.Connection, sink_id: int) -> int:
    """The claim of the sink's worker."""
    return int(tx.execute(sa.select(t.sinks.c.claim).where(t.sinks.c.id == sink_id)).scalar_one())


def note_configuration(tx: sa.Connection, sink_id: int, fingerprint: str) -> None:
    """A worker begins under this configuration: where it is another one than before, a probed hold is tried at once."""
    # 16 bits tell an edit from none, and are too few to try guesses of a secret on.
    key, mark = f"sink.configuration:{sink_id}", fingerprint[:4]
    known = get_meta(tx, key)
    if known == mark:
        return
    set_meta(tx, key, mark)
    if known is not None:
        held = sa.and_(t.sinks.c.id == sink_id, t.sinks.c.state == "held", t.sinks.c.probe_ms.is_not(None))
        tx.execute(sa.update(t.sinks).where(held).values(probe_ms=clock.now_ms()))


def forget_failures(tx: sa.Connection, sink_id: int) -> None:
    """A person says that the sink is mended: patience begins anew."""
    tx.execute(sa.update(t.sinks).where(t.sinks.c.id == sink_id).values(failures=0, failing_since_ms=None))


@dataclass(frozen=True, slots=True)
class Cursor:
    """A sink's place in a source's part of the log."""

    position: int
    byte: int
    left_events: int  # of the segment at `position`
    start_position: int
    start_ms: int | None = None  # while set, nothing was planned: objects before it are not owed
    start_by_age: bool = False  # `start_ms` compares with the object's age, not with the date in its key


_CURSOR = [t.cursors.c[name] for name in Cursor.__slots__]


def cursor_of(tx: sa.Connection, sink_id: int, source_id: int) -> Cursor | None:
    """The sink's place in the source, or None where it has none yet."""
    c = t.cursors.c
    row = tx.execute(sa.select(*_CURSOR).where(c.sink_id == sink_id, c.source_id == source_id)).one_or_none()
    return None if row is None else Cursor(*row)


@dataclass(frozen=True, slots=True)
class Start:
    """Where a sink begins: nothing up to `position` is owed, nor what follows there of objects before `since_ms`."""

    position: int
    since_ms: int | None = None
    by_age: bool = False


def start_cursor(tx: sa.Connection, sink_id: int, source_id: int, start: Start) -> None:
    """Give a sink its first place in a source."""
    tx.execute(
        sa.insert(t.cursors).values(
            sink_id=sink_id,
            source_id=source_id,
            start_position=start.position,
            position=start.position,
            byte=ALL,
            start_ms=start.since_ms,
            start_by_age=start.by_age,
        )
    )


def pass_by(tx: sa.Connection, sink_id: int, source_id: int) -> Cursor:
    """Move a cursor that has a start past the objects before it, up to the first that is owed: then it has begun."""
    cursor = cursor_of(tx, sink_id, source_id)
    assert cursor is not None
    if cursor.start_ms is None:
        return cursor
    owed = log.first_since(tx, source_id, cursor.position, cursor.start_ms, cursor.start_by_age)
    to = max(cursor.position, log.last_of(tx, source_id) if owed is None else owed - 1)
    tx.execute(
        sa.update(t.cursors)
        .where(t.cursors.c.sink_id == sink_id, t.cursors.c.source_id == source_id)
        .values(start_position=to, position=to, start_ms=cursor.start_ms if owed is None else None)
    )
    found = cursor_of(tx, sink_id, source_id)
    assert found is not None
    return found


def move_cursor(
    tx: sa.Connection, sink_id: int, source_id: int, position: int, byte: int, left_events: int = 0
) -> None:
    """All up to (position, byte) is planned."""
    tx.execute(
        sa.update(t.cursors)
        .where(t.cursors.c.sink_id == sink_id, t.cursors.c.source_id == source_id)
        .values(position=position, byte=byte, left_events=left_events)
    )


def set_state(
    tx: sa.Connection, sink_id: int, state: str, reason: str | None = None, probe_ms: int | None = None
) -> None:
    """active, held (with the reason and when to probe) or paused."""
    since = sa.case((t.sinks.c.state == state, t.sinks.c.since_ms), else_=clock.now_ms())
    tx.execute(
        sa.update(t.sinks)
        .where(t.sinks.c.id == sink_id)
        .values(state=state, reason=reason, probe_ms=probe_ms, since_ms=since)
    )


def note_failure(tx: sa.Connection, sink_id: int) -> SinkRow:
    """Count a failed call in a row."""
    since = sa.func.coalesce(t.sinks.c.failing_since_ms, clock.now_ms())
    tx.execute(
        sa.update(t.sinks)
        .where(t.sinks.c.id == sink_id)
        .values(failures=t.sinks.c.failures + 1, failing_since_ms=since)
    )
    return get_sink_by_id(tx, sink_id)


def note_delivered(tx: sa.Connection, sink_id: int) -> None:
    """The sink took something: failures in a row are over, a held sink is active again."""
    tx.execute(
        sa.update(t.sinks)
        .where(t.sinks.c.id == sink_id)
        .values(failures=0, failing_since_ms=None, delivered_ms=clock.now_ms(), accepted=t.sinks.c.accepted + 1)
    )


def note_guarantee(tx: sa.Connection, sink_id: int, guarantee: str) -> None:
    """Write down what an opened instance of the sink says that it keeps."""
    c = t.sinks.c
    tx.execute(
        sa.update(t.sinks).where(c.id == sink_id, c.guarantee.is_distinct_from(guarantee)).values(guarantee=guarantee)
    )


def remember_transform(tx: sa.Connection, fingerprint: str, definition: str) -> None:
    """Keep the definition behind a transform's fingerprint."""
    if (
        fingerprint
        and not tx.execute(
            sa.select(t.transforms.c.fingerprint).where(t.transforms.c.fingerprint == fingerprint)
        ).one_or_none()
    ):
        tx.execute(sa.insert(t.transforms).values(fingerprint=fingerprint, definition=definition))


def recall_transform(tx: sa.Connection, fingerprint: str) -> str:
    """The definition behind a transform's fingerprint; "" for the identity."""
    if not fingerprint:
        return ""
    found = tx.execute(sa.select(t.transforms.c.definition).where(t.transforms.c.fingerprint == fingerprint))
    return str(found.scalar_one())


def set_transform(tx: sa.Connection, sink_id: int, fingerprint: str) -> None:
    """The transform under which new batches of the sink are cut."""
    tx.execute(sa.update(t.sinks).where(t.sinks.c.id == sink_id).values(transform=fingerprint))


def new_epoch(tx: sa.Connection, sink_id: int) -> int:
    """Begin a new epoch: from now on every batch of the sink has a new id.

    Its number is a time, in seconds, so that no ledger before this one had it: a sink may know what that one sent.
    """
    epoch = max(get_sink_by_id(tx, sink_id).epoch + 1, clock.now_ms() // 1000)
    tx.execute(sa.update(t.sinks).where(t.sinks.c.id == sink_id).values(epoch=epoch))
    return epoch


def open_transforms(tx: sa.Connection, sink_id: int) -> set[str]:
    """The transforms of batches that have no end yet."""
    b = t.batches.c
    return set(tx.execute(sa.select(b.transform).where(b.sink_id == sink_id, b.state.in_(OPEN)).distinct()).scalars())
