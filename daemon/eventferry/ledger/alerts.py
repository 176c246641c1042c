"""Alerts in the ledger: what is wrong now, and the messages it makes, written in the transaction of the change.

A condition opens once per cause; only its opening, a raised level, its reminders and its end make messages. All
functions run inside the caller's transaction.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import sqlalchemy as sa

from eventferry import clock
from eventferry.ledger import tables as t
from eventferry.logs import redact

_c = t.conditions.c
_m = t.messages.c

LEVELS = ("debug", "info", "warning", "error")
# How a condition ends: its cause is proven gone, or a person decided that it is none any more.
ENDS = ("recovered", "over")
# Reminders written in one go: the rest follow in the next.
REMINDERS = 500
TEXT_LIMIT = 4000
# What is so when conditions are over that end in several ways, whoever ends them.
_ENDED = {
    "sink.held": "Sink {name} is held no more",
    "events.dead": "No dead letter of sink {name} waits any more",
}


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is wrong now, or was."""

    cause: str
    level: str
    event: str
    subject: str
    detail: str
    command: str
    fields: Mapping[str, Any]
    count: int
    opened_ms: int
    changed_ms: int
    messaged_ms: int | None
    resolved_ms: int | None


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message to people as the ledger holds it."""

    id: int
    cause: str
    kind: str
    level: str
    event: str
    subject: str
    detail: str
    command: str
    fields: Mapping[str, Any]
    since_ms: int
    count: int
    created_ms: int


_CONDITION = [_c[name] for name in Condition.__slots__]
MESSAGE_COLUMNS = [_m.id, _m.cause, _m.kind, _m.level, _m.event, _m.payload, _m.created_ms]

# Built once: a source may report the same bad lines a hundred thousand times.
_FIND_OPEN = sa.select(_c.level, _c["count"].label("seen")).where(
    _c.cause == sa.bindparam("which"), _c.resolved_ms.is_(None)
)
_COUNT_AGAIN = (
    sa.update(t.conditions)
    .where(_c.cause == sa.bindparam("which"))
    .values(
        count=_c["count"] + sa.bindparam("more"),
        changed_ms=sa.bindparam("now"),
        subject=sa.bindparam("sentence"),
        command=sa.bindparam("run"),
        detail=sa.func.coalesce(sa.func.nullif(sa.bindparam("text"), ""), _c.detail),
        fields=sa.func.coalesce(sa.func.nullif(sa.bindparam("values"), "{}"), _c.fields),
        repeat_ms=sa.func.coalesce(sa.bindparam("repeat", type_=sa.BigInteger), _c.repeat_ms),
    )
)


def open_condition(
    tx: sa.Connection,
    *,
    cause: str,
    level: str,
    event: str,
    subject: str,
    detail: str = "",
    command: str = "",
    fields: Mapping[str, Any] | None = None,
    repeat_every_ms: int | None = None,
    times: int = 1,
) -> bool:
    """Say that `cause` is so. Whether that wrote a message: at first, and when the level rises; else it is counted.

    `level` is warning or error; `subject` one sentence for people; `command` what to run now; `repeat_every_ms` its
    own interval between reminders, 0 for none; `times` how often it was seen, 0 where only its words change. What is
    told of it later are the words of the last report, all of them, so that they fit each other.
    """
    assert level in ("warning", "error"), level
    now = clock.now_ms()
    text, values = _text(detail), _dump(fields or {})
    found = tx.execute(_FIND_OPEN, {"which": cause}).one_or_none()
    if found is not None and LEVELS.index(level) <= LEVELS.index(found.level):
        again = {"which": cause, "now": now, "text": text, "values": values, "repeat": repeat_every_ms}
        again |= {"more": times, "sentence": _text(subject), "run": _text(command)}
        tx.execute(_COUNT_AGAIN, again)
        return False
    if found is not None and not fields:
        values = _dump(_whom(_get(tx, cause).fields))
    row: dict[str, Any] = {"level": level, "event": event, "detail": text, "fields": values}
    row |= {"subject": _text(subject), "command": _text(command), "changed_ms": now, "messaged_ms": now}
    row |= {"count": max(1, times), "opened_ms": now} if found is None else {"count": found.seen + times}
    row |= {"repeat_ms": repeat_every_ms, "resolved_ms": None}
    if tx.execute(sa.update(t.conditions).where(_c.cause == cause).values(**row)).rowcount == 0:
        tx.execute(sa.insert(t.conditions).values(cause=cause, **row))
    _write_about(tx, _get(tx, cause), "problem", now)
    return True


def close_condition(tx: sa.Connection, cause: str, detail: str = "", *, subject: str = "", proven: bool = True) -> bool:
    """Say that `cause` is over. Whether it was open: then a message says so. Cheap when it was not.

    That is a recovery only where something proved it; what a person ended is merely over. `subject` is what is so now;
    the message tells that instead of what was wrong, and none of the numbers that were true then.
    """
    if tx.execute(_FIND_OPEN, {"which": cause}).one_or_none() is None:
        return False
    now = clock.now_ms()
    changes = {"resolved_ms": now, "changed_ms": now, "detail": _text(detail)}
    tx.execute(sa.update(t.conditions).where(_c.cause == cause).values(**changes))
    was = _get(tx, cause)
    name = cause.partition(":")[2]
    subject = subject or (_ENDED[was.event].format(name=name) if name and was.event in _ENDED else was.subject)
    end = replace(was, subject=_text(subject), fields=_whom(was.fields))
    _write_about(tx, end, "recovered" if proven else "over", now)
    return True


def _whom(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Of what was known about a condition that which stays true: whom it is about."""
    return {key: fields[key] for key in ("source", "sink") if key in fields}


def write_notice(
    tx: sa.Connection,
    *,
    event: str,
    level: str,
    subject: str,
    detail: str = "",
    command: str = "",
    fields: Mapping[str, Any] | None = None,
    cause: str = "",
    kind: str = "notice",
) -> int:
    """Write one message that has no end to wait for; returns its number."""
    now = clock.now_ms()
    payload = {"subject": subject, "detail": detail, "command": command, "fields": dict(fields or {})}
    return _write(tx, cause or event, kind, level, event, payload | {"since_ms": now, "count": 1}, now)


def open_conditions(tx: sa.Connection) -> list[Condition]:
    """What is wrong now, oldest first."""
    rows = tx.execute(sa.select(*_CONDITION).where(_c.resolved_ms.is_(None)).order_by(_c.opened_ms, _c.cause))
    return [_condition(row) for row in rows]


def changed_conditions(tx: sa.Connection, since_ms: int) -> list[Condition]:
    """What is wrong now or was since then, oldest first: the stuff of a digest."""
    recent = sa.or_(_c.resolved_ms.is_(None), _c.changed_ms >= since_ms)
    return [_condition(row) for row in tx.execute(sa.select(*_CONDITION).where(recent).order_by(_c.opened_ms))]


def notices_since(tx: sa.Connection, since_ms: int, level: str = "warning") -> list[StoredMessage]:
    """Notices of that level written since then, oldest first."""
    chosen = (_m.kind == "notice", _m.level == level, _m.created_ms >= since_ms)
    return [read_message(row) for row in tx.execute(sa.select(*MESSAGE_COLUMNS).where(*chosen).order_by(_m.id))]


def last_message_ms(tx: sa.Connection, cause: str) -> int | None:
    """When a message about `cause` was last written."""
    newest = sa.select(sa.func.max(_m.created_ms)).where(_m.cause == cause)
    return cast(int | None, tx.execute(newest).scalar_one())


def reminders_due(tx: sa.Connection, now_ms: int, repeat_every_ms: int, limit: int = REMINDERS) -> list[Condition]:
    """Open conditions about which nothing was said for their interval, oldest first."""
    every = sa.func.coalesce(_c.repeat_ms, repeat_every_ms)
    due = sa.func.coalesce(_c.messaged_ms, _c.opened_ms) + every <= now_ms
    query = sa.select(*_CONDITION).where(_c.resolved_ms.is_(None), every != 0, due)
    return [_condition(row) for row in tx.execute(query.order_by(_c.opened_ms, _c.cause).limit(limit))]


def due_reminders(tx: sa.Connection, now_ms: int, repeat_every_ms: int) -> int:
    """Write a reminder about each open condition that has been silent for its interval; returns how many."""
    due = reminders_due(tx, now_ms, repeat_every_ms)
    for condition in due:
        tx.execute(sa.update(t.conditions).where(_c.cause == condition.cause).values(messaged_ms=now_ms))
        _write_about(tx, condition, "reminder", now_ms)
    return len(due)


def _get(tx: sa.Connection, cause: str) -> Condition:
    return _condition(tx.execute(sa.select(*_CONDITION).where(_c.cause == cause)).one())


def _condition(row: Any) -> Condition:
    return Condition(**{**row._asdict(), "fields": json.loads(row.fields)})


def _write_about(tx: sa.Connection, condition: Condition, kind: str, now: int) -> int:
    payload = {
        "subject": condition.subject,
        "detail": condition.detail,
        "command": condition.command,
        "fields": condition.fields,
        "since_ms": condition.opened_ms,
        "count": condition.count,
    }
    return _write(tx, condition.cause, kind, condition.level, condition.event, payload, now)


def _write(
    tx: sa.Connection, cause: str, kind: str, level: str, event: str, payload: Mapping[str, Any], now: int
) -> int:
    assert level in LEVELS, level
    row = {"cause": cause, "kind": kind, "level": level, "event": event, "created_ms": now, "routed": False}
    done = tx.execute(sa.insert(t.messages).values(**row, payload=_dump(payload)))
    assert done.inserted_primary_key is not None
    return int(done.inserted_primary_key[0])


def read_message(row: Any) -> StoredMessage:
    """The message of a row of MESSAGE_COLUMNS."""
    payload = json.loads(row.payload)
    return StoredMessage(row.id, row.cause, row.kind, row.level, row.event, created_ms=row.created_ms, **payload)


def _text(text: str) -> str:
    """Redacted before it is stored: the ledger is copied and backed up, too."""
    text = redact(text)
    return text if len(text) <= TEXT_LIMIT else f"{text[: TEXT_LIMIT - 1]}…"


def _dump(values: Mapping[str, Any]) -> str:
    return json.dumps({key: _clean(value) for key, value in values.items()})


def _clean(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _clean(one) for key, one in value.items()}
    return value if value is None or isinstance(value, bool | int | float) else _text(str(value))


def close_conditions_of(tx: sa.Connection, subject: str, names: Collection[str], detail: str) -> int:
    """Close what is open about sinks or sources (`subject`) of these names, which nobody looks after any more."""
    closed = 0
    for condition in open_conditions(tx):
        about = condition.fields.get(subject)
        if about in names:
            told = f"No longer followed, {subject} {about} being switched off or not configured: {condition.subject}"
            closed += close_condition(tx, condition.cause, detail, subject=told, proven=False)
    return closed


def find_open(tx: sa.Connection, cause: str) -> Condition | None:
    """The condition of that cause, where it is open."""
    query = sa.select(*_CONDITION).where(_c.cause == cause, _c.resolved_ms.is_(None))
    row = tx.execute(query).one_or_none()
    return None if row is None else _condition(row)


def opened_ms(tx: sa.Connection, cause: str) -> int | None:
    """Since when the condition is open; None where it is not."""
    query = sa.select(t.conditions.c.opened_ms).where(
        t.conditions.c.cause == cause, t.conditions.c.resolved_ms.is_(None)
    )
    return tx.execute(query).scalar_one_or_none()
