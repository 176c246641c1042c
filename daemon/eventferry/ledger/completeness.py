"""Whether the log holds a range of time wholly: which files of it still wait, and how far runs have looked."""

from collections.abc import Sequence

import sqlalchemy as sa

from eventferry.ledger import tables as t

_WAITING = ("seen", "quarantined", "held")


def has_waiting_files(tx: sa.Connection, source_ids: Sequence[int], start_ms: int | None, end_ms: int | None) -> bool:
    """Whether a file of the sources that may hold events of the range is known, but not in the log.

    Files are taken by the date in their keys, from `start_ms` (of the day's begin) to `end_ms`; those without any date.
    """
    c = t.objects.c
    where: list[sa.ColumnElement[bool]] = [c.source_id.in_(list(source_ids)), c.state.in_(_WAITING)]
    if start_ms is not None:
        where.append(c.dated_ms.is_(None) | (c.dated_ms >= start_ms))
    if end_ms is not None:
        where.append(c.dated_ms.is_(None) | (c.dated_ms < end_ms))
    return tx.execute(sa.select(c.id).where(*where).limit(1)).first() is not None


def looked_ms(tx: sa.Connection, source_id: int) -> int:
    """When the last run began that took all there was; epoch ms, 0 where there was none."""
    c = t.runs.c
    whole = (c.source_id == source_id) & c.finished_ms.is_not(None) & c.error.is_(None) & c.limited.is_(sa.false())
    return tx.execute(sa.select(sa.func.max(c.started_ms)).where(whole)).scalar_one() or 0
