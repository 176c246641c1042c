"""Sources in the ledger: their identity, their listing cursors, their runs."""

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from eventferry import clock
from eventferry.errors import ConfigError
from eventferry.ledger import tables as t


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A source as the ledger knows it."""

    id: int
    name: str
    identity: str
    root: str
    floor_ms: int
    relisted_ms: int | None


def get_source(tx: sa.Connection, name: str) -> SourceRow | None:
    """The source of that name, or None."""
    row = tx.execute(
        sa.select(
            t.sources.c.id,
            t.sources.c.name,
            t.sources.c.identity,
            t.sources.c.root,
            t.sources.c.floor_ms,
            t.sources.c.relisted_ms,
        ).where(t.sources.c.name == name)
    ).one_or_none()
    return None if row is None else SourceRow(*row)


def source_names(tx: sa.Connection) -> dict[str, int]:
    """Every source ever registered: name → id."""
    return {row.name: row.id for row in tx.execute(sa.select(t.sources.c.name, t.sources.c.id))}


def register_source(
    tx: sa.Connection,
    name: str,
    root: str,
    floor_ms: int,
    *,
    renamed_from: str | None = None,
    moved_from: str | None = None,
) -> SourceRow:
    """Find or create the source. Raises ConfigError where its root changed without `moved_from`."""
    if renamed_from and get_source(tx, name) is None and (old := get_source(tx, renamed_from)):
        tx.execute(sa.update(t.sources).where(t.sources.c.id == old.id).values(name=name))
    row = get_source(tx, name)
    if row is None:
        tx.execute(
            sa.insert(t.sources).values(
                name=name, identity=name, root=root, floor_ms=floor_ms, created_ms=clock.now_ms()
            )
        )
        created = get_source(tx, name)
        assert created is not None
        return created
    check_root(tx, row, root, moved_from)
    if row.root != root:
        tx.execute(sa.update(t.sources).where(t.sources.c.id == row.id).values(root=root))
    return row


def check_root(tx: sa.Connection, row: SourceRow, root: str, moved_from: str | None) -> None:
    """Refuse another root than the one on record, unless the move is declared. Raises ConfigError.

    Where nothing was ever found, the old root was a slip: there is nothing that could be confused.
    """
    if row.root == root or not _has_memory(tx, row.id):
        return
    if moved_from is None or moved_from.rstrip("/") not in (row.root, row.root.removeprefix("file://")):
        raise ConfigError(
            f"sources.{row.name}.url: {root!r} is not where this source was until now ({row.root}); "
            f'if the same files were moved there, add moved_from = "{row.root}"; '
            "if they are others, give the source another name"
        )


def _has_memory(tx: sa.Connection, source_id: int) -> bool:
    """Whether files of the source were ever seen, even if they are pruned by now."""
    seen = (sa.select(table.c.source_id).where(table.c.source_id == source_id) for table in (t.objects, t.partitions))
    return any(tx.execute(each.limit(1)).first() is not None for each in seen)


def floor_of(tx: sa.Connection, source_id: int) -> int:
    """The date before which objects of the source are not taken; pruning raises it."""
    return int(tx.execute(sa.select(t.sources.c.floor_ms).where(t.sources.c.id == source_id)).scalar_one())


def created_of(tx: sa.Connection, source_id: int) -> int:
    """When the source was first seen."""
    return int(tx.execute(sa.select(t.sources.c.created_ms).where(t.sources.c.id == source_id)).scalar_one())


def partition_cursors(tx: sa.Connection, source_id: int) -> dict[str, tuple[int, str]]:
    """partition → (date of the newest key taken in epoch ms, that key)."""
    rows = tx.execute(
        sa.select(t.partitions.c.partition, t.partitions.c.dated_ms, t.partitions.c.key).where(
            t.partitions.c.source_id == source_id
        )
    )
    return {partition: (dated_ms, key) for partition, dated_ms, key in rows}


def move_partition_cursors(tx: sa.Connection, source_id: int, moved: Mapping[str, tuple[int, str]]) -> None:
    """Move listing cursors forward, never back."""
    known = partition_cursors(tx, source_id)
    for partition, (dated_ms, key) in moved.items():
        where = (t.partitions.c.source_id == source_id) & (t.partitions.c.partition == partition)
        if partition not in known:
            tx.execute(
                sa.insert(t.partitions).values(source_id=source_id, partition=partition, dated_ms=dated_ms, key=key)
            )
        elif (dated_ms, key) > known[partition]:
            tx.execute(sa.update(t.partitions).where(where).values(dated_ms=dated_ms, key=key))


def note_relisted(tx: sa.Connection, source_id: int, foreign_keys: int) -> None:
    """The whole store was listed."""
    tx.execute(
        sa.update(t.sources)
        .where(t.sources.c.id == source_id)
        .values(relisted_ms=clock.now_ms(), foreign_keys=foreign_keys)
    )


def relist_due_ms(tx: sa.Connection, source_id: int, every_ms: int) -> int:
    """When the whole store is to be listed next: so long after the last time, or after the source was first seen."""
    row = tx.execute(
        sa.select(t.sources.c.relisted_ms, t.sources.c.created_ms).where(t.sources.c.id == source_id)
    ).one()
    return int(row.relisted_ms or row.created_ms) + every_ms


def begin_run(tx: sa.Connection, source_id: int, kind: str) -> int:
    """Open the books of a run; returns its id."""
    done = tx.execute(sa.insert(t.runs).values(source_id=source_id, kind=kind, started_ms=clock.now_ms()))
    assert done.inserted_primary_key is not None
    return int(done.inserted_primary_key[0])


def finish_run(tx: sa.Connection, run_id: int, **totals: object) -> None:
    """Close the books of a run."""
    tx.execute(sa.update(t.runs).where(t.runs.c.id == run_id).values(finished_ms=clock.now_ms(), **totals))


def last_run_ms(tx: sa.Connection, source_id: int) -> int | None:
    """When the last run of the source finished; None where there was none, or where it was cut short."""
    row = tx.execute(
        sa.select(t.runs.c.finished_ms).where(t.runs.c.source_id == source_id).order_by(t.runs.c.id.desc()).limit(1)
    ).one_or_none()
    return None if row is None else row.finished_ms


def last_finished_ms(tx: sa.Connection, source_id: int) -> int | None:
    """When a run of the source last came to its end; None where none ever did."""
    ended = sa.select(t.runs.c.finished_ms).where(t.runs.c.source_id == source_id, t.runs.c.finished_ms.is_not(None))
    return tx.execute(ended.order_by(t.runs.c.id.desc()).limit(1)).scalar_one_or_none()


def limited_in_a_row(tx: sa.Connection, source_id: int, most: int = 10) -> int:
    """How many of the last finished runs were limited, without a break."""
    rows = tx.execute(
        sa.select(t.runs.c.limited)
        .where(t.runs.c.source_id == source_id, t.runs.c.finished_ms.is_not(None))
        .order_by(t.runs.c.id.desc())
        .limit(most)
    ).scalars()
    count = 0
    for limited in rows:
        if not limited:
            break
        count += 1
    return count
