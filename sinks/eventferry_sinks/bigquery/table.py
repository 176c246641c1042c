"""The table of events in BigQuery: what it has to look like, how it is made, what it lacks."""

from collections.abc import Mapping, Sequence
from typing import Any

from eventferry.sink import SinkMisconfigured
from eventferry.sink.columns import BATCH_ID, EVENT, Column, Contract, Type
from eventferry.sink.rows import Rows
from eventferry.sink.tables import Fit, fit_columns

TYPES: dict[Type, str] = {
    "text": "STRING",
    "integer": "INT64",
    "number": "FLOAT64",
    "boolean": "BOOL",
    "timestamp": "TIMESTAMP",
    "json": "JSON",
}
# The API answers with the names of the old dialect.
_NAMES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}
_EXACT = 2**53 - 1  # integers beyond are read as doubles by the loader, unless they come as strings


def wanted_types(columns: Mapping[str, Column], event_as: str) -> dict[str, str]:
    """Each column of the table with its type; the raw event and the batch's id last."""
    return {
        **{name: TYPES[column.type] for name, column in columns.items()},
        EVENT: event_as.upper(),
        BATCH_ID: "STRING",
    }


def describe(reference: Any, wanted: Mapping[str, str]) -> Any:
    """The table as the client creates it: a day of event_time a partition, clustered by event_type."""
    from google.cloud import bigquery

    table = bigquery.Table(reference, schema=[bigquery.SchemaField(name, type) for name, type in wanted.items()])
    if wanted.get("event_time") == "TIMESTAMP":
        table.time_partitioning = bigquery.TimePartitioning(field="event_time")
    if wanted.get("event_type") == "STRING":
        table.clustering_fields = ["event_type"]
    return table


def statement(table: str, wanted: Mapping[str, str]) -> str:
    """SQL that creates the same table."""
    body = ", ".join(f"`{name}` {type}" for name, type in wanted.items())
    partition = " PARTITION BY DATE(`event_time`)" if wanted.get("event_time") == "TIMESTAMP" else ""
    cluster = " CLUSTER BY `event_type`" if wanted.get("event_type") == "STRING" else ""
    return f"CREATE TABLE `{table}` ({body}){partition}{cluster}"


def fit(table: str, schema: Sequence[Any], wanted: Mapping[str, str], contract: Contract) -> Fit:
    """How the table takes the columns. Raises SinkMisconfigured where it cannot be used."""
    folded = {name.casefold() for name in wanted}
    for field in schema:
        if field.mode == "REQUIRED" and field.name.casefold() not in folded and not field.default_value_expression:
            raise SinkMisconfigured(
                f"column {field.name!r} of table {table} is REQUIRED, but nothing is configured to fill it; configure"
                f" it in columns, or run: ALTER TABLE `{table}` ALTER COLUMN `{field.name}` DROP NOT NULL"
            )
    return fit_columns(
        wanted,
        {field.name.casefold(): _type_of(field) for field in schema},
        contract,
        f"table {table}",
        lambda added: additions(table, added),
        event_as={"STRING": "string", "JSON": "json"},
    )


def additions(table: str, missing: Mapping[str, str]) -> str:
    """SQL that adds the columns."""
    return f"ALTER TABLE `{table}` " + ", ".join(f"ADD COLUMN `{name}` {type}" for name, type in missing.items())


def extended(schema: Sequence[Any], missing: Mapping[str, str]) -> list[Any]:
    """The schema with the columns that were missing, as the API takes it: all fields, the new ones nullable, last."""
    from google.cloud import bigquery

    return [*schema, *(bigquery.SchemaField(name, type) for name, type in missing.items())]


def spell_out(rows: Rows, columns: Mapping[str, Column]) -> None:
    """Integers that a JSON reader might round, as texts, which BigQuery reads exactly."""
    for number, column in enumerate(columns.values()):
        if column.type == "integer":
            rows.values[number] = [
                value if value is None or -_EXACT <= value <= _EXACT else str(value) for value in rows.values[number]
            ]


def _type_of(field: Any) -> str:
    type = _NAMES.get(field.field_type, str(field.field_type))
    return f"{type} REPEATED" if field.mode == "REPEATED" else type
