"""Connections to the server: made under the sink's deadline, and set so that nothing is cut or rounded in silence."""

import contextlib
import socket
import ssl
from dataclasses import dataclass
from typing import Any

from eventferry.sink import SinkMisconfigured
from eventferry.sink.wire import Watchdog, connect
from eventferry_sinks.mysql.options import MysqlOptions

NO_BACKSLASH_ESCAPES = 512  # status flag of every answer
_MODES = ("STRICT_ALL_TABLES", "NO_ENGINE_SUBSTITUTION", "NO_BACKSLASH_ESCAPES")
_OLDEST = {"MariaDB": (10, 5, 0), "MySQL": (8, 0, 17)}


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says about itself."""

    kind: str  # MariaDB or MySQL
    version: tuple[int, ...]
    max_packet: int  # bytes of the longest statement that it takes
    flush: int  # innodb_flush_log_at_trx_commit

    @property
    def collation(self) -> str:
        """The one that compares code points and pads nothing: to others `a` and `a ` are the same."""
        return "utf8mb4_nopad_bin" if self.kind == "MariaDB" else "utf8mb4_0900_bin"

    def __str__(self) -> str:
        return f"{self.kind} {'.'.join(map(str, self.version))}"


class Connection:
    """One connection of PyMySQL, watched, with its session's settings. Errors are the driver's, or OSError."""

    def __init__(self, driver: Any, options: MysqlOptions, watchdog: Watchdog) -> None:
        self._driver = driver
        self._watchdog = watchdog
        context = _tls_context(options)
        self.is_encrypted = context is not None
        self._connection = driver.Connection(
            host=options.host,
            user=options.user,
            # Of a text the driver makes bytes by Latin-1, and refuses other letters.
            password=options.password.get_secret_value().encode() if options.password else b"",
            database=options.database,
            charset="utf8mb4",
            autocommit=True,
            # The watchdog ends a call before; these are for a thread that nothing wakes.
            read_timeout=options.timeout + 5,
            write_timeout=options.timeout + 5,
            ssl=context,
            ssl_disabled=context is None,
            defer_connect=True,
        )
        sock = connect(options.host, options.port, watchdog)
        self._line: socket.socket | None = watchdog.watch(sock)
        try:
            self._connection.connect(sock)
            self._prepare(options.timeout)
        except BaseException:
            self.close()
            sock.close()
            raise

    def is_alive(self) -> bool:
        """Whether it still stands: servers and firewalls end what was idle."""
        try:
            self._connection.ping(False)
        except self._driver.Error:
            return False
        return True

    def cursor(self) -> Any:
        return self._connection.cursor()

    def run(self, statement: str | bytes) -> int:
        """Send a statement as it is; how many rows it changed."""
        return int(self._connection.query(statement))

    def ask(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())

    def begin(self) -> None:
        """Start a transaction. Raises SinkMisconfigured where something between here and the server undid a setting."""
        self.run("START TRANSACTION READ WRITE")
        if not self._connection.server_status & NO_BACKSLASH_ESCAPES:  # a backslash of an event would vanish
            raise SinkMisconfigured(
                "a proxy between here and the server forgets sql_mode; connect to the server itself"
            )

    def server(self) -> Server:
        """Raises SinkMisconfigured where it is too old."""
        ((version, max_packet, flush),) = self.ask(
            "SELECT VERSION(), @@max_allowed_packet, @@innodb_flush_log_at_trx_commit"
        )
        kind = "MariaDB" if "mariadb" in version.lower() else "MySQL"
        numbers = tuple(int(each) for each in version.partition("-")[0].split(".") if each.isdigit())
        found = Server(kind, numbers, int(max_packet), int(flush))
        if numbers < _OLDEST[kind]:
            wanted = ".".join(map(str, _OLDEST[kind]))
            raise SinkMisconfigured(f"{found} is too old; expected {kind} {wanted} or newer")
        return found

    def close(self) -> None:
        """Let go of it; what is not committed is rolled back. Twice is harmless."""
        with contextlib.suppress(self._driver.Error):  # closed already
            self._connection.close()
        line, self._line = self._line, None
        if line is not None:
            self._watchdog.forget(line)

    def _prepare(self, timeout: float) -> None:
        patience = max(1, int(timeout * 0.8))  # s; a lock that is held must be said before the deadline is over
        self.run(
            f"SET SESSION sql_mode = '{','.join(_MODES)}', time_zone = '+00:00',"
            f" innodb_lock_wait_timeout = {patience}, lock_wait_timeout = {patience},"
            # Should we vanish without a word, the server ends the transaction and its locks soon, not after hours.
            f" wait_timeout = {int(timeout) + 1}"
        )
        # Each statement sees what is committed, and no gap of an index is locked: sinks side by side do not deadlock.
        self.run("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")


def _tls_context(options: MysqlOptions) -> ssl.SSLContext | None:
    if options.tls == "off":
        return None
    if options.ca_file is not None and not options.ca_file.is_file():
        raise SinkMisconfigured(f"ca_file {options.ca_file} is not there or cannot be read")
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
    except ssl.SSLError:
        raise SinkMisconfigured(f"ca_file {options.ca_file} is not a certificate in PEM form") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # certificates that MySQL makes for itself lack what this asks for
    if options.tls == "require":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
