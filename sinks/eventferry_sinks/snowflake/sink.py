"""Appends events to a table in Snowflake, each event once: stage, COPY, and the books in one transaction."""

import io
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from eventferry.sink import Batch, BatchLimits, Guarantee, Sink, SinkMisconfigured, SinkUnavailable
from eventferry.sink.books import Books
from eventferry.sink.columns import Column
from eventferry.sink.libraries import load
from eventferry.sink.tables import count_columns, no_table
from eventferry.sink.wrapped import count_values, pack
from eventferry_sinks.snowflake.options import SnowflakeOptions
from eventferry_sinks.snowflake.session import Session
from eventferry_sinks.snowflake.table import (
    LOCKS,
    add_statements,
    books_statements,
    fit,
    insert_statement,
    quoted,
    table_statement,
    wanted_types,
)

_FORMAT = "FILE_FORMAT = (TYPE = JSON COMPRESSION = GZIP ALLOW_DUPLICATE = TRUE)"
_LOADED = '"EVENTFERRY_LOAD"'  # a temporary table, in the session's own schema
_MISSING = (2003, 2043)  # missing, or the role may not see it


class SnowflakeSink(Sink[SnowflakeOptions]):
    """A batch is put on a stage, then loaded in one transaction with its id and its parts, which a repeat finds.

    Snowflake enforces no keys: a row of a lock table, which every transaction updates first, keeps twins apart.
    """

    Options = SnowflakeOptions
    guarantee = Guarantee.EFFECTIVELY_ONCE
    can_replace = True
    limits = BatchLimits(max_events=250_000, max_bytes=64 * 1024 * 1024)
    experimental = True
    proved_against = "fakesnow"
    needs: ClassVar[Mapping[str, str]] = {"snowflake.connector": "eventferry[snowflake]"}

    _session: Session | None = None
    _columns: Mapping[str, Column]
    _left_out: Mapping[str, Column]

    def open(self) -> None:
        options = self.options
        load("snowflake.connector", "eventferry[snowflake]")
        self._name = options.table_name.upper()
        self._table = options.full_name(options.table_name)
        self._stage = options.full_name(options.stage)
        self._locks = options.full_name(LOCKS)
        self._prefix = quoted(options.database, options.schema_name) + "."
        self._books = Books(self._name, self._table, self._prefix)
        self._who = f"Snowflake account {options.account}"
        session = Session(self._who, options.timeout, options.arguments())
        with session.within() as cursor:
            self._prepare(cursor)
        self._session = session

    def deliver(self, batch: Batch) -> None:
        session = self._opened()
        with session.within() as cursor:
            staged: tuple[bytes, str] | None = None
            if not batch.replaces:  # the slow part first, while nobody is kept waiting
                if self._books.was_recorded(cursor, batch):
                    return
                lines = batch.lacking(self._books.recorded_parts(cursor, batch))
                staged = lines, self._put(cursor, batch, lines)
            self._begin(cursor)
            self._lock(cursor, batch)
            if self._books.was_recorded(cursor, batch):  # a twin was faster
                cursor.execute("ROLLBACK")
                return
            if batch.replaces:
                self._books.make_room(cursor, batch, self._who)
            lines = batch.lacking(self._books.recorded_parts(cursor, batch))
            if staged is None or staged[0] != lines:
                staged = lines, self._put(cursor, batch, lines)
            events = lines.count(b"\n")
            self._load(cursor, staged[1], events)
            self._books.record(cursor, batch, events)
            session.committing = True
            cursor.execute("COMMIT")

    def was_delivered(self, batch: Batch) -> bool | None:
        with self._opened().within() as cursor:
            return self._books.was_recorded(cursor, batch)

    def check(self) -> Iterator[str]:
        session, options = self._opened(), self.options
        with session.within() as cursor:
            cursor.execute("SELECT CURRENT_USER(), CURRENT_ROLE()")
            ((user, role),) = cursor.fetchall()
            yield f"{self._who} takes the user {user} with the role {role}"
            yield f"table {self._table} has all {len(self._columns) + 2} columns"
            path = self._put_bytes(cursor, "check", pack(b"", self._columns, "")[0])
            self._begin(cursor)
            cursor.execute(f"COPY INTO {_LOADED} FROM {path} {_FORMAT} PURGE = TRUE")
            yield f"stage {self._stage} can be written and loaded by warehouse {options.warehouse.upper()}"
            self._insert(cursor)
            cursor.execute("ROLLBACK")
            yield "a batch can be written (tried and rolled back)"

    def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    # -- the schema ---------------------------------------------------------------------------------------------------

    def _prepare(self, cursor: Any) -> None:
        """Make or look at all that is needed. Statements like these end a transaction, so they come before any."""
        self._prepare_table(cursor)
        for statement in books_statements(self._prefix).values():
            self._make(cursor, statement)
        self._make(cursor, f"CREATE STAGE IF NOT EXISTS {self._stage}")
        cursor.execute(f"SELECT COUNT(*) FROM {self._locks} WHERE TABLE_NAME = %s", [self._name])  # noqa: S608
        if cursor.fetchall()[0][0] == 0:
            cursor.execute(
                f"INSERT INTO {self._locks} (TABLE_NAME, BATCH_ID) VALUES (%s, %s)",  # noqa: S608
                [self._name, ""],
            )

    def _prepare_table(self, cursor: Any) -> None:
        options, columns = self.options, self.options.all_columns()
        wanted = wanted_types(columns, options.event_as)
        statement = table_statement(self._table, wanted)
        described = self._describe(cursor)
        if described is None:
            if not options.create:
                raise no_table(self._table, statement)
            self._make(cursor, statement)
            described = self._describe(cursor) or []
        found = fit(self._table, described, wanted, options.schema_contract)
        for addition in add_statements(self._table, found.added):
            self._make(cursor, addition)
        count_columns(self, {}, added=found.added)
        self._columns = {name: columns[name] for name in found.written}
        self._left_out = {name: columns[name] for name in found.discarded}

    def _make(self, cursor: Any, statement: str) -> None:
        from snowflake.connector.errors import ProgrammingError

        try:
            cursor.execute(statement)
        except ProgrammingError as error:
            raise SinkMisconfigured(
                f"{self._who}: the role may not do what is needed (error {error.errno}); grant it, or run: {statement}"
            ) from None

    def _describe(self, cursor: Any) -> list[Any] | None:
        """The table's columns; None without the table."""
        from snowflake.connector.errors import ProgrammingError

        try:
            cursor.execute(f"DESCRIBE TABLE {self._table}")
        except ProgrammingError as error:
            if error.errno in _MISSING:
                return None
            raise
        found: list[Any] = cursor.fetchall()
        return found

    # -- a batch ------------------------------------------------------------------------------------------------------

    def _put(self, cursor: Any, batch: Batch, lines: bytes) -> str:
        """Put the lines on the stage, under a path that is used once: a broken file is never in another's way."""
        if not lines:
            return ""
        packed, misfits = pack(lines, self._columns, batch.id, as_text=True)
        path = self._put_bytes(cursor, batch.id, packed)
        self.count("bytes.sent", number=len(packed))
        count_columns(self, misfits, count_values(lines, self._left_out))
        return path

    def _put_bytes(self, cursor: Any, folder: str, packed: bytes) -> str:
        place = f"@{self._stage}/{folder}/{uuid.uuid4().hex}/"
        cursor.execute(
            f"PUT 'file://batch.json.gz' {place} AUTO_COMPRESS = FALSE SOURCE_COMPRESSION = GZIP OVERWRITE = TRUE",
            file_stream=io.BytesIO(packed),
        )
        return f"{place}batch.json.gz"

    def _begin(self, cursor: Any) -> None:
        # Of this session alone, and empty: what an earlier transaction left in it is gone.
        cursor.execute(f'CREATE OR REPLACE TEMPORARY TABLE {_LOADED} ("RAW" VARIANT)')
        cursor.execute("BEGIN TRANSACTION")

    def _lock(self, cursor: Any, batch: Batch) -> None:
        cursor.execute(
            f"UPDATE {self._locks} SET BATCH_ID = %s WHERE TABLE_NAME = %s",  # noqa: S608 - quoted
            [batch.id, self._name],
        )

    def _load(self, cursor: Any, path: str, events: int) -> None:
        """Load the staged file, which is removed by that, and take it apart into columns."""
        if not events:
            return
        cursor.execute(f"COPY INTO {_LOADED} FROM {path} {_FORMAT} ON_ERROR = ABORT_STATEMENT PURGE = TRUE")
        taken = self._insert(cursor)
        if taken != events:
            raise SinkUnavailable(
                f"{self._who}: {taken} of {events} events were loaded from the stage; rolled back", untouched=True
            )

    def _insert(self, cursor: Any) -> int:
        cursor.execute(insert_statement(self._table, _LOADED, self._columns, self.options.event_as))
        return int(cursor.rowcount or 0)

    def _opened(self) -> Session:
        if self._session is None:
            raise RuntimeError("used before open")
        return self._session
