"""What was delivered, written down beside the events: the ids of batches with the parts that they were made of."""

import hashlib
from typing import Any

from eventferry.sink import Batch, Part

BATCHES = "eventferry_batches"
PARTS = "eventferry_parts"
BOOKS = (BATCHES, PARTS)

_FIND = f"""
    SELECT source, key, digest, "start", "end" FROM {PARTS}
    WHERE content IN (SELECT unnest(?::BIGINT[])) AND table_name = ? AND epoch = ?
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
    rows = connection.execute(_FIND, [contents, table.casefold(), batch.epoch]).fetchall()
    return [Part(source, key, digest, start, end, 0) for source, key, digest, start, end in rows]


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
