"""One kept connection to a server that speaks PostgreSQL's protocol; every call ends at a total deadline."""

import contextlib
import os
import select
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from eventferry.sink.errors import SinkError, SinkUnavailable
from eventferry.sink.libraries import load
from eventferry.sink.postgresql import dialing
from eventferry.sink.postgresql.options import ServerOptions
from eventferry.sink.postgresql.sqlstates import Complaint, Judge, meaning
from eventferry.sink.safe import safe_text
from eventferry.sink.wire import DeadlineReached, Watchdog


class Session:
    """The connection of one sink. Used by one thread at a time.

    `call` opens it where it is missing or has died meanwhile, and says what went wrong in the errors of the contract.
    """

    def __init__(self, options: ServerOptions, extra: str, judge: Judge = meaning) -> None:
        """`extra` is what pip installs to get psycopg; `judge` says what the server's complaints mean.

        Raises SinkMisconfigured.
        """
        psycopg = self._psycopg = load("psycopg", extra)
        self._params = dialing.parse(options, psycopg)
        self._timeout = options.timeout
        self._judge = judge
        self._watchdog = Watchdog()
        self._connection: Any = None
        self._line: socket.socket | None = None
        self.who = dialing.who(self._params)
        self.user = self._params.get("user", "")
        # From the moment COMMIT is sent, a lost answer leaves the outcome unknown.
        self.committing = False

    @contextlib.contextmanager
    def call(self, remedies: Mapping[str, str] | None = None, seconds: float | None = None) -> Iterator[Any]:
        """A connection of psycopg, in autocommit and idle, until the deadline; what is left open is rolled back.

        `remedies` say what a person may do, by SQLSTATE or its class; `seconds` shorten the configured timeout. Raises
        SinkErrors.
        """
        self.committing = False
        self._watchdog.start(self._timeout if seconds is None else min(seconds, self._timeout))
        problem: SinkError | None = None
        try:
            yield self._live()
        except self._psycopg.Error as error:
            problem = self._meaning(error, remedies or {})
            if problem is None:
                raise
        except DeadlineReached:
            problem = self._overdue()
        finally:
            self._settle()
            self._watchdog.stop()
        if problem is not None:
            raise problem from None  # psycopg's texts may quote an event

    def mixing_cursor(self, connection: Any) -> Any:
        """A cursor that mixes values into statements itself, for servers with another idea of parameters."""
        return self._psycopg.ClientCursor(connection)

    def remaining(self) -> float:
        """Seconds left of the call. Raises DeadlineReached, which `call` understands."""
        return self._watchdog.remaining()

    @property
    def is_encrypted(self) -> bool:
        """Whether the connection is under TLS."""
        return self._connection is not None and bool(self._connection.pgconn.ssl_in_use)

    def close(self) -> None:
        """Let go of the connection; twice is harmless."""
        connection, self._connection = self._connection, None
        line, self._line = self._line, None
        if line is not None:
            self._watchdog.forget(line)
        if connection is not None:
            connection.close()

    def _live(self) -> Any:
        if self._connection is not None and not self._is_alive():
            self.close()
        if self._connection is None:
            self._connection = dialing.dial(self._params, self._watchdog, self._psycopg)
            with socket.socket(fileno=os.dup(self._connection.pgconn.socket)) as sock:
                # It is one open file under several numbers: a handle that blocks would make libpq's block, too.
                sock.setblocking(False)
                self._line = self._watchdog.watch(sock)
        return self._connection

    def _is_alive(self) -> bool:
        """Whether an idle connection still stands, as far as this side knows; asks the server nothing."""
        pgconn = self._connection.pgconn
        waiting = select.poll()
        try:
            waiting.register(pgconn.socket, select.POLLIN)
            for _ in range(8):  # a notice, a changed setting, the server's farewell
                if not waiting.poll(0):
                    return True
                pgconn.consume_input()
                pgconn.is_busy()  # parses what came
        except (self._psycopg.Error, OSError, ValueError):
            pass
        return False

    def _settle(self) -> None:
        """Leave the connection idle for the next call, or leave none."""
        if self._connection is None:
            return
        status = self._psycopg.pq.TransactionStatus
        try:
            if self._connection.pgconn.transaction_status in (status.INTRANS, status.INERROR):
                self._connection.execute("ROLLBACK")
            if self._connection.pgconn.transaction_status == status.IDLE and not self._watchdog.fired:
                return
        except self._psycopg.Error:
            pass
        self.close()

    def _meaning(self, error: Any, remedies: Mapping[str, str]) -> SinkError | None:
        """None where it is neither the server's word nor the connection's end: a bug."""
        if error.sqlstate is not None:
            diag = error.diag
            said = Complaint(
                error.sqlstate,
                diag.message_primary or "",
                diag.context or "",
                diag.column_name or "",
                diag.constraint_name or "",
            )
            return self._judge(said, self.who, committing=self.committing, remedies=remedies)
        if self._watchdog.fired:
            return self._overdue()
        if isinstance(error, self._psycopg.OperationalError):
            said = Complaint(None, "the connection broke: " + safe_text(str(error).split("\n")[0], 120))
            return meaning(said, self.who, committing=self.committing)
        return None

    def _overdue(self) -> SinkUnavailable:
        text = f"{self.who} did not answer within {self._timeout:g} s"
        if self.committing:
            text += "; whether the batch was committed is unknown"
        return SinkUnavailable(text, untouched=not self.committing)
