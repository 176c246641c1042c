"""What is to be told of ended exports, written with the end itself: pending → sent | failed."""

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from eventferry.ledger import pull_tables as t

_n = t.export_notices.c

# The longest time between two tries.
LONGEST_PAUSE_MS = 7_200_000


@dataclass(frozen=True, slots=True)
class NoticeRow:
    """One notice to one address; kind is email or webhook."""

    id: int
    export_id: str
    kind: str
    address: str
    state: str
    attempts: int
    next_ms: int
    error: str | None


_COLUMNS = [_n[name] for name in NoticeRow.__slots__]


def insert(tx: sa.Connection, export_id: str, addresses: Iterable[tuple[str, str]]) -> None:
    """Write notices down as pending, each given as (kind, address)."""
    for kind, address in addresses:
        values = {"export_id": export_id, "kind": kind, "address": address, "state": "pending"}
        tx.execute(sa.insert(t.export_notices).values(**values))


def due(tx: sa.Connection, now_ms: int, limit: int) -> list[NoticeRow]:
    """Pending notices whose time has come, the one that has waited longest first."""
    is_due = sa.or_(_n.next_ms <= now_ms, _n.next_ms > now_ms + LONGEST_PAUSE_MS)  # else the clock was wrong
    query = sa.select(*_COLUMNS).where(_n.state == "pending", is_due)
    return [NoticeRow(*row) for row in tx.execute(query.order_by(_n.next_ms, _n.id).limit(limit))]


def of_export(tx: sa.Connection, export_id: str) -> list[NoticeRow]:
    """The notices of an export, in the order in which they were written."""
    return [
        NoticeRow(*row) for row in tx.execute(sa.select(*_COLUMNS).where(_n.export_id == export_id).order_by(_n.id))
    ]


def note_sent(tx: sa.Connection, notice_id: int) -> None:
    """The notice was taken."""
    _change(tx, notice_id, state="sent", error=None)


def note_failed(tx: sa.Connection, notice_id: int, error: str, next_ms: int | None) -> None:
    """The notice was not taken; it is tried again then, or, with None, never."""
    state = "failed" if next_ms is None else "pending"
    _change(tx, notice_id, state=state, error=error, next_ms=next_ms or 0)


def drop(tx: sa.Connection, notice_id: int) -> None:
    """There is nothing left to tell."""
    _change(tx, notice_id, state="failed", error="the export was deleted")


def _change(tx: sa.Connection, notice_id: int, **values: object) -> None:
    counted = {"attempts": _n.attempts + 1, **values}
    tx.execute(sa.update(t.export_notices).where(_n.id == notice_id).values(**counted))
