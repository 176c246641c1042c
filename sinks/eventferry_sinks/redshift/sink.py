"""Appends events to a table in Amazon Redshift: files in S3, COPY, and the batch's id in one transaction."""

import contextlib
import secrets
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from eventferry.sink import Batch, BatchLimits, BatchRejected, Guarantee, Sink
from eventferry.sink.books import BATCHES, PARTS
from eventferry.sink.objects import Bucket, open_bucket, place_of
from eventferry.sink.postgresql.session import Session
from eventferry.sink.safe import safe_text
from eventferry.sink.tables import count_columns, fit_columns, no_table
from eventferry.sink.wrapped import count_values
from eventferry_sinks.redshift.complaints import LOAD_FAILED, judge
from eventferry_sinks.redshift.options import RedshiftOptions
from eventferry_sinks.redshift.staging import Stage
from eventferry_sinks.redshift.statements import (
    RedshiftBooks,
    add_statements,
    book_statements,
    columns_there,
    copy_statement,
    create_statement,
    is_fit,
    longest,
    quoted,
    types_of,
)

TRIAL = b'{"event_type":"eventferry.check"}\n'


class RedshiftSink(Sink[RedshiftOptions]):
    """One transaction a batch, under a lock on the books: Redshift enforces no keys that would keep twins apart."""

    Options = RedshiftOptions
    guarantee = Guarantee.EFFECTIVELY_ONCE
    can_replace = True
    experimental = True
    proved_against = "PostgreSQL 18 with COPY stubbed, and rclone's S3"
    limits = BatchLimits(max_events=100_000, max_bytes=32 * 1024 * 1024)
    needs = {"psycopg": "eventferry[redshift]", "boto3": "eventferry[redshift]"}  # noqa: RUF012 - a ClassVar in Sink

    _session: Session | None = None
    _bucket: Bucket
    _books: RedshiftBooks
    _types: Mapping[str, str]

    def open(self) -> None:
        schema, table = self.options.place
        self._table = quoted(schema, table)
        self._types = types_of(self.options.all_columns())
        self._books = RedshiftBooks(f"{schema}.{table}", self._table, quoted(schema) + ".")
        session = Session(self.options, "eventferry[redshift]", judge)
        self._bucket = open_bucket(place_of(self.options.stage), self.options.s3, self.options.timeout)
        try:
            with session.call():
                pass
        except BaseException:
            self._bucket.close()
            raise
        self._session = session

    def deliver(self, batch: Batch) -> None:
        with self._transaction() as cursor:
            discarded, stage = self._prepare(cursor)
            if self._books.was_recorded(cursor, batch):
                if batch.attempt > 1 and not self.options.keep_staged:
                    stage.sweep(self._folder(batch.id))  # the attempt that took effect could not
                return
            if batch.replaces:
                self._books.make_room(cursor, batch, self._opened.who)
            lacking = batch.lacking(self._books.recorded_parts(cursor, batch))
            with self._staging(stage):
                if lacking:
                    self._load(cursor, stage, lacking, batch.id, discarded)
                self._books.record(cursor, batch, lacking.count(b"\n"))
                self._opened.committing = True
                cursor.execute("COMMIT")
        columns = self.options.all_columns()
        count_columns(self, stage.misfits, count_values(lacking, {name: columns[name] for name in discarded}))
        if lacking:
            self.count("bytes.sent", number=stage.sent)

    def was_delivered(self, batch: Batch) -> bool | None:
        session = self._opened
        with session.call(self._remedies()) as connection:
            cursor = session.mixing_cursor(connection)
            if not columns_there(cursor, self.options.place[0], BATCHES):
                return False
            self._begin(cursor)  # under the lock: an attempt whose COMMIT still waits somewhere is waited for
            return self._books.was_recorded(cursor, batch)

    def check(self) -> Iterator[str]:
        session = self._opened
        with session.call(self._remedies()) as connection:
            cursor = session.mixing_cursor(connection)
            cursor.execute("SELECT version(), current_user")
            version, user = cursor.fetchall()[0]
        yield f"{session.who} answers: {safe_text(version, 120)}"
        yield f"it takes the user {user}, {'under' if session.is_encrypted else 'without'} TLS"
        self._bucket.begin(self.options.timeout)
        self._bucket.prove()
        yield f"{self._bucket.root} can be listed {self._bucket.identity}"
        with self._transaction() as cursor:
            discarded, stage = self._prepare(cursor)
            with self._staging(stage):
                self._load(cursor, stage, TRIAL, secrets.token_hex(16), discarded)
                cursor.execute("ROLLBACK")
            stage.clear()
        yield f"a file can be staged and copied into {self.options.table} (tried and rolled back)"

    def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()
            self._bucket.close()

    @property
    def _opened(self) -> Session:
        if self._session is None:
            raise RuntimeError("the sink is not open")
        return self._session

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Any]:
        """A cursor in a transaction that has the books to itself; what is not committed is rolled back."""
        session, schema = self._opened, self.options.place[0]
        with session.call(self._remedies()) as connection:
            cursor = session.mixing_cursor(connection)
            self._bucket.begin(session.remaining())
            if not all(columns_there(cursor, schema, each) for each in (BATCHES, PARTS)):
                for statement in book_statements(schema):
                    cursor.execute(statement)
            self._begin(cursor)
            yield cursor

    def _begin(self, cursor: Any) -> None:
        """Begin a transaction that has the books to itself; it sees what was committed when it got the lock."""
        cursor.execute(f"SET statement_timeout TO {max(1, int(self._opened.remaining() * 950))}")
        cursor.execute("BEGIN")
        cursor.execute(f"LOCK {quoted(self.options.place[0], BATCHES)}")

    def _prepare(self, cursor: Any) -> tuple[Collection[str], Stage]:
        """Make the table fit; gives the columns that it lacks and goes without, and where files are staged."""
        there = columns_there(cursor, *self.options.place)
        if not there:
            self._create(cursor)
            there = dict(self._types)
        fit = fit_columns(
            self._types,
            there,
            self.options.schema_contract,
            f"table {self.options.table} in {self._opened.who}",
            lambda added: "; ".join(add_statements(self._table, added)),
            is_fit=is_fit,
        )
        for statement in add_statements(self._table, fit.added):
            cursor.execute(statement)
        count_columns(self, {}, added=fit.added)
        columns = {name: column for name, column in self.options.all_columns().items() if name in fit.written}
        lengths = {name: longest(there.get(name, self._types[name])) for name in columns}
        return fit.discarded, Stage(self._bucket, columns, {name: most for name, most in lengths.items() if most})

    def _create(self, cursor: Any) -> None:
        statement = create_statement(self._table, self._types)
        if not self.options.create:
            raise no_table(f"{self.options.table} in {self._opened.who}", statement)
        cursor.execute(statement)

    def _load(self, cursor: Any, stage: Stage, body: bytes, batch_id: str, discarded: Collection[str]) -> None:
        folder = self._folder(batch_id)
        manifest = stage.put(folder, body, batch_id)
        names = [name for name in self._types if name not in discarded]
        options = self.options
        try:
            cursor.execute(copy_statement(self._table, names, manifest, options.iam_role, options.stage_region))
        except Exception as error:
            if LOAD_FAILED.search(str(error)) is None:
                raise
            reason = self._reason(cursor, folder)
        else:
            return
        raise BatchRejected(f"{self._opened.who}: {reason}")

    def _folder(self, batch_id: str) -> str:
        return f"{self.options.table}/{batch_id}"

    def _reason(self, cursor: Any, folder: str) -> str:
        """Why COPY refused a row, from the cluster's own table, without the row."""
        cursor.execute("ROLLBACK")
        cursor.execute(
            "SELECT trim(column_name), trim(error_message) FROM sys_load_error_detail"
            " WHERE file_name LIKE %s ORDER BY start_time DESC LIMIT 1",
            [f"%{folder}/%"],
        )
        found = cursor.fetchall()
        if not found:
            return "COPY refused a row; sys_load_error_detail says nothing about it"
        column, message = found[0]
        return f"{safe_text(message, 200)} (column {safe_text(column, 70)})"

    @contextlib.contextmanager
    def _staging(self, stage: Stage) -> Iterator[None]:
        """Remove the files in the end, unless the outcome is unknown: then the repeat does it."""
        try:
            yield
        except BaseException:
            if not self._opened.committing:
                stage.clear()
            raise
        if not self.options.keep_staged and (left := stage.clear()):
            self.count("objects.left", number=left)

    def _remedies(self) -> dict[str, str]:
        user, schema = quoted(self._opened.user), quoted(self.options.place[0])
        return {
            "42501": (
                f"let a superuser run: GRANT USAGE, CREATE ON SCHEMA {schema} TO {user};"
                f" GRANT SELECT, INSERT, DELETE ON {self._table} TO {user}"
            ),
            "3F000": f"create the schema: CREATE SCHEMA {schema} AUTHORIZATION {user}",
        }
