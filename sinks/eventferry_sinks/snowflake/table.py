"""What the sink needs in the schema: the table of events, the books, the lock, the stage; and the SQL that fills it."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from eventferry.sink import SinkMisconfigured
from eventferry.sink.books import BATCH_COLUMNS, BATCHES, PART_COLUMNS, PARTS
from eventferry.sink.columns import BATCH_ID, EVENT, Column, Contract, Type
from eventferry.sink.tables import Fit, fit_columns

LOCKS = "eventferry_locks"
EventAs = Literal["variant", "string"]

TYPES: dict[Type, str] = {
    "text": "VARCHAR",
    "integer": "NUMBER(38,0)",
    "number": "FLOAT",
    "boolean": "BOOLEAN",
    "timestamp": "TIMESTAMP_NTZ",
    "json": "VARIANT",
}
_KINDS = {"id": "VARCHAR(32)", "name": "VARCHAR(1024)", "text": "VARCHAR(4096)", "integer": "NUMBER(38,0)"}


def quoted(*names: str) -> str:
    """Names as one identifier, in capitals, as Snowflake reads names without quotes."""
    return ".".join(f'"{name.upper()}"' for name in names)


def wanted_types(columns: Mapping[str, Column], event_as: EventAs) -> dict[str, str]:
    """Each column of the table with its type."""
    event = "VARIANT" if event_as == "variant" else "VARCHAR"
    return {name: TYPES[column.type] for name, column in columns.items()} | {EVENT: event, BATCH_ID: "VARCHAR"}


def table_statement(table: str, wanted: Mapping[str, str]) -> str:
    """SQL that makes the table of events."""
    body = ", ".join(f"{quoted(name)} {type}" for name, type in wanted.items())
    return f"CREATE TABLE IF NOT EXISTS {table} ({body})"


def books_statements(prefix: str) -> dict[str, str]:
    """SQL that makes the books and the lock, by table. Snowflake enforces no primary key: the lock does its work."""
    bodies = {
        BATCHES: {name: _KINDS[kind] for name, kind in BATCH_COLUMNS.items()},
        PARTS: {name: _KINDS[kind] for name, kind in PART_COLUMNS.items()},
        LOCKS: {"table_name": _KINDS["name"], "batch_id": _KINDS["id"]},
    }
    return {
        table: f"CREATE TABLE IF NOT EXISTS {prefix}{quoted(table)} ("
        + ", ".join(f"{quoted(name)} {type}" for name, type in body.items())
        + ")"
        for table, body in bodies.items()
    }


def fit(table: str, described: Iterable[Any], wanted: Mapping[str, str], contract: Contract) -> Fit:
    """How the table takes the columns; `described` are the rows of DESCRIBE TABLE.

    Raises SinkMisconfigured where it cannot be used.
    """
    there = {row[0]: row for row in described}
    names = {name.upper() for name in wanted}
    for name, row in there.items():
        if row[3] == "N" and row[4] is None and name not in names:
            raise SinkMisconfigured(
                f"column {name} of table {table} is NOT NULL without a default, and nothing is configured to fill it;"
                f' configure it in columns, or run: ALTER TABLE {table} ALTER COLUMN "{name}" DROP NOT NULL'
            )
    return fit_columns(
        wanted,
        {name.casefold(): row[1] for name, row in there.items() if name in names},
        contract,
        f"table {table}",
        lambda added: "; ".join(add_statements(table, added)),
        is_fit=_is_fit,
        event_as={"VARIANT": "variant", "VARCHAR": "string"},
    )


def add_statements(table: str, added: Mapping[str, str]) -> list[str]:
    """SQL that adds columns, one at a time."""
    return [f"ALTER TABLE {table} ADD COLUMN {quoted(name)} {type}" for name, type in added.items()]


def insert_statement(table: str, loaded: str, columns: Mapping[str, Column], event_as: EventAs) -> str:
    """SQL that takes the columns out of the loaded lines (one VARIANT each)."""
    event = '"RAW":"event"::VARCHAR'
    # What VARIANT cannot hold as an object stays as its text: nothing is refused, nothing is lost.
    wide = f"COALESCE(TRY_PARSE_JSON({event}), TO_VARIANT({event}))"
    values = [f'"RAW":"{name}"' + _cast(column.type) for name, column in columns.items()]
    values += [wide if event_as == "variant" else event, '"RAW":"batch_id"::VARCHAR']
    names = ", ".join(quoted(name) for name in (*columns, EVENT, BATCH_ID))
    return f"INSERT INTO {table} ({names}) SELECT {', '.join(values)} FROM {loaded}"  # noqa: S608 - quoted, checked


def _cast(type: Type) -> str:
    return "" if type == "json" else f"::{TYPES[type]}"


def _is_fit(present: str, wanted: str) -> bool:
    if wanted.startswith("NUMBER"):  # 19 digits hold every 64-bit integer
        precision, _, scale = present.removeprefix("NUMBER(").removesuffix(")").partition(",")
        return present.startswith("NUMBER(") and int(precision) >= 19 and scale == "0"
    return present.partition("(")[0] == wanted
