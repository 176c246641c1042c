"""The table of events and the books beside it: what they should be, what they are, and the statements between."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from eventferry.sink import SinkMisconfigured
from eventferry.sink.books import BATCH_COLUMNS, BATCHES, PART_COLUMNS, PARTS
from eventferry.sink.columns import BATCH_ID, EVENT, Column, Contract, Type
from eventferry.sink.tables import Fit, fit_columns, no_table

EventType = Literal["jsonb", "json", "text"]

TYPES: Mapping[Type, str] = {
    "text": "text",
    "integer": "bigint",
    "number": "double precision",
    "boolean": "boolean",
    "timestamp": "timestamp with time zone",
    "json": "jsonb",
}
# What a table that somebody else made may have instead, without a value that is cut, rounded or refused.
_AS_GOOD = {
    "text": ("character varying",),
    "bigint": ("numeric",),
    "double precision": ("numeric",),
    "timestamp with time zone": ("timestamp without time zone",),
}
_BATCH_IDS = ("text", "character varying", "character(32)", "uuid")
_BOOK_TYPES = {"id": "text", "name": "text", "text": "text", "integer": "bigint"}


def quoted(*names: str) -> str:
    """An SQL identifier, of schema and table where two names are given."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


@dataclass(frozen=True, slots=True)
class Design:
    """The table as it is configured."""

    schema: str
    name: str
    columns: Mapping[str, Column]
    event_as: EventType
    contract: Contract
    unique: str | None = None  # the column whose values are there only once

    @property
    def sql_name(self) -> str:
        return quoted(self.schema, self.name)

    @property
    def said(self) -> str:
        """The table as people and the books name it."""
        return f"{self.schema}.{self.name}"

    def types(self) -> dict[str, str]:
        """Column → SQL type, in the order of the table."""
        json = "jsonb" if self.event_as == "jsonb" else "json"
        columns = {name: json if each.type == "json" else TYPES[each.type] for name, each in self.columns.items()}
        return {**columns, EVENT: self.event_as, BATCH_ID: "text"}

    def create_statement(self) -> str:
        body = ", ".join(f"{quoted(name)} {type}" for name, type in self.types().items())
        unique = f", UNIQUE ({quoted(self.unique)})" if self.unique else ""
        return f"CREATE TABLE {self.sql_name} ({body}{unique})"

    def add_statement(self, added: Mapping[str, str]) -> str:
        steps = [f"ADD COLUMN {quoted(name)} {type}" for name, type in added.items()]
        return f"ALTER TABLE {self.sql_name} {', '.join(steps)}"

    def unique_statement(self) -> str:
        return f"CREATE UNIQUE INDEX CONCURRENTLY ON {self.sql_name} ({quoted(self.unique or '')})"

    def remedies(self, user: str) -> dict[str, str]:
        """What a person may do about a refusal of the server, by SQLSTATE."""
        grantee, schema = quoted(user), quoted(self.schema)
        books = ", ".join(quoted(self.schema, each) for each in (BATCHES, PARTS))
        return {
            "42501": (
                f"let a superuser run: GRANT USAGE, CREATE ON SCHEMA {schema} TO {grantee};"
                f" GRANT SELECT, INSERT, DELETE ON {self.sql_name} TO {grantee};"
                f" GRANT SELECT, INSERT, UPDATE, DELETE ON {books} TO {grantee} (each where it exists);"
                f" only its owner adds columns: ALTER TABLE {self.sql_name} OWNER TO {grantee}"
            ),
            "3F000": f"create the schema: CREATE SCHEMA {schema} AUTHORIZATION {grantee}",
            "42809": f"{self.said} has to be a table, not a view; configure one in `table`",
            "23502": (
                "fill that column by `columns`, or allow it to be empty:"
                f" ALTER TABLE {self.sql_name} ALTER COLUMN … DROP NOT NULL"
            ),
            "42P10": f"`unique_event_id` needs a unique index: {self.unique_statement()}",
            "57014": "it took too long: raise `timeout`, or lower `batch.max_bytes`",
            "55P03": "somebody holds a lock on the table",
        }


def fit(design: Design, there: Mapping[str, str], where: str, *, create: bool, has_schema: bool) -> Fit:
    """Compare the table (column → type; empty: there is none) with its design. Raises SinkMisconfigured."""
    types = design.types()
    if not there:
        if not create:
            raise _no_table(design, where, has_schema=has_schema)
        return Fit({}, tuple(design.columns), ())
    for name in there:
        twin = next((one for one in types if one != name and one.casefold() == name.casefold()), None)
        if twin is not None and twin not in there:
            raise SinkMisconfigured(
                f"{where}: table {design.said} has a column {name!r}, which differs from {twin!r} in case only;"
                " configure the name that it has"
            )
    present = {name.casefold(): there[name] for name in types if name in there}
    if present.get(BATCH_ID) in _BATCH_IDS:
        present[BATCH_ID] = types[BATCH_ID]
    return fit_columns(
        types,
        present,
        design.contract,
        f"table {design.said} in {where}",
        design.add_statement,
        needed=[design.unique] if design.unique else [],
        is_fit=lambda found, wanted: found in (wanted, *_AS_GOOD.get(wanted, ())),
        event_as={each: each for each in get_args(EventType)},
    )


def _no_table(design: Design, where: str, *, has_schema: bool) -> SinkMisconfigured:
    place, statement = f"{design.said} in {where}", design.create_statement()
    if has_schema:
        return no_table(place, statement)
    return SinkMisconfigured(f"there is no table {place}; run: CREATE SCHEMA {quoted(design.schema)}; {statement}")


def schema_there(cursor: Any, schema: str) -> bool:
    """Whether the schema is there."""
    cursor.execute("SELECT to_regnamespace(%s) IS NOT NULL", [quoted(schema)])
    return bool(cursor.fetchall()[0][0])


def book_statements(schema: str) -> list[str]:
    """The statements that make the books where they are missing."""
    batches, parts = (quoted(schema, each) for each in (BATCHES, PARTS))
    return [
        f"CREATE TABLE IF NOT EXISTS {batches} ({_typed(BATCH_COLUMNS)}, PRIMARY KEY (table_name, batch_id))",
        f"CREATE TABLE IF NOT EXISTS {parts} ({_typed(PART_COLUMNS)})",
        f"CREATE INDEX IF NOT EXISTS {quoted(PARTS + '_content')} ON {parts} (content)",
        f"CREATE INDEX IF NOT EXISTS {quoted(PARTS + '_batch')} ON {parts} (batch_id)",
    ]


def _typed(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{quoted(name)} {_BOOK_TYPES[kind]} NOT NULL" for name, kind in columns.items())


def columns_there(cursor: Any, schema: str, name: str) -> dict[str, str]:
    """Column → SQL type of a table; empty where there is no such table."""
    cursor.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_catalog.pg_attribute"
        " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        [quoted(schema, name)],
    )
    return dict(cursor.fetchall())


def books_there(cursor: Any, schema: str) -> bool:
    """Whether both tables of the books are there."""
    cursor.execute(
        "SELECT to_regclass(%s) IS NOT NULL AND to_regclass(%s) IS NOT NULL",
        [quoted(schema, BATCHES), quoted(schema, PARTS)],
    )
    return bool(cursor.fetchall()[0][0])


def check_logged(cursor: Any, design: Design, where: str) -> None:
    """Raise SinkMisconfigured where the table, a partition of it, or one of the books is one that a crash empties."""
    books = [quoted(design.schema, each) for each in (BATCHES, PARTS)]
    cursor.execute(
        "SELECT oid::regclass::text FROM pg_catalog.pg_class WHERE relpersistence = 'u'"
        " AND (oid IN (to_regclass(%s), to_regclass(%s), to_regclass(%s))"
        " OR oid IN (SELECT relid FROM pg_partition_tree(to_regclass(%s))))",
        [design.sql_name, *books, design.sql_name],
    )
    if found := cursor.fetchall():
        raise SinkMisconfigured(
            f"{where}: table {found[0][0]} is UNLOGGED, so a crash of the server empties it;"
            f" run: ALTER TABLE {found[0][0]} SET LOGGED"
        )
