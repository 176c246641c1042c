"""What was delivered, written down beside the events: the ids of batches with the parts that they were made of."""

import hashlib
from collections.abc import Sequence
from typing import Any

from eventferry.sink import Batch, Part
from eventferry_sinks.duckdb.columns import quoted

BATCHES = "eventferry_batches"
PARTS = "eventferry_parts"
BOOKS = (BATCHES, PARTS)

_FIND = f"""
    SELECT source, key, digest, "start", "end" FROM {PARTS}
    WHERE content IN (SELECT unnest(?::BIGINT[])) AND table_name = ? AND epoch = ? AND batch_id <> ?
"""  # noqa: S608 - constants
_FIND_ALL = f"""
    SELECT source, key, digest, "start", "end", epoch, batch_id FROM {PARTS}
    WHERE content IN (SELECT unnest(?::BIGINT[])) AND table_name = ?
"""  # noqa: S608 - constants
_RECORD = f"""
    INSERT INTO {PARTS}
    SELECT unnest(?::BIGINT[]), ?, ?, unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]),
        unnest(?::BIGINT[]), unnest(?::BIGINT[]), ?
"""


def make_books(connection: Any) -> None:
    """Create the tables where they are missing."""
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {BATCHES} (batch_id VARCHAR PRIMARY KEY, table_name VARCHAR, events BIGINT)"
    )
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {PARTS} (content BIGINT, table_name VARCHAR, epoch VARCHAR, source VARCHAR,"
        ' key VARCHAR, digest VARCHAR, "start" BIGINT, "end" BIGINT, batch_id VARCHAR)'
    )


def was_recorded(connection: Any, batch: Batch) -> bool:
    """Whether the batch itself was delivered."""
    found = connection.execute(f"SELECT 1 FROM {BATCHES} WHERE batch_id = ?", [batch.id]).fetchone()  # noqa: S608
    return found is not None


def recorded_parts(connection: Any, table: str, batch: Batch) -> list[Part]:
    """The ranges of the batch's files that the table has got in its epoch, in whatever batches."""
    contents = list({_number(part) for part in batch.parts})
    if not contents:  # a dead letter that is sent once more: only its id is known
        return []
    rows = connection.execute(_FIND, [contents, table.casefold(), batch.epoch, batch.id]).fetchall()
    return [Part(source, key, digest, start, end, 0) for source, key, digest, start, end in rows]


def forget(connection: Any, table: str, batch: Batch) -> None:
    """Delete the rows of the batches that this one replaces, with what is written down of them.

    Ranges that lie within its own pass over to it under whatever epoch they have: an older ledger that repairs them, as
    another filter chose them, adds nothing to what stands there now.
    """
    ids, mine = list(batch.replaces), "batch_id IN (SELECT unnest(?::VARCHAR[])) AND lower(table_name) = lower(?)"
    place = 'batch_id, source, key, digest, "start", "end"'
    found = connection.execute(f"SELECT {place} FROM {PARTS} WHERE {mine}", [ids, table]).fetchall()  # noqa: S608
    beyond = {id_ for id_, *part in found if not _is_within(part, batch.parts)}
    kept = sorted({row[0] for row in found} - beyond)
    connection.execute(
        f"DELETE FROM {quoted(table)} WHERE batch_id IN (SELECT unnest(?::VARCHAR[]))",  # noqa: S608 - quoted
        [ids],
    )
    connection.execute(f"DELETE FROM {BATCHES} WHERE {mine}", [ids, table])  # noqa: S608 - constants
    pass_over = f"UPDATE {PARTS} SET batch_id = ? WHERE {mine} AND epoch <> ?"  # noqa: S608 - constants
    connection.execute(pass_over, [batch.id, kept, table, batch.epoch])
    connection.execute(f"DELETE FROM {PARTS} WHERE {mine}", [ids, table])  # noqa: S608 - constants


def _is_within(part: Sequence[Any], parts: Sequence[Part]) -> bool:
    source, key, digest, start, end = part
    content = (source, key, digest)
    return any(each.content == content and each.start <= start and end <= each.end for each in parts)


def strangers(connection: Any, table: str, batch: Batch) -> list[str]:
    """The batches of the same sink from which the table holds events of this batch."""
    contents = list({_number(part) for part in batch.parts})
    rows = connection.execute(_FIND_ALL, [contents, table.casefold()]).fetchall()
    found = {
        batch_id: None
        for source, key, digest, start, end, epoch, batch_id in rows
        if batch_id != batch.id and batch.overlaps(Part(source, key, digest, start, end, 0), epoch)
    }
    return list(found)


def record(connection: Any, table: str, batch: Batch, events: int) -> None:
    """Write the batch down with its parts; `events` of it went into the table now."""
    connection.execute(f"INSERT INTO {BATCHES} VALUES (?, ?, ?)", [batch.id, table, events])  # noqa: S608
    if not batch.parts:
        return
    columns = zip(*((_number(p), p.source, p.key, p.digest, p.start, p.end) for p in batch.parts), strict=True)
    contents, *others = map(list, columns)
    connection.execute(_RECORD, [contents, table.casefold(), batch.epoch, *others, batch.id])


def _number(part: Part) -> int:
    """A number for the content, by which its ranges are found many times faster than by its texts."""
    said = "\0".join(part.content).encode()
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), signed=True)
