"""What a database was given, written down beside the events: the ids of batches with the parts they were made of.

For sink types with transactions. All statements run on the caller's cursor, in the transaction of the events.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from eventferry.sink.batch import Batch, Part
from eventferry.sink.errors import SinkMisconfigured

BATCHES = "eventferry_batches"
PARTS = "eventferry_parts"
BOOKS = (BATCHES, PARTS)

# Column → kind. A database may name and bound the kinds as it likes: "id" is 32 hex digits, "text" up to 1024 bytes.
BATCH_COLUMNS = {"batch_id": "id", "table_name": "name", "events": "integer"}  # primary key: table_name, batch_id
PART_COLUMNS = {  # index: content
    "content": "integer",
    "table_name": "name",
    "epoch": "name",
    "source": "name",
    "file_key": "text",
    "digest": "id",
    "range_start": "integer",
    "range_end": "integer",
    "batch_id": "id",
}

_AT_ONCE = 500  # values in one list of a statement


class Books:
    """The books of one table of events. `cursor` is a DB-API cursor, or what has its execute, executemany, fetchall."""

    def __init__(self, table: str, events_table: str, prefix: str = "", mark: str = "%s") -> None:
        """`table` as it is written down; `events_table` and `prefix` (of the books) quoted for SQL; `mark` is the
        driver's placeholder."""
        self._table = table
        self._events = events_table
        self._batches = prefix + BATCHES
        self._parts = prefix + PARTS
        self._mark = mark

    def was_recorded(self, cursor: Any, batch: Batch) -> bool:
        """Whether the batch itself was delivered."""
        return self._is_there(cursor, batch.id)

    def recorded_parts(self, cursor: Any, batch: Batch) -> list[Part]:
        """The ranges of the batch's files that the table has got in its epoch, in whatever other batches."""
        return [
            Part(source, key, digest, start, end, 0)
            for source, key, digest, start, end, epoch, batch_id in self._ranges(cursor, batch)
            if epoch == batch.epoch and batch_id != batch.id
        ]

    def record(self, cursor: Any, batch: Batch, events: int) -> None:
        """Write the batch down with its parts; `events` of it go into the table. A twin of it fails on its key."""
        self.insert(cursor, self._batches, BATCH_COLUMNS, [(batch.id, self._table, events)])
        self.record_parts(cursor, batch)

    def record_parts(self, cursor: Any, batch: Batch) -> None:
        """Write down the parts alone, of a batch whose own row is there already."""
        rows = [
            (
                number_of(part),
                self._table,
                batch.epoch,
                part.source,
                part.key,
                part.digest,
                part.start,
                part.end,
                batch.id,
            )
            for part in batch.parts
        ]
        self.insert(cursor, self._parts, PART_COLUMNS, rows)

    def forget(self, cursor: Any, batch: Batch) -> None:
        """Delete the rows of the batches that this one replaces, with what is written down of them.

        Ranges that lie within its own pass over to it under whatever epoch they have: an older ledger that repairs
        them, as another filter chose them, adds nothing to what stands there now.
        """
        found: list[tuple[Any, ...]] = []
        columns = "batch_id, epoch, source, file_key, digest, range_start, range_end"
        for marks, ids in self._lists(batch.replaces):
            statement = f"SELECT {columns} FROM {self._parts} WHERE table_name = {self._mark} AND batch_id IN ({marks})"  # noqa: S608
            cursor.execute(statement, [self._table, *ids])
            found += [tuple(row) for row in cursor.fetchall()]
        beyond = {row[0] for row in found if not _is_within(row[2:], batch.parts)}
        kept = {row[0] for row in found} - beyond
        for marks, ids in self._lists(batch.replaces):
            cursor.execute(f"DELETE FROM {self._events} WHERE batch_id IN ({marks})", ids)  # noqa: S608
            for books in (self._batches, self._parts):
                statement = f"DELETE FROM {books} WHERE table_name = {self._mark} AND batch_id IN ({marks})"  # noqa: S608
                cursor.execute(statement, [self._table, *ids])
        passed = [
            (_number(source, key, digest), self._table, epoch, source, key, digest, start, end, batch.id)
            for id_, epoch, source, key, digest, start, end in found
            if id_ in kept and epoch != batch.epoch
        ]
        self.insert(cursor, self._parts, PART_COLUMNS, passed)

    def make_room(self, cursor: Any, batch: Batch, place: str) -> None:
        """`forget`, unless the same events would stay under an id that the batch does not know.

        Raises SinkMisconfigured, which names the database as `place`.
        """
        self.forget(cursor, batch)
        if others := self.strangers(cursor, batch):
            one = len(others) == 1
            count = "a batch of a lost ledger holds" if one else f"{len(others)} batches of a lost ledger hold"
            raise SinkMisconfigured(
                f"{place}: nothing was replaced, for {count} events of {batch.parts[0].key} in table {self._table},"
                " too; fill another table through a sink of another name, or delete their rows as the README of this"
                f" type says: {', '.join(others)}"
            )

    def strangers(self, cursor: Any, batch: Batch) -> list[str]:
        """The other batches of the same sink from which the table holds events of this batch."""
        found = {
            batch_id: None
            for source, key, digest, start, end, epoch, batch_id in self._ranges(cursor, batch)
            if batch_id != batch.id and batch.overlaps(Part(source, key, digest, start, end, 0), epoch)
        }
        return list(found)

    def _is_there(self, cursor: Any, batch_id: str) -> bool:
        statement = f"SELECT 1 FROM {self._batches} WHERE table_name = {self._mark} AND batch_id = {self._mark}"  # noqa: S608
        cursor.execute(statement, [self._table, batch_id])
        return bool(cursor.fetchall())

    def _ranges(self, cursor: Any, batch: Batch) -> Iterator[tuple[Any, ...]]:
        contents = list(dict.fromkeys(number_of(part) for part in batch.parts))
        columns = "source, file_key, digest, range_start, range_end, epoch, batch_id"
        for marks, numbers in self._lists(contents):
            statement = f"SELECT {columns} FROM {self._parts} WHERE table_name = {self._mark} AND content IN ({marks})"  # noqa: S608
            cursor.execute(statement, [self._table, *numbers])
            yield from (tuple(row) for row in cursor.fetchall())

    def insert(self, cursor: Any, table: str, columns: Iterable[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """Add rows to one of the books; a type whose driver knows a faster way overrides it."""
        if not rows:
            return
        names, marks = ", ".join(columns), ", ".join([self._mark] * len(rows[0]))
        cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)  # noqa: S608

    def _lists(self, values: Sequence[Any]) -> Iterator[tuple[str, list[Any]]]:
        for start in range(0, len(values), _AT_ONCE):
            some = list(values[start : start + _AT_ONCE])
            yield ", ".join([self._mark] * len(some)), some


def number_of(part: Part) -> int:
    """A signed 64-bit number for the content, by which its ranges are found many times faster than by its texts."""
    return _number(*part.content)


def _number(*content: str) -> int:
    said = "\0".join(content).encode()
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), signed=True)


def _is_within(row: Sequence[Any], parts: Sequence[Part]) -> bool:
    source, key, digest, start, end = row
    return any(each.content == (source, key, digest) and each.start <= start and end <= each.end for each in parts)
