"""The SQL of the type `redshift`: tables, columns, books, COPY."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eventferry.sink.books import BATCH_COLUMNS, BATCHES, PART_COLUMNS, PARTS, Books
from eventferry.sink.columns import BATCH_ID, EVENT, Column, Type

LONGEST_TEXT = 65535  # bytes in a varchar

TYPES: Mapping[Type, str] = {
    "text": f"character varying({LONGEST_TEXT})",
    "integer": "bigint",
    "number": "double precision",
    "boolean": "boolean",
    "timestamp": "timestamp with time zone",
    "json": "super",
}
_BOOK_TYPES = {"id": "varchar(64)", "name": "varchar(512)", "text": "varchar(4096)", "integer": "bigint"}
_LENGTH = re.compile(r"character varying(?:\((\d+)\))?")


class RedshiftBooks(Books):
    """The books where every statement costs about as much as a thousand rows."""

    def insert(self, cursor: Any, table: str, columns: Iterable[str], rows: Sequence[tuple[Any, ...]]) -> None:
        names = ", ".join(columns)
        for start in range(0, len(rows), 500):
            some = rows[start : start + 500]
            one = f"({', '.join(['%s'] * len(some[0]))})"
            values = ", ".join([one] * len(some))
            statement = f"INSERT INTO {table} ({names}) VALUES {values}"  # noqa: S608 - constants
            cursor.execute(statement, [value for row in some for value in row])


def quoted(*names: str) -> str:
    """An SQL identifier, of schema and table where two names are given."""
    return ".".join(f'"{name}"' for name in names)


def types_of(columns: Mapping[str, Column]) -> dict[str, str]:
    """Column → SQL type, in the order of the table."""
    mine = {name: TYPES[column.type] for name, column in columns.items()}
    return {**mine, EVENT: "super", BATCH_ID: "character varying(64)"}


def longest(type: str) -> int | None:
    """How many bytes a text column takes; None for columns of other types."""
    found = _LENGTH.fullmatch(type)
    return None if found is None else int(found[1] or LONGEST_TEXT)


def is_fit(present: str, wanted: str) -> bool:
    """Whether a column has the wanted type; texts may be of any length."""
    return wanted == present or (longest(wanted) is not None and longest(present) is not None)


def create_statement(table: str, types: Mapping[str, str]) -> str:
    return f"CREATE TABLE {table} ({', '.join(f'{quoted(name)} {type}' for name, type in types.items())})"


def add_statements(table: str, added: Mapping[str, str]) -> list[str]:
    """SQL that adds columns, one at a time: Redshift takes no more at once."""
    return [f"ALTER TABLE {table} ADD COLUMN {quoted(name)} {type}" for name, type in added.items()]


def book_statements(schema: str) -> list[str]:
    """The statements that make the books where they are missing."""
    return [
        f"CREATE TABLE IF NOT EXISTS {quoted(schema, name)} ("
        + ", ".join(f"{quoted(column)} {_BOOK_TYPES[kind]} NOT NULL" for column, kind in columns.items())
        + ")"
        for name, columns in ((BATCHES, BATCH_COLUMNS), (PARTS, PART_COLUMNS))
    ]


def copy_statement(table: str, names: Iterable[str], manifest: str, role: str, region: str | None) -> str:
    """Load the files that a manifest names. Role, region and URL are checked options and hex digits."""
    columns = ", ".join(quoted(name) for name in names)
    who = "default" if role == "default" else f"'{role}'"
    where = f" REGION '{region}'" if region else ""
    url = manifest.replace("'", "''")
    return (
        f"COPY {table} ({columns}) FROM '{url}' IAM_ROLE {who}{where}"
        " MANIFEST GZIP FORMAT JSON 'auto' TIMEFORMAT 'auto' COMPUPDATE OFF"
    )


def columns_there(cursor: Any, schema: str, table: str) -> dict[str, str]:
    """Column → SQL type of a table; empty where there is no such table."""
    cursor.execute(
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a"
        " JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
        [schema, table],
    )
    return {str(name): str(type) for name, type in cursor.fetchall()}
