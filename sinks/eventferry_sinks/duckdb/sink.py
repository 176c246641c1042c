"""Appends events to a table in a DuckDB file, each event once."""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from eventferry.sink import (
    Batch,
    BatchLimits,
    BatchRejected,
    BatchTooLarge,
    Guarantee,
    Sink,
    SinkError,
    SinkMisconfigured,
    SinkUnavailable,
)
from eventferry.sink.books import BATCHES, BOOKS
from eventferry.sink.columns import BATCH_ID, EVENT, ColumnOptions, check_name
from eventferry.sink.libraries import load
from eventferry.sink.options import File
from eventferry.sink.rows import Extractor, Rows
from eventferry.sink.tables import Fit, count_columns, fit_columns, values_in
from eventferry_sinks.duckdb.columns import SQL_TYPES, insert_statement, quoted
from eventferry_sinks.duckdb.parts import DuckdbBooks

_FORBIDDEN = re.compile(r"Permission denied|Read-only file system|Operation not permitted", re.I)
_FULL = re.compile(r"No space left|Disk quota exceeded|disk is full", re.I)
_NO_FILE = re.compile(
    r"No such file|Is a directory|Not a directory|not a valid DuckDB|newer version|older version", re.I
)
_LOCKED = re.compile(r"Could not set lock|Conflicting lock", re.I)


class DuckdbOptions(ColumnOptions):
    """Which file, which table, which columns."""

    path: File
    table: Annotated[str, AfterValidator(check_name)] = "events"
    threads: int = Field(default=1, ge=1, le=256)
    memory_limit: str = Field(default="512MiB", pattern=r"^[1-9][0-9]{0,5}(MiB|GiB)$")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.table.casefold() in BOOKS:
            raise ValueError(f"table {self.table!r} is where what was delivered is written down; expected another name")
        return self


class DuckdbSink(Sink[DuckdbOptions]):
    """One transaction a batch: its events, its id and its parts, which a repeat finds, however it is cut.

    The file is open during a delivery only: while somebody has it open for writing, no other process can read it.
    """

    Options = DuckdbOptions
    guarantee = Guarantee.EFFECTIVELY_ONCE
    proved_against = "files of DuckDB 2.0"
    can_replace = True
    limits = BatchLimits(max_events=50_000, max_bytes=16 * 1024 * 1024)
    needs = {"duckdb": "eventferry[duckdb]"}  # noqa: RUF012 - declared a ClassVar in Sink

    _duckdb: Any = None

    def open(self) -> None:
        duckdb = load("duckdb", "eventferry[duckdb]")
        if not self.options.path.parent.is_dir():
            raise SinkMisconfigured(f"{self.options.path.parent} is not a directory; create it, or mount it")
        self._duckdb = duckdb
        self._columns = self.options.all_columns()
        self._extractor = Extractor(self._columns)
        self._books = DuckdbBooks(self.options.table.casefold(), quoted(self.options.table))

    def deliver(self, batch: Batch) -> None:
        committing = False
        with self._translated(lambda: committing), self._connection() as connection:
            connection.execute("BEGIN")
            fit = self._make_tables(connection)
            if self._books.was_recorded(connection, batch):
                return
            if batch.replaces:
                self._books.make_room(connection, batch, str(self.options.path))
            lacking = batch.lacking(self._books.recorded_parts(connection, batch))
            rows = self._extractor.extract(lacking)
            if lacking:
                self._insert(connection, batch.id, fit, rows, lacking)
            self._books.record(connection, batch, lacking.count(b"\n"))
            committing = True
            connection.execute("COMMIT")
        count_columns(self, rows.misfits, values_in(rows, self._columns, fit.discarded), fit.added)

    def was_delivered(self, batch: Batch) -> bool | None:
        if not self.options.path.exists():
            return False
        with self._translated(lambda: False), self._connection() as connection:
            return bool(_columns_of(connection, BATCHES)) and self._books.was_recorded(connection, batch)

    def check(self) -> Iterator[str]:
        """Open the file, make the tables as the first delivery would, and roll back."""
        path, is_new = self.options.path, not self.options.path.exists()
        if is_new and not os.access(path.parent, os.W_OK):
            raise self._file_problem(f"{path}: Permission denied", untouched=True)
        if is_new:
            yield f"{path} is not there yet; the first delivery makes it"
            return
        with self._translated(lambda: False), self._connection() as connection:
            yield f"{path} can be opened for writing"
            connection.execute("BEGIN")
            was_there = bool(_columns_of(connection, self.options.table))
            fit = self._make_tables(connection)
            connection.execute("ROLLBACK")
        names = ", ".join([*fit.written, EVENT, BATCH_ID])
        yield f"table {self.options.table} {'takes' if was_there else 'will be made with'} the columns {names}"

    def close(self) -> None:
        self._duckdb = None

    def _insert(self, connection: Any, batch_id: str, fit: Fit, rows: Rows, body: bytes) -> None:
        columns = {name: self._columns[name] for name in fit.written}
        written = [values for name, values in zip(self._columns, rows.values, strict=True) if name in columns]
        statement = insert_statement(self.options.table, columns)
        connection.execute(statement, [batch_id, *written, body[:-1].decode()])

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

    def _make_tables(self, connection: Any) -> Fit:
        """Make what is missing of the events table and the books."""
        table = self.options.table
        wanted = {name: SQL_TYPES[column.type] for name, column in self._columns.items()}
        wanted |= {EVENT: "JSON", BATCH_ID: "VARCHAR"}
        there = _columns_of(connection, table)
        if not there:
            body = ", ".join(f"{quoted(name)} {type}" for name, type in wanted.items())
            connection.execute(f"CREATE TABLE {quoted(table)} ({body})")
            there = {name.casefold(): type for name, type in wanted.items()}
        place = f"table {table!r} in {self.options.path}"
        fit = fit_columns(wanted, there, self.options.schema_contract, place, lambda added: _adding(table, added))
        if fit.added:
            connection.execute(_adding(table, fit.added))
        self._books.make(connection)
        return fit

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


def _adding(table: str, added: Mapping[str, str]) -> str:
    """A statement for each column: DuckDB takes one at a time."""
    return "; ".join(f"ALTER TABLE {quoted(table)} ADD COLUMN {quoted(name)} {type}" for name, type in added.items())


def _columns_of(connection: Any, table: str) -> dict[str, str]:
    """The types of a table's columns by their folded names; empty without the table."""
    rows = connection.execute(
        "SELECT column_name, data_type FROM duckdb_columns()"
        " WHERE lower(table_name) = lower(?) AND schema_name = 'main' AND database_name = current_database()",
        [table],
    ).fetchall()
    return {name.casefold(): type for name, type in rows}
