"""A real MariaDB for tests, on loopback with a data directory of its own; it can be killed and started again."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pymysql
from tests.servers import START_SECONDS, find_program, free_ports

REMEDY = "apt-get install mariadb-server"
USER, PASSWORD = "ferry", "s3cret-ferry"
RIGHTS = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX"


class MariadbServer:
    """A server over `folder`. Committed is what is synced: the settings of durability are the server's own."""

    host = "127.0.0.1"

    def __init__(self, folder: Path, *flags: str) -> None:
        self._folder = folder
        self._flags = flags
        self._process: subprocess.Popen[bytes] | None = None
        self._install()
        (self.port,) = free_ports(1)

    def start(self) -> None:
        """Start it, on the same port each time, and wait until it takes connections."""
        command = [
            find_program("mariadbd", REMEDY), "--no-defaults", f"--datadir={self._data}", f"--user={_user()}",
            f"--socket={self._folder / 'm.sock'}", f"--pid-file={self._folder / 'm.pid'}", f"--port={self.port}",
            f"--bind-address={self.host}", *_SMALL, *self._flags,
        ]  # fmt: skip
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline, pause = time.monotonic() + START_SECONDS, threading.Event()
        while not self._answers():
            said = self.log.read_text(errors="replace")[-2000:]
            assert self._process.poll() is None, f"mariadbd ended with {self._process.returncode}: {said}"
            assert time.monotonic() < deadline, f"mariadbd was not ready within {START_SECONDS} s: {said}"
            pause.wait(0.02)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(20)

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def connect(self, database: str | None = None) -> pymysql.Connection:
        """A connection of root's, in autocommit."""
        return pymysql.connect(
            host=self.host, port=self.port, user="root", database=database, charset="utf8mb4", autocommit=True,
            connect_timeout=5, ssl_disabled=True,
        )  # fmt: skip

    def ask(self, statement: str, *values: object, database: str | None = None) -> list[tuple[object, ...]]:
        """Run a statement as root; the rows of its answer."""
        with self.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())

    def make_database(self, name: str) -> None:
        """A new database, and the user with just the rights that the README names."""
        self.ask(f"CREATE DATABASE `{name}`")
        self.ask(f"CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{PASSWORD}'")
        self.ask(f"GRANT {RIGHTS} ON `{name}`.* TO '{USER}'@'%'")

    @property
    def log(self) -> Path:
        return self._folder / "mariadb.log"

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _install(self) -> None:
        program = find_program("mariadb-install-db", REMEDY)
        command = [
            program, "--no-defaults", f"--datadir={self._data}", f"--user={_user()}",
            "--auth-root-authentication-method=normal", "--skip-test-db", *_SMALL,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]

    def _answers(self) -> bool:
        with contextlib.suppress(pymysql.Error):
            self.connect().close()
            return True
        return False


_SMALL = (
    "--innodb-log-file-size=32M", "--innodb-buffer-pool-size=64M", "--performance-schema=OFF", "--skip-name-resolve",
)  # fmt: skip


@contextmanager
def mariadb_server(folder: Path, *flags: str) -> Iterator[MariadbServer]:
    """A running server, gone with the block."""
    server = MariadbServer(folder, *flags)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _user() -> str:
    return "root" if os.geteuid() == 0 else os.environ.get("USER", "nobody")
