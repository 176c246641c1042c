"""The exports in figures, for status."""

from dataclasses import dataclass

import sqlalchemy as sa

from eventferry.ledger import pull_tables as t

_e = t.exports.c


@dataclass(frozen=True, slots=True)
class Counts:
    """The exports in figures; failed ones of the time since a given moment; bytes of files on the disk."""

    queued: int
    running: int
    failed: int
    bytes: int


_by_state = sa.select(_e.state, sa.func.count().label("n")).group_by(_e.state)


def counts(tx: sa.Connection, since_ms: int) -> Counts:
    """How many exports wait, run, and have failed since then."""
    by_state: dict[str, int] = {row.state: row.n for row in tx.execute(_by_state)}
    failed = sa.select(sa.func.count()).where(_e.state == "failed", _e.finished_ms >= since_ms)
    held = sa.select(sa.func.coalesce(sa.func.sum(_e.bytes), 0)).where(_is_held())
    return Counts(
        queued=by_state.get("queued", 0),
        running=by_state.get("running", 0),
        failed=int(tx.execute(failed).scalar_one()),
        bytes=int(tx.execute(held).scalar_one()),
    )


def _is_held() -> sa.ColumnElement[bool]:
    return sa.and_(
        _e.state == "complete", _e.deleted_ms.is_(None), _e.destination.contains('"managed"', autoescape=True)
    )
