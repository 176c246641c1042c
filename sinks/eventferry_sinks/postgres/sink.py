"""Appends events to a table in a PostgreSQL database with COPY, each batch once."""

import contextlib
from collections.abc import Iterator
from typing import Any

from eventferry.sink import Batch, BatchLimits, Guarantee, Sink, SinkUnavailable
from eventferry.sink.books import BATCH_COLUMNS, BATCHES, Books
from eventferry.sink.postgresql.session import Session
from eventferry.sink.tables import Fit, count_columns
from eventferry_sinks.postgres.checking import Place, abilities, account, layout, rights, trial_batch, versions
from eventferry_sinks.postgres.encoding import Encoder
from eventferry_sinks.postgres.options import EVENT_ID, PostgresOptions
from eventferry_sinks.postgres.table import (
    Design,
    book_statements,
    books_there,
    check_logged,
    columns_there,
    fit,
    quoted,
    schema_there,
)

_LOCK = 7306004651893449075  # what makes two sinks of one database make their tables one after the other
_STAGE = "eventferry_stage"
_LOCK_SECONDS = 5.0  # while a change of the table waits for its lock, everybody else waits behind it
_MARGIN = 0.3  # seconds by which the server's own limits come before ours, so that its answer says what happened
# What is confirmed has to outlive a crash of the server; the stronger settings, for standbys, stay as they are.
_DURABLE = "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"


class PostgresSink(Sink[PostgresOptions]):
    """One transaction a batch: its id, its events, its parts, which a repeat finds, however it is cut."""

    Options = PostgresOptions
    guarantee = Guarantee.EFFECTIVELY_ONCE
    can_replace = True
    max_concurrency = 8
    limits = BatchLimits(max_events=50_000, max_bytes=16 * 1024 * 1024)
    proved_against = "PostgreSQL 18 and 15"
    needs = {"psycopg": "eventferry[postgres]"}  # noqa: RUF012 - declared a ClassVar in Sink

    _session: Session | None = None
    _design: Design
    _books: Books
    _repeated = 0  # events of the last batch whose id was there already
    _encoder: Encoder | None = None  # None: the table was not looked at since something was wrong with it

    def open(self) -> None:
        self._design = self.options.design()
        schema = self._design.schema
        self._books = Books(self._design.said, self._design.sql_name, quoted(schema) + ".")
        session = Session(self.options, "eventferry[postgres]")
        with session.call():
            pass
        self._session = session

    def deliver(self, batch: Batch) -> None:
        self._repeated = 0
        with self._call() as connection:
            cursor = connection.cursor()
            encoder = self._encoder or self._prepare(cursor)
            self._begin(cursor)
            if not self._claim(cursor, batch):
                return
            if batch.replaces:
                self._books.make_room(cursor, batch, self._opened.who)
            lacking = batch.lacking(self._books.recorded_parts(cursor, batch))
            if lacking:
                self._copy(cursor, encoder, lacking, batch.id)
            if len(lacking) != len(batch.body):
                self._correct(cursor, batch, lacking.count(b"\n"))
            self._books.record_parts(cursor, batch)
            self._commit(cursor)
            self._report(encoder, lacking)

    def was_delivered(self, batch: Batch) -> bool | None:
        with self._call() as connection:
            cursor = connection.cursor()
            if not books_there(cursor, self._design.schema):
                return False
            # Not a mere look: an attempt that was given up may be committing yet, and only its id's key waits for it.
            self._begin(cursor)
            is_new = self._claim(cursor, batch)
            cursor.execute("ROLLBACK")
            return not is_new

    def check(self) -> Iterator[str]:
        for step in (versions, account, abilities, layout, rights, self._try_batch):
            with self._call() as connection:
                found = step(Place(connection.cursor(), self._opened, self._design, self.options.create))
            yield found

    def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    @property
    def _opened(self) -> Session:
        if self._session is None:
            raise RuntimeError("the sink is not open")
        return self._session

    @contextlib.contextmanager
    def _call(self) -> Iterator[Any]:
        session = self._opened
        try:
            with session.call(self._design.remedies(session.user)) as connection:
                yield connection
        except Exception:
            self._encoder = None  # the next delivery looks at the table again
            raise

    def _prepare(self, cursor: Any) -> Encoder:
        """Make the table fit where that is asked for, in a transaction of its own, to keep its lock short."""
        there, found = self._look(cursor)
        if not there or found.added or not books_there(cursor, self._design.schema):
            self._begin(cursor, lock_seconds=_LOCK_SECONDS)
            self._make(cursor)
            cursor.execute("COMMIT")
            count_columns(self, {}, added=found.added)
        self._encoder = Encoder(self._design.columns, found.discarded)
        return self._encoder

    def _look(self, cursor: Any) -> tuple[bool, Fit]:
        """Whether the table is there, and how it takes the columns."""
        check_logged(cursor, self._design, self._opened.who)
        there = columns_there(cursor, self._design.schema, self._design.name)
        has_schema = bool(there) or schema_there(cursor, self._design.schema)
        found = fit(self._design, there, self._opened.who, create=self.options.create, has_schema=has_schema)
        return bool(there), found

    def _make(self, cursor: Any) -> None:
        """Table and books as they should be, within the transaction that is open."""
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        there, found = self._look(cursor)
        if not there:
            cursor.execute(self._design.create_statement())
        if found.added:
            cursor.execute(self._design.add_statement(found.added))
        if not books_there(cursor, self._design.schema):
            for statement in book_statements(self._design.schema):
                cursor.execute(statement)

    def _begin(self, cursor: Any, lock_seconds: float = 86400) -> None:
        """Begin a transaction that the server ends by itself, should we be gone, shortly before our own deadline."""
        left = self._opened.remaining()
        limit = max(left - _MARGIN, left * 0.8)
        settings = {
            "TimeZone": "'UTC'",
            "statement_timeout": _ms(limit),
            "lock_timeout": _ms(min(limit * 0.9, lock_seconds)),
            "idle_in_transaction_session_timeout": _ms(left + 5),
        }
        local = "; ".join(f"SET LOCAL {name} = {value}" for name, value in settings.items())
        cursor.execute(f"BEGIN ISOLATION LEVEL READ COMMITTED; {local}; {_DURABLE}")

    def _claim(self, cursor: Any, batch: Batch) -> bool:
        """Write the batch's id down; False where it is there. A twin under way is waited for."""
        names, marks = ", ".join(map(quoted, BATCH_COLUMNS)), ", ".join(["%s"] * len(BATCH_COLUMNS))
        cursor.execute(
            f"INSERT INTO {quoted(self._design.schema, BATCHES)} ({names}) VALUES ({marks})"  # noqa: S608 - quoted
            " ON CONFLICT DO NOTHING RETURNING 1",
            [batch.id, self._design.said, batch.events],
        )
        return bool(cursor.fetchall())

    def _correct(self, cursor: Any, batch: Batch, events: int) -> None:
        """Say how many events of the batch were lacking, where that is not all of them."""
        cursor.execute(
            f"UPDATE {quoted(self._design.schema, BATCHES)} SET events = %s WHERE table_name = %s AND batch_id = %s",  # noqa: S608
            [events, self._design.said, batch.id],
        )

    def _copy(self, cursor: Any, encoder: Encoder, body: bytes, batch_id: str) -> None:
        names = ", ".join(map(quoted, encoder.names))
        table = self._design.sql_name
        if self._design.unique:
            # Without constraints: what is refused there is found out by the INSERT, where it can be told apart.
            cursor.execute(f"CREATE TEMP TABLE {_STAGE} ON COMMIT DROP AS SELECT {names} FROM {table} WITH NO DATA")  # noqa: S608
            table = f"pg_temp.{_STAGE}"
        with cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
            for block in encoder.blocks(body, batch_id):
                copy.write(block)
        if self._design.unique:
            cursor.execute(
                f"INSERT INTO {self._design.sql_name} ({names}) SELECT {names} FROM {table}"  # noqa: S608 - quoted
                f" ON CONFLICT ({quoted(self._design.unique)}) DO NOTHING"
            )
            self._repeated = body.count(b"\n") - cursor.rowcount

    def _commit(self, cursor: Any) -> None:
        self._opened.committing = True
        cursor.execute("COMMIT")
        if cursor.statusmessage != "COMMIT":
            raise SinkUnavailable(f"{self._opened.who}: the transaction was rolled back", untouched=True)

    def _report(self, encoder: Encoder, body: bytes) -> None:
        if not body:
            return
        self.count("bytes.sent", number=len(body))
        count_columns(self, encoder.misfits, encoder.left_out)
        if self._repeated:
            self.count("events.repeated", EVENT_ID, self._repeated)

    def _try_batch(self, place: Place) -> str:
        cursor, batch = place.cursor, trial_batch()
        self._begin(cursor, lock_seconds=_LOCK_SECONDS)
        self._make(cursor)
        self._claim(cursor, batch)
        self._copy(cursor, Encoder(self._design.columns, self._look(cursor)[1].discarded), batch.body, batch.id)
        self._books.record_parts(cursor, batch)
        cursor.execute("ROLLBACK")
        return f"a batch can be written to {self._design.said} (tried and rolled back)"


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))
