"""Appends events to a table in MySQL or MariaDB, each batch once."""

import contextlib
import ssl
from collections.abc import Iterator
from typing import Any

from eventferry.sink import (
    Batch,
    BatchLimits,
    Guarantee,
    Part,
    Sink,
    SinkError,
    SinkMisconfigured,
    SinkUnavailable,
)
from eventferry.sink.books import BATCHES, Books
from eventferry.sink.columns import Column
from eventferry.sink.libraries import load
from eventferry.sink.safe import safe_text
from eventferry.sink.tables import count_columns
from eventferry.sink.wire import DeadlineReached, NameUnknown, Watchdog
from eventferry_sinks.mysql.connection import Connection, Server
from eventferry_sinks.mysql.errors import DUPLICATE, meaning
from eventferry_sinks.mysql.options import EVENT_ID, MysqlOptions
from eventferry_sinks.mysql.statements import Encoder
from eventferry_sinks.mysql.table import make_ready, quoted

_NOBODY = "0" * 32  # the id of the batch that `check` tries


class MysqlSink(Sink[MysqlOptions]):
    """One transaction a batch: its id, its parts, its events, which a repeat finds, however it is cut."""

    Options = MysqlOptions
    guarantee = Guarantee.EFFECTIVELY_ONCE
    can_replace = True
    proved_against = "MariaDB 10.11"
    max_concurrency = 8
    limits = BatchLimits(max_events=20_000, max_bytes=8 * 1024 * 1024)
    needs = {"pymysql": "eventferry[mysql]"}  # noqa: RUF012 - declared a ClassVar in Sink

    _driver: Any = None
    _connection: Connection | None = None
    _server: Server
    _encoder: Encoder
    _books: Books
    _watchdog: Watchdog
    _committing = False  # from the moment COMMIT is sent, a lost answer leaves the outcome unknown

    def open(self) -> None:
        self._driver = load("pymysql", "eventferry[mysql]")
        self._watchdog = Watchdog()
        # Servers differ in whether the case of a table's name matters: the books do not care.
        self._books = Books(self.options.table.casefold(), quoted(self.options.table))
        with self._call():
            pass

    def deliver(self, batch: Batch) -> None:
        with self._call() as connection:
            connection.begin()
            if not self._write(connection, batch):
                connection.run("ROLLBACK")
                return
            self._committing = True
            connection.run("COMMIT")
        self._report()

    def was_delivered(self, batch: Batch) -> bool | None:
        # The lock waits for an attempt whose COMMIT is under way: what it decides is the answer.
        find = f"SELECT 1 FROM {BATCHES} WHERE table_name = %s AND batch_id = %s LOCK IN SHARE MODE"  # noqa: S608
        with self._call() as connection:
            return bool(connection.ask(find, self.options.table.casefold(), batch.id))

    def check(self) -> Iterator[str]:
        options = self.options
        with self._call() as connection:
            under = "under TLS" if connection.is_encrypted else "in plain text"
        yield f"{self._who} takes the user {options.user}, {under} ({self._server})"
        yield f"table {options.table} of {options.database} and its books are there, with all columns, in InnoDB"
        if self._server.flush == 1:
            yield "what is committed there is on its disk (innodb_flush_log_at_trx_commit = 1)"
        else:
            yield (
                f"innodb_flush_log_at_trx_commit is {self._server.flush} there: a crash of that machine loses"
                " what it took in the last second, without a trace here; set it to 1"
            )
        self._try_batch()
        yield "a batch can be written and replaced (tried and rolled back)"

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _write(self, connection: Connection, batch: Batch) -> bool:
        """Send everything of a batch within its transaction; False where the batch is there already."""
        cursor = connection.cursor()
        if self._books.was_recorded(cursor, batch):
            return False
        if batch.replaces:
            self._books.make_room(cursor, batch, self._who)
        lacking = batch.lacking(self._books.recorded_parts(cursor, batch))
        try:
            # Before the events: a twin that is under way, of an attempt that was given up, is waited for here.
            self._books.record(cursor, batch, lacking.count(b"\n"))
        except self._driver.IntegrityError as error:
            if error.args[0] != DUPLICATE:
                raise
            return False
        self._encoder.forget_counts()
        for statement in self._encoder.statements(lacking, batch.id):
            connection.run(statement)
            self._encoder.sent += len(statement)
        return True

    def _try_batch(self) -> None:
        body = b"{}\n"
        part = Part("check", "check", _NOBODY, 0, len(body), 1)
        with self._call() as connection:
            connection.begin()
            self._write(connection, Batch(_NOBODY, body, 1, (part,), epoch="check", replaces=(_NOBODY,)))
            connection.run("ROLLBACK")

    def _report(self) -> None:
        count_columns(self, self._encoder.misfits, self._encoder.left_out)
        self.count("bytes.sent", number=self._encoder.sent)
        self._encoder.forget_counts()

    # -- the connection -----------------------------------------------------------------------------------------------

    @property
    def _who(self) -> str:
        return f"{self.options.host}:{self.options.port}"

    @contextlib.contextmanager
    def _call(self) -> Iterator[Connection]:
        """A living connection, under the deadline. Whatever goes wrong ends it, and with it what is not committed."""
        if self._driver is None:
            raise RuntimeError("deliver before open")
        self._committing = False
        self._watchdog.start(self.options.timeout)
        try:
            if self._connection is None or not self._connection.is_alive():
                self._connect()
            assert self._connection is not None
            yield self._connection
        except Exception as error:
            problem = self._meaning(error)
            self.close()
            if problem is None:
                raise
            raise problem from None  # the server's texts may quote an event
        finally:
            self._watchdog.stop()

    def _connect(self) -> None:
        self.close()
        self._connection = connection = Connection(self._driver, self.options, self._watchdog)
        self._server = connection.server()
        columns = self.options.all_columns()
        if self.options.unique_event_id is not None:
            columns[EVENT_ID] = Column(path=(self.options.unique_event_id,))
        ready = make_ready(connection, self.options, self._server)
        count_columns(self, {}, added=ready.added)
        self._encoder = Encoder(self.options.table, columns, ready.columns, self._server.max_packet)

    def _meaning(self, error: Exception) -> SinkError | None:
        """None where it is a bug."""
        if isinstance(error, SinkError):
            return error
        if self._watchdog.fired or isinstance(error, DeadlineReached):
            after = "; it was told to commit, so what it took is unknown" if self._committing else ""
            said = f"{self._who} did not answer within {self.options.timeout:g} s{after}"
            return SinkUnavailable(said, untouched=not self._committing)
        if isinstance(error, NameUnknown):
            return SinkUnavailable(f"{self._who}: the host's name cannot be resolved", untouched=True)
        if isinstance(error, self._driver.Error):
            return self._complaint(error)
        if isinstance(error, OSError):
            said = f"{self._who}: no connection: {error.strerror or type(error).__name__}"
            return SinkUnavailable(said, untouched=not self._committing)
        if isinstance(error, RuntimeError) and "cryptography" in str(error):
            return SinkMisconfigured(f"{self._who}: the way this user logs in needs an encrypted connection: set tls")
        if self._connection is None:
            return SinkUnavailable(
                f"{self._who} does not speak MySQL's protocol ({type(error).__name__})", untouched=True
            )
        return None

    def _complaint(self, error: Any) -> SinkError:
        under = getattr(error, "original_exception", None)
        if isinstance(under, ssl.SSLCertVerificationError):
            return SinkMisconfigured(
                f"{self._who}: its certificate cannot be verified ({safe_text(under.verify_message)}); name the"
                " authority that issued it in ca_file"
            )
        number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        said = str(error.args[1]) if len(error.args) > 1 else "the connection broke"
        database, user = quoted(self.options.database), self.options.user.replace("'", "''")
        rights = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX"
        grant = f"GRANT {rights} ON {database}.* TO '{user}'@'%'"
        return meaning(number, said, who=self._who, grant=grant, committing=self._committing)
