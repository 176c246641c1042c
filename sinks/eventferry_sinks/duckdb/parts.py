"""The books in DuckDB: lists of values go in at once, where one statement for each row would take seconds."""

from collections.abc import Iterable, Sequence
from typing import Any

from eventferry.sink.books import BATCH_COLUMNS, BATCHES, PART_COLUMNS, PARTS, Books

_TYPES = {"id": "VARCHAR", "name": "VARCHAR", "text": "VARCHAR", "integer": "BIGINT"}


class DuckdbBooks(Books):
    """The books beside an events table of a DuckDB file; `cursor` is a connection."""

    def __init__(self, table: str, events_table: str) -> None:
        super().__init__(table, events_table, mark="?")

    def make(self, connection: Any) -> None:
        """Create the tables where they are missing."""
        for table, columns, key in (
            (BATCHES, BATCH_COLUMNS, ", PRIMARY KEY (table_name, batch_id)"),
            (PARTS, PART_COLUMNS, ""),
        ):
            body = ", ".join(f"{name} {_TYPES[kind]}" for name, kind in columns.items())
            connection.execute(f"CREATE TABLE IF NOT EXISTS {table} ({body}{key})")

    def insert(self, cursor: Any, table: str, columns: Iterable[str], rows: Sequence[tuple[Any, ...]]) -> None:
        if not rows:
            return
        kinds = {**BATCH_COLUMNS, **PART_COLUMNS}
        lists = ", ".join(f"unnest(?::{_TYPES[kinds[name]]}[])" for name in columns)
        values = [list(each) for each in zip(*rows, strict=True)]
        cursor.execute(f"INSERT INTO {table} ({', '.join(columns)}) SELECT {lists}", values)
