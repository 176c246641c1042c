"""The table of events and the books beside it: what they must be, what they are, and the statements between."""

from collections.abc import Mapping
from dataclasses import dataclass

from eventferry.sink import SinkMisconfigured
from eventferry.sink.books import BATCH_COLUMNS, BATCHES, PART_COLUMNS, PARTS
from eventferry.sink.columns import BATCH_ID, EVENT, Type
from eventferry.sink.tables import fit_columns, no_table
from eventferry_sinks.mysql.connection import Connection, Server
from eventferry_sinks.mysql.options import EVENT_ID, SEQ, MysqlOptions

TYPES: Mapping[Type, str] = {
    "text": "LONGTEXT",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "TINYINT(1)",
    "timestamp": "DATETIME(6)",
    "json": "LONGTEXT",
}
_TEXTS = ("char", "varchar", "tinytext", "text", "mediumtext", "longtext")
# What else may be there already, by the name that information_schema gives.
_FITTING: Mapping[Type, tuple[str, ...]] = {
    "text": _TEXTS,
    "integer": ("bigint",),
    "number": ("double",),
    "boolean": ("tinyint",),
    "timestamp": ("datetime(6)",),
    "json": (*_TEXTS, "json"),
}
_ID = "VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin"
_BOOKS = {
    "id": f"{_ID} NOT NULL",
    "name": "VARCHAR(255) NOT NULL",
    "text": "TEXT NOT NULL",
    "integer": "BIGINT NOT NULL",
}
EVENT_ID_LENGTH = 255  # characters


@dataclass(frozen=True, slots=True)
class Present:
    """A column as it is in the database."""

    type: str  # datetime(6), bigint, bigint unsigned, varchar, …
    shown: str  # as people write it
    charset: str | None
    length: int | None  # of texts: characters of char and varchar, else bytes


def quoted(name: str) -> str:
    """`name` as an SQL identifier."""
    return "`" + name.replace("`", "``") + "`"


def wanted_columns(options: MysqlOptions, server: Server) -> dict[str, str]:
    """Name → type of every column that is filled, in order."""
    # Said of each column, for a table that somebody made may have another default.
    letters = f"CHARACTER SET utf8mb4 COLLATE {server.collation}"
    types = {kind: f"{type} {letters}" if type == "LONGTEXT" else type for kind, type in TYPES.items()}
    columns = {name: types[column.type] for name, column in options.all_columns().items()}
    columns |= {EVENT: f"LONGTEXT {letters} NOT NULL", BATCH_ID: f"{_ID} NOT NULL"}
    if options.unique_event_id is not None:
        columns[EVENT_ID] = f"VARCHAR({EVENT_ID_LENGTH}) {letters}"
    return columns


def creation(options: MysqlOptions, server: Server) -> str:
    """The statement that makes the table of events."""
    body = [f"{quoted(SEQ)} BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY"]
    body += [f"{quoted(name)} {type}" for name, type in wanted_columns(options, server).items()]
    body.append(f"KEY {quoted(BATCH_ID)} ({quoted(BATCH_ID)})")
    if options.unique_event_id is not None:
        body.append(f"UNIQUE KEY {quoted(EVENT_ID)} ({quoted(EVENT_ID)})")
    return _create(options.table, body, server.collation)


def books_creation() -> dict[str, str]:
    """For each table of the books the statement that makes it."""
    batches = [f"{quoted(name)} {_BOOKS[kind]}" for name, kind in BATCH_COLUMNS.items()]
    parts = [f"{quoted(name)} {_BOOKS[kind]}" for name, kind in PART_COLUMNS.items()]
    parts += ["`id` BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY", "KEY (`content`)", "KEY (`batch_id`)"]
    return {
        BATCHES: _create(BATCHES, [*batches, "PRIMARY KEY (`table_name`, `batch_id`)"], "utf8mb4_bin"),
        PARTS: _create(PARTS, parts, "utf8mb4_bin"),
    }


def _create(table: str, body: list[str], collation: str) -> str:
    return (
        f"CREATE TABLE IF NOT EXISTS {quoted(table)} ({', '.join(body)})"
        f" ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE {collation}"
    )


@dataclass(frozen=True, slots=True)
class Ready:
    """A table that can be filled."""

    columns: Mapping[str, Present]  # by the names that are configured, without what it lacks
    added: tuple[str, ...]  # columns that were added now


def make_ready(connection: Connection, options: MysqlOptions, server: Server) -> Ready:
    """See that every table is as it must be.

    Creates and alters what the options allow. Raises SinkMisconfigured with the statement that a person may run.
    """
    _make_tables(connection, options, {options.table: creation(options, server), **books_creation()})
    there = _columns(connection, options.table)
    wanted = wanted_columns(options, server)
    added = fit_columns(
        wanted,
        {name: column.shown for name, column in there.items()},
        options.schema_contract,
        f"table {options.table}",
        lambda columns: _addition(options.table, columns),
        needed=[EVENT_ID],
        is_fit=lambda present, kind: True,  # `_check` looks at more than the type
    ).added
    if added:
        connection.run(_addition(options.table, added))
        there = _columns(connection, options.table)
    found = {name: there[name.casefold()] for name in wanted if name.casefold() in there}
    _check(options, found)
    if options.unique_event_id is not None:
        _check_unique(connection, options)
    return Ready(found, tuple(added))


def _make_tables(connection: Connection, options: MysqlOptions, statements: Mapping[str, str]) -> None:
    """Create the tables that are missing, where that is asked for; refuse those without transactions."""
    missing = []
    for table in statements:
        engine = _engine(connection, table)
        if not engine:
            missing.append(table)
        elif engine.casefold() != "innodb":
            raise SinkMisconfigured(
                f"table {table} is {engine}, which has no transactions; run: ALTER TABLE {quoted(table)} ENGINE=InnoDB"
            )
    if missing and not options.create:
        named = f"{', '.join(missing)} in database {options.database}"
        raise no_table(named, "; ".join(statements[table] for table in missing))
    for table in missing:
        connection.run(statements[table])


def _engine(connection: Connection, table: str) -> str:
    """The engine of a table; empty where there is none. A view has none, either, and is said so."""
    rows = connection.ask(
        "SELECT table_type, engine FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = %s",
        table,
    )
    if rows and rows[0][0] != "BASE TABLE":
        raise SinkMisconfigured(f"{table} is a {rows[0][0].lower()}; expected a table")
    return str(rows[0][1]) if rows else ""


def _columns(connection: Connection, table: str) -> dict[str, Present]:
    """The columns of a table by their folded names."""
    rows = connection.ask(
        "SELECT column_name, data_type, column_type, character_set_name, character_maximum_length"
        " FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = %s",
        table,
    )
    return {name.casefold(): _present(*rest) for name, *rest in rows}


def _present(kind: str, shown: str, charset: str | None, length: int | None) -> Present:
    kind, shown = kind.lower(), shown.lower()
    exact = shown if kind == "datetime" or "unsigned" in shown else kind
    return Present(exact, shown, charset, length)


def _addition(table: str, added: Mapping[str, str]) -> str:
    steps = [f"ADD COLUMN {quoted(name)} {type}" for name, type in added.items()]
    if EVENT_ID in added:
        steps.append(f"ADD UNIQUE KEY ({quoted(EVENT_ID)})")
    return f"ALTER TABLE {quoted(table)} {', '.join(steps)}"


def _check(options: MysqlOptions, found: Mapping[str, Present]) -> None:
    """Raise SinkMisconfigured where a column would not keep what is put into it."""
    kinds: dict[str, Type] = {name: column.type for name, column in options.all_columns().items()}
    kinds |= {EVENT: "json", BATCH_ID: "text", EVENT_ID: "text"}
    for name, column in found.items():
        kind = kinds[name]
        if column.type not in _FITTING[kind]:
            raise SinkMisconfigured(
                f"column {name!r} of table {options.table} is {column.shown}, but {TYPES[kind]} is configured;"
                " configure another name or type for it, or another table"
            )
        if column.charset not in (None, "utf8mb4") and name != BATCH_ID:
            raise SinkMisconfigured(
                f"column {name} of table {options.table} is {column.charset}, which cannot hold every text; run:"
                f" ALTER TABLE {quoted(options.table)} MODIFY {quoted(name)} {column.shown} CHARACTER SET utf8mb4"
            )


def _check_unique(connection: Connection, options: MysqlOptions) -> None:
    rows = connection.ask(
        "SELECT index_name FROM information_schema.statistics"
        " WHERE table_schema = DATABASE() AND table_name = %s AND non_unique = 0"
        " GROUP BY index_name HAVING COUNT(*) = 1 AND MAX(LOWER(column_name)) = %s AND MAX(sub_part) IS NULL",
        options.table,
        EVENT_ID,
    )
    if not rows:
        raise SinkMisconfigured(
            f"column {EVENT_ID} of table {options.table} has no unique key, which unique_event_id needs; run:"
            f" ALTER TABLE {quoted(options.table)} ADD UNIQUE KEY ({quoted(EVENT_ID)})"
        )
