"""Objects in the ledger: seen once per version, then indexed, unchanged, quarantined, held or gone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
import xxhash

from eventferry import clock
from eventferry.ledger import tables as t

LATER_TAKEN = "a later version was taken"
STATES = ("seen", "indexed", "unchanged", "quarantined", "held", "gone", "dropped")


@dataclass(frozen=True, slots=True)
class NewObject:
    """An object version that no run has taken before."""

    key: str
    version: str
    size: int
    modified_ms: int
    dated_ms: int | None


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """An object version as the ledger knows it."""

    id: int
    source_id: int
    key: str
    version: str
    size: int
    modified_ms: int
    dated_ms: int | None
    state: str
    reason: str | None
    attempts: int
    digest: str | None
    bytes: int | None
    events: int | None
    bad: int | None
    seen_ms: int
    next_ms: int  # not tried before


_COLUMNS = [t.objects.c[name] for name in ObjectRow.__slots__]


def hash_key(key: str) -> str:
    """A short, fixed-width stand-in for a key of any length in unique indexes."""
    return xxhash.xxh3_128_hexdigest(key.encode())


def unknown_of(tx: sa.Connection, source_id: int, listed: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Which of these (key, version) pairs were never taken."""
    hashes = {hash_key(key): key for key, _ in listed}
    rows = tx.execute(
        sa.select(t.objects.c.key_hash, t.objects.c.version).where(
            t.objects.c.source_id == source_id, t.objects.c.key_hash.in_(list(hashes))
        )
    )
    known = {(hashes[key_hash], version) for key_hash, version in rows}
    return set(listed) - known


def take(tx: sa.Connection, source_id: int, found: Iterable[NewObject]) -> None:
    """Record new object versions as seen."""
    now = clock.now_ms()
    rows = [
        {
            "source_id": source_id,
            "key": new.key,
            "key_hash": hash_key(new.key),
            "version": new.version,
            "size": new.size,
            "modified_ms": new.modified_ms,
            "dated_ms": new.dated_ms,
            "state": "seen",
            "seen_ms": now,
        }
        for new in found
    ]
    if rows:
        tx.execute(sa.insert(t.objects), rows)


def due_for_index(tx: sa.Connection, source_id: int) -> list[ObjectRow]:
    """Seen objects whose time has come, in the order in which they were taken."""
    rows = tx.execute(
        sa.select(*_COLUMNS)
        .where(t.objects.c.source_id == source_id, t.objects.c.state == "seen", t.objects.c.next_ms <= clock.now_ms())
        .order_by(t.objects.c.id)
    )
    return [ObjectRow(*row) for row in rows]


def count_attempts(tx: sa.Connection, ids: Sequence[int]) -> None:
    """Count an attempt before it starts, so that a crash is counted too."""
    tx.execute(sa.update(t.objects).where(t.objects.c.id.in_(list(ids))).values(attempts=t.objects.c.attempts + 1))


def uncount_attempt(tx: sa.Connection, object_id: int) -> None:
    """Take back a counted attempt that was cut short by somebody else."""
    tx.execute(sa.update(t.objects).where(t.objects.c.id == object_id).values(attempts=t.objects.c.attempts - 1))


def get_object(tx: sa.Connection, object_id: int) -> ObjectRow:
    """The object version of that id."""
    return ObjectRow(*tx.execute(sa.select(*_COLUMNS).where(t.objects.c.id == object_id)).one())


def indexed_before(tx: sa.Connection, source_id: int, rows: Sequence[ObjectRow]) -> dict[str, list[tuple[int, str]]]:
    """For the keys of these rows the versions whose content is in the log: key → (bytes, digest), the last one last."""
    hashes = {hash_key(row.key): row.key for row in rows}
    found = tx.execute(
        sa.select(t.objects.c.key_hash, t.objects.c.bytes, t.objects.c.digest)
        .where(
            t.objects.c.source_id == source_id,
            t.objects.c.key_hash.in_(list(hashes)),
            t.objects.c.state.in_(("indexed", "unchanged")),
        )
        .order_by(t.objects.c.finished_ms, t.objects.c.id)
    )
    versions: dict[str, list[tuple[int, str]]] = {}
    for key_hash, size, digest in found:
        versions.setdefault(hashes[key_hash], []).append((size, digest))
    return versions


@dataclass(frozen=True, slots=True)
class ObjectEnd:
    """How an object version ended: its state with its books."""

    id: int
    state: str
    reason: str | None = None
    digest: str | None = None
    bytes: int | None = None
    base: int = 0
    lines: int | None = None
    events: int | None = None
    bad: int | None = None
    blank: int | None = None
    untimed: int | None = None


_BOOKS = [name for name in ObjectEnd.__slots__ if name != "id"]
_FINISH = (
    sa.update(t.objects)
    .where(t.objects.c.id == sa.bindparam("which"))
    .values(finished_ms=sa.bindparam("now"), **{name: sa.bindparam(f"new_{name}") for name in _BOOKS})
)


def finish_objects(tx: sa.Connection, ends: Sequence[ObjectEnd]) -> None:
    """Give object versions their end states."""
    now = clock.now_ms()
    if ends:
        tx.execute(
            _FINISH,
            [{"which": end.id, "now": now} | {f"new_{name}": getattr(end, name) for name in _BOOKS} for end in ends],
        )


def postpone_object(tx: sa.Connection, object_id: int, next_ms: int, reason: str) -> None:
    """Try the object again later."""
    tx.execute(sa.update(t.objects).where(t.objects.c.id == object_id).values(next_ms=next_ms, reason=reason))


def record_bad_lines(tx: sa.Connection, object_id: int, samples: Iterable[tuple[int, int, int, str]]) -> None:
    """Keep samples of bad lines: (line, offset, length, reason)."""
    rows = [
        {"object_id": object_id, "line": line, "offset": offset, "length": length, "reason": reason}
        for line, offset, length, reason in samples
    ]
    if rows:
        tx.execute(sa.delete(t.bad_lines).where(t.bad_lines.c.object_id == object_id))
        tx.execute(sa.insert(t.bad_lines), rows)


def find_objects(
    tx: sa.Connection,
    *,
    state: str | None = None,
    key: str | None = None,
    source_id: int | None = None,
    limit: int = 100,
) -> list[ObjectRow]:
    """Objects for the `files` command, newest first."""
    query = sa.select(*_COLUMNS).order_by(t.objects.c.id.desc()).limit(limit)
    if state:
        query = query.where(t.objects.c.state == state)
    if source_id:
        query = query.where(t.objects.c.source_id == source_id)
    if key:
        query = (
            query.where(t.objects.c.key_hash == hash_key(key))
            if "*" not in key
            else query.where(t.objects.c.key.op("GLOB")(key))
        )
    return [ObjectRow(*row) for row in tx.execute(query)]


def supersede(tx: sa.Connection, source_id: int, ends: Sequence[tuple[ObjectRow, ObjectEnd]]) -> int:
    """Give up what waits of versions before these, now in the log; returns how many.

    A quarantined version is made up for by any later one. A held one, which is readable, only by one that was taken
    whole: what merely grew from the content before it, or is that content again, holds nothing of it.
    """
    quarantined = {hash_key(row.key): row.id for row, end in ends if end.state in ("indexed", "unchanged")}
    held = {hash_key(row.key): row.id for row, end in ends if end.state == "indexed" and not end.base}
    latest = {"quarantined": quarantined, "held": held}
    stopped = sa.select(t.objects.c.id, t.objects.c.key_hash, t.objects.c.state).where(
        t.objects.c.source_id == source_id, t.objects.c.key_hash.in_(list(quarantined)), t.objects.c.state.in_(latest)
    )
    over = [row.id for row in tx.execute(stopped) if row.id < latest[row.state].get(row.key_hash, 0)]
    given_up = {"state": "dropped", "reason": LATER_TAKEN, "finished_ms": clock.now_ms()}
    tx.execute(sa.update(t.objects).where(t.objects.c.id.in_(over)).values(**given_up))
    return len(over)


@dataclass(frozen=True, slots=True)
class Stopped:
    """Files that wait for a person: how many, and the last one with its reason."""

    files: int
    key: str
    reason: str | None


def stopped_in(tx: sa.Connection, source_id: int, state: str) -> Stopped | None:
    """What of the source is in that state, quarantined or held."""
    columns = (sa.func.count().over().label("files"), t.objects.c.key, t.objects.c.reason)
    where = (t.objects.c.source_id == source_id, t.objects.c.state == state)
    newest = sa.select(*columns).where(*where).order_by(t.objects.c.finished_ms.desc(), t.objects.c.id.desc()).limit(1)
    row = tx.execute(newest).one_or_none()
    return None if row is None else Stopped(*row)


def is_any_requeued(tx: sa.Connection, source_id: int) -> bool:
    """Whether a file of the source that a person asked for again has not come to its end yet."""
    again = (t.objects.c.source_id == source_id, t.objects.c.state == "seen", t.objects.c.finished_ms.is_not(None))
    return tx.execute(sa.select(t.objects.c.id).where(*again).limit(1)).first() is not None


def has_bad_lines_since(tx: sa.Connection, source_id: int, since_ms: int) -> bool:
    """Whether a file with bad lines was indexed since then."""
    where = (
        t.objects.c.source_id == source_id,
        t.objects.c.state == "indexed",
        t.objects.c.bad > 0,
        t.objects.c.finished_ms > since_ms,
    )
    return tx.execute(sa.select(t.objects.c.id).where(*where).limit(1)).first() is not None


def newest_version(tx: sa.Connection, source_id: int, key: str) -> str | None:
    """The version of the key that was seen last."""
    return tx.execute(
        sa.select(t.objects.c.version)
        .where(t.objects.c.source_id == source_id, t.objects.c.key_hash == hash_key(key))
        .order_by(t.objects.c.id.desc())
        .limit(1)
    ).scalar_one_or_none()


def is_replaced(tx: sa.Connection, object_id: int) -> bool:
    """Whether a later version of the same key, with other content and not only more of it, is in the log."""
    mine, later = t.objects.alias("mine"), t.objects.alias("later")
    same_key = (mine.c.source_id == later.c.source_id) & (mine.c.key_hash == later.c.key_hash)
    where = (mine.c.id == object_id, later.c.id > object_id, later.c.state == "indexed", later.c.base == 0)
    return tx.execute(sa.select(later.c.id).join_from(mine, later, same_key).where(*where).limit(1)).first() is not None


def count_in_state(tx: sa.Connection, source_id: int, state: str) -> int:
    """How many object versions of the source are in that state."""
    where = (t.objects.c.source_id == source_id) & (t.objects.c.state == state)
    return int(tx.execute(sa.select(sa.func.count()).select_from(t.objects).where(where)).scalar_one())


def requeue(tx: sa.Connection, object_ids: Sequence[int], reason: str | None = None) -> int:
    """Make quarantined or held objects wait for indexing again, `released` from what held them; returns how many.

    They keep the time of their former end: what is `seen` and has one was asked for again.
    """
    done = tx.execute(
        sa.update(t.objects)
        .where(t.objects.c.id.in_(list(object_ids)), t.objects.c.state.in_(("quarantined", "held")))
        .values(state="seen", attempts=0, next_ms=0, reason=reason)
    )
    return int(done.rowcount)


def drop(tx: sa.Connection, object_ids: Sequence[int]) -> int:
    """Give quarantined or held objects up; returns how many."""
    done = tx.execute(
        sa.update(t.objects)
        .where(t.objects.c.id.in_(list(object_ids)), t.objects.c.state.in_(("quarantined", "held")))
        .values(state="dropped", finished_ms=clock.now_ms())
    )
    return int(done.rowcount)
