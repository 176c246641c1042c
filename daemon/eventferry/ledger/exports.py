"""Exports in the ledger: from queued through running to their end, each step one short transaction."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from eventferry import clock
from eventferry.ledger import pull_tables as t

_e, _f = t.exports.c, t.export_files.c

UNDER_WAY = ("queued", "running")
# The longest time that an export is put off for.
LONGEST_PAUSE_MS = 300_000
_AS_JSON = ("tags", "details", "asked", "selection", "output", "destination", "notify")


@dataclass(frozen=True, slots=True)
class ExportRow:
    """One export; what the table holds as JSON is parsed here. The columns say what each means."""

    seq: int
    id: str
    key_id: str | None
    key_filter: str | None
    scope: str
    dialect: str
    name: str
    notes: str
    tags: tuple[str, ...]
    details: Mapping[str, Any]
    asked: Mapping[str, Any]
    selection: Mapping[str, Any]
    output: Mapping[str, Any]
    destination: Mapping[str, Any]
    notify: Mapping[str, Any]
    as_of: int
    state: str
    reason: str | None
    attempts: int
    kills: int
    interruptions: int
    next_ms: int
    troubled_ms: int | None
    cancelled: bool
    percent: int
    events: int
    bytes: int
    files: int
    created_ms: int
    modified_ms: int
    started_ms: int | None
    finished_ms: int | None
    expires_ms: int | None
    deleted_ms: int | None
    place: str | None
    idempotency_key: str | None
    request_digest: str | None
    schedule: str | None


@dataclass(frozen=True, slots=True)
class FileRow:
    """One file of a finished export."""

    name: str
    number: int
    events: int
    bytes: int
    sha256: str


# Whose exports a caller may see: (scope, key_filter) as stored; None: everybody's.
Owners = Collection[tuple[str, str | None]] | None

_COLUMNS = [_e[name] for name in ExportRow.__slots__]  # all but the credentials: they are asked for alone


def insert(tx: sa.Connection, *, credentials: bytes | None = None, **values: Any) -> ExportRow:
    """Write a new export down as queued; `values` are columns of the table, those with JSON as plain values."""
    now = clock.now_ms()
    row = {key: json.dumps(value) if key in _AS_JSON else value for key, value in values.items()}
    row |= {"state": "queued", "created_ms": now, "modified_ms": now, "credentials": credentials}
    tx.execute(sa.insert(t.exports).values(**row))
    made = get(tx, values["id"])
    assert made is not None
    return made


def get(tx: sa.Connection, export_id: str) -> ExportRow | None:
    """The export of that id, a deleted one too."""
    return _one(tx, _e.id == export_id)


def find_idempotent(tx: sa.Connection, key_id: str, idempotency_key: str) -> ExportRow | None:
    """The export that this key made under that Idempotency-Key."""
    return _one(tx, _e.key_id == key_id, _e.idempotency_key == idempotency_key)


def owners(tx: sa.Connection) -> set[tuple[str, str | None]]:
    """Every (scope, key_filter) that exports have."""
    return {(scope, filter_) for scope, filter_ in tx.execute(sa.select(_e.scope, _e.key_filter).distinct())}


def page(
    tx: sa.Connection,
    whose: Owners,
    *,
    limit: int,
    before_seq: int | None = None,
    state: str | None = None,
    dialect: str | None = None,
    tag: str | None = None,
    schedule: str | None = None,
    name: str | None = None,
    created_from: int | None = None,
    created_to: int | None = None,
) -> list[ExportRow]:
    """The newest exports that are not deleted, newest first, before `before_seq`; created in epoch ms, half-open."""
    query = sa.select(*_COLUMNS).where(_e.deleted_ms.is_(None), is_among(_e.scope, _e.key_filter, whose))
    for column, value in ((_e.state, state), (_e.dialect, dialect), (_e.schedule, schedule), (_e.name, name)):
        if value is not None:
            query = query.where(column == value)
    if created_from is not None:
        query = query.where(_e.created_ms >= created_from)
    if created_to is not None:
        query = query.where(_e.created_ms < created_to)
    if before_seq is not None:
        query = query.where(_e.seq < before_seq)
    if tag is not None:
        query = query.where(_has_tag(tag))
    return [_read(row) for row in tx.execute(query.order_by(_e.seq.desc()).limit(limit))]


def _has_tag(tag: str) -> sa.ColumnElement[bool]:
    # By what replacing it changes, because LIKE takes no notice of case. Every element stands behind a comma here.
    listed = sa.literal(", ") + sa.func.substr(_e.tags, 2)
    return sa.func.replace(listed, f", {json.dumps(tag)}", "") != listed


def is_among(scope: sa.Column[str], key_filter: sa.Column[str], whose: Owners) -> sa.ColumnElement[bool]:
    """The condition that a row belongs to one of `whose`."""
    if whose is None:
        return sa.true()
    # One list for each filter: a term for each owner would be a deeper expression than SQLite takes.
    by_filter: dict[str | None, list[str]] = {}
    for each, filter_ in whose:
        by_filter.setdefault(filter_, []).append(each)
    mine = (sa.and_(scope.in_(each), key_filter.is_not_distinct_from(filter_)) for filter_, each in by_filter.items())
    return sa.or_(sa.false(), *mine)


def under_way(tx: sa.Connection, state: str = "running") -> list[ExportRow]:
    """The exports that are running, or queued, oldest first."""
    return [_read(row) for row in tx.execute(sa.select(*_COLUMNS).where(_e.state == state).order_by(_e.seq))]


def next_queued(tx: sa.Connection, running_per_key: int, turns: Sequence[str | None] = ()) -> ExportRow | None:
    """The export to begin next: the oldest of a key with the fewest at work, and less than the limit.

    Of several such keys it is the one whose turn was the longest ago: `turns` are the keys that had one, the last one
    at the end.
    """
    per_key = sa.select(_e.key_id, sa.func.count()).where(_e.state == "running").group_by(_e.key_id)
    running: dict[str | None, int] = {row[0]: row[1] for row in tx.execute(per_key)}
    now = clock.now_ms()
    due = sa.or_(_e.next_ms <= now, _e.next_ms > now + LONGEST_PAUSE_MS)  # else the clock was wrong
    heads = sa.select(_e.key_id, sa.func.min(_e.seq)).where(_e.state == "queued", due).group_by(_e.key_id)
    turn = {key_id: number for number, key_id in enumerate(turns)}
    waiting = [
        (running.get(key_id, 0), turn.get(key_id, -1), seq)
        for key_id, seq in tx.execute(heads)
        if running.get(key_id, 0) < running_per_key
    ]
    return _one(tx, _e.seq == min(waiting)[-1]) if waiting else None


def count_queued(tx: sa.Connection, key_id: str | None) -> int:
    """How many exports of that key wait for their turn."""
    mine = sa.select(sa.func.count()).where(_e.state == "queued", _e.key_id.is_not_distinct_from(key_id))
    return int(tx.execute(mine).scalar_one())


def credentials(tx: sa.Connection, export_id: str) -> bytes | None:
    """The requester's store credentials, encrypted as they are stored."""
    found: bytes | None = tx.execute(sa.select(_e.credentials).where(_e.id == export_id)).scalar_one()
    return found


def start(tx: sa.Connection, export_id: str) -> None:
    """The export is at work from now on; the attempt counts before it begins."""
    began = sa.func.coalesce(_e.started_ms, clock.now_ms())
    _change(tx, export_id, state="running", attempts=_e.attempts + 1, started_ms=began, reason=None)


def put_back(tx: sa.Connection, export_id: str, *, next_ms: int = 0, **counts: Any) -> None:
    """Queue a running export again, not before `next_ms`; `counts` are columns to set, such as kills."""
    _change(tx, export_id, state="queued", next_ms=next_ms, **counts)


def note_progress(tx: sa.Connection, export_id: str, *, events: int, bytes_: int, percent: int) -> None:
    """How far a running export is; what was told before is never taken back."""
    found = {"events": events, "bytes": bytes_, "percent": min(percent, 99)}
    more = {name: sa.case((_e[name] < value, value), else_=_e[name]) for name, value in found.items()}
    tx.execute(sa.update(t.exports).where(_e.id == export_id, _e.state == "running").values(**more))


def complete(tx: sa.Connection, export_id: str, files: Sequence[FileRow], *, keep_ms: int) -> None:
    """The export is finished with these files, which are kept for `keep_ms` from now."""
    events, size = sum(each.events for each in files), sum(each.bytes for each in files)
    now = clock.now_ms()
    figures = {"events": events, "bytes": size, "files": len(files), "percent": 100}
    if not _end(tx, export_id, "complete", finished_ms=now, expires_ms=now + keep_ms, **figures):
        return
    for each in files:
        values = {name: getattr(each, name) for name in FileRow.__slots__}
        tx.execute(sa.insert(t.export_files).values(export_id=export_id, **values))


def fail(tx: sa.Connection, export_id: str, reason: str) -> None:
    """The export has failed for that reason, a sentence for its requester."""
    _end(tx, export_id, "failed", reason=reason)


def ask_cancel(tx: sa.Connection, export_id: str) -> None:
    """A queued export is cancelled at once; a running one when its worker has obeyed."""
    row = get(tx, export_id)
    if row is not None and row.state == "queued":
        _end(tx, export_id, "cancelled", cancelled=True)
    elif row is not None and row.state == "running":
        _change(tx, export_id, cancelled=True)


def cancel(tx: sa.Connection, export_id: str) -> None:
    """The worker has obeyed."""
    _end(tx, export_id, "cancelled")


def delete(tx: sa.Connection, export_id: str) -> None:
    """The export is nobody's any more; its Idempotency-Key may be used anew."""
    ask_cancel(tx, export_id)
    _change(tx, export_id, deleted_ms=clock.now_ms(), idempotency_key=None)


def expired(tx: sa.Connection, now_ms: int) -> list[str]:
    """Ids of complete exports whose time is over."""
    over = sa.select(_e.id).where(_e.state == "complete", _e.expires_ms <= now_ms).order_by(_e.seq)
    return list(tx.execute(over).scalars())


def expire(tx: sa.Connection, export_id: str) -> None:
    """The export's files are gone from now on."""
    over = sa.update(t.exports).where(_e.id == export_id, _e.state == "complete")
    tx.execute(over.values(state="expired", modified_ms=clock.now_ms()))


def with_files(tx: sa.Connection) -> set[str]:
    """The exports whose files must stay on the disk: those under way, and complete ones that lie there."""
    kept = _e.state.in_(UNDER_WAY) | ((_e.state == "complete") & _e.deleted_ms.is_(None) & _e.place.is_(None))
    return set(tx.execute(sa.select(_e.id).where(kept)).scalars())


def set_place(tx: sa.Connection, export_id: str, place: str | None) -> None:
    """Objects of the export may lie there from now on; None: they do not any more."""
    tx.execute(sa.update(t.exports).where(_e.id == export_id).values(place=place))


def with_needless_objects(tx: sa.Connection, place: str) -> list[str]:
    """The exports that have none to have, and of which objects may lie at that place, oldest first."""
    kept = _e.state.in_(UNDER_WAY) | ((_e.state == "complete") & _e.deleted_ms.is_(None))
    needless = sa.select(_e.id).where(_e.place == place, sa.not_(kept)).order_by(_e.seq)
    return list(tx.execute(needless).scalars())


def files(tx: sa.Connection, export_id: str) -> list[FileRow]:
    """The files of a finished export, in their order."""
    columns = [_f[name] for name in FileRow.__slots__]
    found = tx.execute(sa.select(*columns).where(_f.export_id == export_id).order_by(_f.number))
    return [FileRow(*row) for row in found]


def forget(tx: sa.Connection, ids: Sequence[int]) -> int:
    """Delete exports, given by seq, with their files and notices; returns how many."""
    names = sa.select(_e.id).where(_e.seq.in_(ids))
    for table in (t.export_files, t.export_notices):
        tx.execute(sa.delete(table).where(table.c.export_id.in_(names)))
    return int(tx.execute(sa.delete(t.exports).where(_e.seq.in_(ids))).rowcount)


def is_forgettable(before_ms: int) -> sa.ColumnElement[bool]:
    """The condition that an export has no files, ended, and was last changed before that."""
    over = _e.state.in_(("failed", "cancelled", "expired")) | _e.deleted_ms.is_not(None)
    return over & sa.not_(_e.state.in_(UNDER_WAY)) & (_e.modified_ms < before_ms)


def _end(tx: sa.Connection, export_id: str, state: str, **values: Any) -> bool:
    """Whether it had not ended before. An end is for good, and the requester's credentials go with it."""
    open_ = (_e.id == export_id) & _e.state.in_(UNDER_WAY)
    now = clock.now_ms()
    row: dict[str, Any] = {"finished_ms": now, "modified_ms": now, "credentials": None, "reason": None, **values}
    return tx.execute(sa.update(t.exports).where(open_).values(state=state, **row)).rowcount == 1


def _change(tx: sa.Connection, export_id: str, **values: Any) -> None:
    tx.execute(sa.update(t.exports).where(_e.id == export_id).values(modified_ms=clock.now_ms(), **values))


def _one(tx: sa.Connection, *where: sa.ColumnElement[bool]) -> ExportRow | None:
    row = tx.execute(sa.select(*_COLUMNS).where(*where)).one_or_none()
    return None if row is None else _read(row)


def _read(row: Any) -> ExportRow:
    values = row._asdict()
    values |= {key: json.loads(values[key]) for key in _AS_JSON}
    return ExportRow(**{**values, "tags": tuple(values["tags"])})
