"""Requests: what people ask of the daemon from the command line."""

import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from eventferry import clock
from eventferry.ledger import tables as t

_r = t.requests.c


@dataclass(frozen=True, slots=True)
class Request:
    """One request and, once carried out, its result."""

    id: int
    kind: str
    args: dict[str, Any]
    created_ms: int
    done_ms: int | None
    ok: bool | None
    result: str | None


def _read(row: Any) -> Request:
    return Request(row.id, row.kind, json.loads(row.args), row.created_ms, row.done_ms, row.ok, row.result)


_COLUMNS = [_r.id, _r.kind, _r.args, _r.created_ms, _r.done_ms, _r.ok, _r.result]


def ask(tx: sa.Connection, kind: str, **args: Any) -> int:
    """Write a request down; returns its number."""
    done = tx.execute(sa.insert(t.requests).values(kind=kind, args=json.dumps(args), created_ms=clock.now_ms()))
    assert done.inserted_primary_key is not None
    return int(done.inserted_primary_key[0])


def waiting(tx: sa.Connection) -> list[Request]:
    """Requests that nobody has carried out yet, oldest first."""
    return [_read(row) for row in tx.execute(sa.select(*_COLUMNS).where(_r.done_ms.is_(None)).order_by(_r.id))]


def answer(tx: sa.Connection, request_id: int, ok: bool, result: str) -> None:
    """Record how a request ended."""
    tx.execute(sa.update(t.requests).where(_r.id == request_id).values(done_ms=clock.now_ms(), ok=ok, result=result))


def get(tx: sa.Connection, request_id: int) -> Request:
    """The request of that number."""
    return _read(tx.execute(sa.select(*_COLUMNS).where(_r.id == request_id)).one())
