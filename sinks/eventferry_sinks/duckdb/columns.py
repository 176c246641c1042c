"""The events table in DuckDB's SQL: its column types, and the statement that fills it."""

from collections.abc import Mapping

from eventferry.sink.columns import BATCH_ID, EVENT, Column, Type

SQL_TYPES: dict[Type, str] = {
    "text": "VARCHAR",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
    "timestamp": "TIMESTAMP",
    "json": "JSON",
}
# As what a list of values is handed over; epoch microseconds and JSON texts become what they are in the statement.
_HANDED_OVER = {"TIMESTAMP": "BIGINT", "JSON": "VARCHAR"}


def quoted(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def insert_statement(table: str, columns: Mapping[str, Column]) -> str:
    """SQL that inserts a batch; its parameters: batch id, a list for each column, NDJSON without its last newline."""
    lists, values = [], []
    for number, column in enumerate(columns.values()):
        type = SQL_TYPES[column.type]
        lists.append(f"unnest(?::{_HANDED_OVER.get(type, type)}[]) AS c{number}")
        values.append(f"make_timestamp(c{number})" if type == "TIMESTAMP" else f"c{number}::{type}")
    names = ", ".join([*map(quoted, columns), EVENT, BATCH_ID])
    return (
        f"WITH batch AS (SELECT ? AS id) INSERT INTO {quoted(table)} ({names})"  # noqa: S608 - names are quoted
        f" SELECT {', '.join([*values, 'line::JSON', '(SELECT id FROM batch)'])}"
        f" FROM (SELECT {', '.join([*lists, 'unnest(string_split(?, chr(10))) AS line'])})"
    )
