"""Saved queries in the ledger: what dialects and people name once and export again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from eventferry import clock
from eventferry.ledger import pull_tables as t
from eventferry.ledger.exports import Owners, is_among

_q = t.saved_queries.c
_AS_JSON = ("tags", "query")


@dataclass(frozen=True, slots=True)
class SavedQuery:
    """A query under a name; `query` is as it was written: filter, timeframe, timezone, fields."""

    seq: int
    id: str
    key_id: str
    key_filter: str | None
    scope: str
    name: str
    notes: str
    tags: tuple[str, ...]
    query: Mapping[str, Any]
    created_ms: int
    modified_ms: int


_COLUMNS = [_q[name] for name in SavedQuery.__slots__]


def insert(tx: sa.Connection, **values: Any) -> SavedQuery:
    """Write a query down; `values` are columns of the table, those with JSON as plain values."""
    now = clock.now_ms()
    tx.execute(sa.insert(t.saved_queries).values(**_written(values), created_ms=now, modified_ms=now))
    made = get(tx, values["id"])
    assert made is not None
    return made


def get(tx: sa.Connection, query_id: str) -> SavedQuery | None:
    """The query of that id."""
    row = tx.execute(sa.select(*_COLUMNS).where(_q.id == query_id)).one_or_none()
    return None if row is None else _read(row)


def owners(tx: sa.Connection) -> set[tuple[str, str | None]]:
    """Every (scope, key_filter) that saved queries have."""
    return {(scope, filter_) for scope, filter_ in tx.execute(sa.select(_q.scope, _q.key_filter).distinct())}


def page(tx: sa.Connection, whose: Owners, *, limit: int, before_seq: int | None = None) -> list[SavedQuery]:
    """The newest queries, newest first, older than `before_seq`."""
    query = sa.select(*_COLUMNS).where(is_among(_q.scope, _q.key_filter, whose))
    if before_seq is not None:
        query = query.where(_q.seq < before_seq)
    return [_read(row) for row in tx.execute(query.order_by(_q.seq.desc()).limit(limit))]


def count_of_key(tx: sa.Connection, key_id: str) -> int:
    """How many queries this key has saved."""
    return int(tx.execute(sa.select(sa.func.count()).where(_q.key_id == key_id)).scalar_one())


def change(tx: sa.Connection, query_id: str, **values: Any) -> None:
    """Set columns of the query: name, notes, tags, query."""
    row = _written(values) | {"modified_ms": clock.now_ms()}
    tx.execute(sa.update(t.saved_queries).where(_q.id == query_id).values(**row))


def delete(tx: sa.Connection, query_id: str) -> None:
    """Forget the query; exports that were made from it stay."""
    tx.execute(sa.delete(t.saved_queries).where(_q.id == query_id))


def _written(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: json.dumps(value) if key in _AS_JSON else value for key, value in values.items()}


def _read(row: Any) -> SavedQuery:
    values = row._asdict()
    values |= {key: json.loads(values[key]) for key in _AS_JSON}
    return SavedQuery(**{**values, "tags": tuple(values["tags"])})
