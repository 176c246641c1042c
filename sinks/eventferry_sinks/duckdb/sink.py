"""Appends events to a table in a DuckDB file, each event once."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from eventferry.sink import (
    Batch,
    BatchLimits,
    BatchRejected,
    BatchTooLarge,
    Guarantee,
    Sink,
    SinkError,
    SinkMisconfigured,
    SinkOptions,
    SinkUnavailable,
)
from eventferry.sink.options import check_absolute
from eventferry_sinks.duckdb.columns import (
    DEFAULT_COLUMNS,
    Column,
    as_column,
    check_name,
    check_names,
    insert_statement,
    quoted,
)
from eventferry_sinks.duckdb.parts import (
    BATCHES,
    BOOKS,
    forget,
    make_books,
    record,
    recorded_parts,
    strangers,
    was_recorded,
)

_FORBIDDEN = re.compile(r"Permission denied|Read-only file system|Operation not permitted", re.I)
_FULL = re.compile(r"No space left|Disk quota exceeded|disk is full", re.I)
_NO_FILE = re.compile(
    r"No such file|Is a directory|Not a directory|not a valid DuckDB|newer version|older version", re.I
)
_LOCKED = re.compile(r"Could not set lock|Conflicting lock", re.I)


class DuckdbOptions(SinkOptions):
    """Which file, which table, which columns."""

    path: Annotated[Path, AfterValidator(check_absolute)]
    table: Annotated[str, AfterValidator(check_name)] = "events"
    columns: dict[str, Annotated[Column, BeforeValidator(as_column)]] = Field(default_factory=dict)
    threads: int = Field(default=1, ge=1, le=256)
    memory_limit: str = Field(default="512MiB", pattern=r"^[1-9][0-9]{0,5}(MiB|GiB)$")

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_names(self.columns)
        if self.table.casefold() in BOOKS:
            raise ValueError(f"table {self.table!r} is where what was delivered is written down; expected another name")
        return self

    def all_columns(self) -> dict[str, Column]:
        """The configured columns after the default ones, which may be redefined by name."""
        mine = {name.casefold() for name in self.columns}
        return {name: column for name, column in DEFAULT_COLUMNS.items() if name not in mine} | self.columns


class DuckdbSink(Sink[DuckdbOptions]):
    """One transaction a batch: its events, its id and its parts, which a repeat finds, however it is cut.

    The file is open during a delivery only: while somebody has it open for writing, no other process can read it.
    """

    Options = DuckdbOptions
    guarantee = Guarantee.EFFECTIVELY_ONCE
    can_replace = True
    limits = BatchLimits(max_events=50_000, max_bytes=16 * 1024 * 1024)
    needs = {"duckdb": "eventferry[duckdb]"}  # noqa: RUF012 - declared a ClassVar in Sink

    _duckdb: Any = None
    _insert = ""

    def open(self) -> None:
        try:
            import duckdb
        except ImportError as error:
            raise SinkMisconfigured("the library is not installed; run: pip install 'eventferry[duckdb]'") from error
        if not self.options.path.parent.is_dir():
            raise SinkMisconfigured(f"{self.options.path.parent} is not a directory; create it, or mount it")
        self._duckdb = duckdb
        self._insert = insert_statement(self.options.table, self.options.all_columns())

    def deliver(self, batch: Batch) -> None:
        committing = False
        with self._translated(lambda: committing), self._connection() as connection:
            connection.execute("BEGIN")
            self._make_table(connection)
            make_books(connection)
            if was_recorded(connection, batch):
                return
            if batch.replaces:
                self._make_room(connection, batch)
            lacking = batch.lacking(recorded_parts(connection, self.options.table, batch))
            if lacking:
                connection.execute(self._insert, [batch.id, lacking[:-1].decode()])
            record(connection, self.options.table, batch, lacking.count(b"\n"))
            committing = True
            connection.execute("COMMIT")

    def was_delivered(self, batch: Batch) -> bool | None:
        if not self.options.path.exists():
            return False
        with self._translated(lambda: False), self._connection() as connection:
            return bool(_columns_of(connection, BATCHES)) and was_recorded(connection, batch)

    def close(self) -> None:
        self._duckdb = None

    def _make_room(self, connection: Any, batch: Batch) -> None:
        """Delete what the batch replaces; refuse where the same events would stay under an id that it does not know."""
        table = self.options.table
        forget(connection, table, batch)
        if others := strangers(connection, table, batch):
            count = "a batch" if len(others) == 1 else f"{len(others)} batches"
            raise SinkMisconfigured(
                f"{self.options.path}: nothing was replaced, for {count} of a lost ledger hold events of"
                f" {batch.parts[0].key} in table {table!r}, too; fill another table through a sink of another name, or"
                f" delete their rows as the README of this type says: {', '.join(others)}"
            )

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Any]:
        settings = {
            "threads": self.options.threads,
            "memory_limit": self.options.memory_limit,
            "autoinstall_known_extensions": "false",  # nothing is downloaded
            "autoload_known_extensions": "false",
        }
        connection = self._duckdb.connect(str(self.options.path), config=settings)
        try:
            connection.execute("SET TimeZone = 'UTC'")  # times without an offset are UTC on every machine
            yield connection
        finally:
            connection.close()  # rolls back what is not committed

    def _make_table(self, connection: Any) -> None:
        table = self.options.table
        columns = {name: column.type for name, column in self.options.all_columns().items()}
        wanted: dict[str, str] = {**columns, "event": "JSON", "batch_id": "VARCHAR"}
        there = _columns_of(connection, table)
        if not there:
            body = ", ".join(f"{quoted(name)} {type}" for name, type in wanted.items())
            connection.execute(f"CREATE TABLE {quoted(table)} ({body})")
            there = {name.casefold(): type for name, type in wanted.items()}
        for name, type in wanted.items():
            present = there.get(name.casefold())
            if present is None:
                connection.execute(f"ALTER TABLE {quoted(table)} ADD COLUMN {quoted(name)} {type}")
            elif present != type:
                raise SinkMisconfigured(
                    f"column {name!r} of table {table!r} in {self.options.path} is {present}, but {type} is configured;"
                    " configure another name or another table"
                )

    @contextlib.contextmanager
    def _translated(self, committing: Any) -> Iterator[None]:
        """DuckDB's exceptions as the contract's; the others are bugs and pass."""
        try:
            yield
        except self._duckdb.Error as error:
            meaning = self._meaning(error, untouched=not committing())
            if meaning is None:
                raise
            raise meaning from error

    def _meaning(self, error: Exception, *, untouched: bool) -> SinkError | None:
        duckdb, path = self._duckdb, self.options.path
        # The rest of a message may quote an event.
        said = f"{path}: {str(error).splitlines()[0][:200]}"
        if isinstance(error, duckdb.IOException):
            return self._file_problem(said, untouched=untouched)
        if isinstance(error, duckdb.OutOfMemoryException):
            return BatchTooLarge(f"{path}: the batch needs more than memory_limit = {self.options.memory_limit}")
        if isinstance(error, duckdb.ConversionException | duckdb.InvalidInputException):
            return BatchRejected(f"{path}: an event does not fit: {type(error).__name__}")
        if isinstance(error, duckdb.ConnectionException | duckdb.TransactionException):
            return SinkUnavailable(said, untouched=untouched)
        if isinstance(error, duckdb.CatalogException | duckdb.BinderException | duckdb.SerializationException):
            return SinkMisconfigured(f"{said}; the table or the file is not what eventferry made")
        return None

    def _file_problem(self, said: str, *, untouched: bool) -> SinkError:
        if _LOCKED.search(said):
            return SinkUnavailable(f"{said}; another process has the file open", untouched=untouched)
        if _FORBIDDEN.search(said):
            folder = self.options.path.parent
            return SinkMisconfigured(
                f"{said}; eventferry must be allowed to write to {folder}, not to the file alone: give its user the"
                f" directory, and under systemd add a drop-in with ReadWritePaths={folder}"
            )
        if _FULL.search(said):
            return SinkUnavailable(f"{said}; free some space", untouched=untouched)
        if _NO_FILE.search(said):
            return SinkMisconfigured(said)
        return SinkUnavailable(said, untouched=False)


def _columns_of(connection: Any, table: str) -> dict[str, str]:
    """The types of a table's columns by their folded names; empty without the table."""
    rows = connection.execute(
        "SELECT column_name, data_type FROM duckdb_columns()"
        " WHERE lower(table_name) = lower(?) AND schema_name = 'main' AND database_name = current_database()",
        [table],
    ).fetchall()
    return {name.casefold(): type for name, type in rows}
