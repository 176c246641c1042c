"""Real database servers that can be killed like a machine that loses its power, and started on what is left."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import psycopg
from tests.faults.stage import wait_until
from tests.mariadb_server import MariadbServer, mariadb_server
from tests.postgres_server import PostgresServer, pip_programs, postgres_server


class Database(Protocol):
    """What the lane of kills needs of a database."""

    commit: bytes  # what a client sends to commit
    address: tuple[str, int]

    def sink(self, port: int) -> dict[str, Any]:
        """A sink of its type, through a relay at `port`."""

    def take_aim(self) -> None:
        """What takes time before a kill."""

    def kill(self) -> None:
        """kill -9, the server with all its processes."""

    def start(self) -> None:
        """Start it on the same data."""

    def events(self) -> list[bytes]:
        """What the table holds."""

    def recorded(self, ids: Sequence[str]) -> int:
        """How many of these batches it knows."""


class Postgres:
    commit = b"COMMIT\0"

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self.address = ("127.0.0.1", server.port)
        main = self._main()
        self._command = Path(f"/proc/{main}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        status = (server.data / "PG_VERSION").stat()
        self._owner: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._owner = {"user": status.st_uid, "group": status.st_gid, "extra_groups": []}
        self._process: subprocess.Popen[bytes] | None = None
        self._targets: list[int] = []
        server.run("CREATE ROLE trusted LOGIN SUPERUSER")  # who may come over TCP without a password

    def sink(self, port: int) -> dict[str, Any]:
        dsn = f"postgresql://trusted@127.0.0.1:{port}/postgres?sslmode=disable"
        return {"type": "postgres", "dsn": dsn, "event_as": "text", "create": True}

    def take_aim(self) -> None:
        self._targets = [self._main(), *self._processes()]

    def kill(self) -> None:
        main = self._targets[0]
        for pid in self._targets:  # the main process first, so that it starts no more
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait(20)
        else:  # nobody waits for the first one, and its zombie would count as a server that runs
            os.waitpid(main, 0)
        wait_until(self._is_gone, "the server is gone")

    def start(self) -> None:
        with (self._server.folder / "restarts.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **self._owner
            )
        wait_until(self._answers, "the server is up again", 60)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(20)

    def events(self) -> list[bytes]:
        return [event.encode() for (event,) in self._server.run("SELECT event FROM events")]

    def recorded(self, ids: Sequence[str]) -> int:
        wanted = ", ".join(f"'{each}'" for each in ids) or "''"
        find = f"SELECT count(*) FROM eventferry_batches WHERE batch_id IN ({wanted})"
        return int(self._server.run(find)[0][0])

    def _is_gone(self) -> bool:
        left = self._processes()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    def _processes(self) -> list[int]:
        """Every living process of the server: they work in its data directory."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and (entry / "cwd").readlink() == self._server.data:
                    found.append(int(entry.name))
        return found

    def _main(self) -> int:
        return int((self._server.data / "postmaster.pid").read_text().split()[0])

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, "PostgreSQL did not start again"
        with contextlib.suppress(psycopg.OperationalError):
            return bool(self._server.run("SELECT 1"))
        return False


class Mariadb:
    commit = b"\x03COMMIT"

    def __init__(self, server: MariadbServer) -> None:
        self._server = server
        self.address = (server.host, server.port)
        self.kill, self.start = server.kill, server.start
        server.ask("CREATE DATABASE analytics")

    def take_aim(self) -> None:
        """It is one process."""

    def sink(self, port: int) -> dict[str, Any]:
        place = {"host": "127.0.0.1", "port": port, "database": "analytics", "user": "root", "tls": "off"}
        return {"type": "mysql", **place, "create": True}

    def events(self) -> list[bytes]:
        return [str(event).encode() for (event,) in self._server.ask("SELECT event FROM events", database="analytics")]

    def recorded(self, ids: Sequence[str]) -> int:
        wanted = ", ".join(f"'{each}'" for each in ids) or "''"
        find = f"SELECT count(*) FROM eventferry_batches WHERE batch_id IN ({wanted})"
        return int(str(self._server.ask(find, database="analytics")[0][0]))


@contextmanager
def postgres(_: Path) -> Iterator[Database]:
    """The server that pip brings, with every sync to the disk."""
    # The sink must not rely on synchronous_commit. After a crash the server syncs all its files, by one call for the
    # whole disk in a tenth of the time.
    settings = {"fsync": "on", "synchronous_commit": "off", "recovery_init_sync_method": "syncfs"}
    with postgres_server(pip_programs(), **settings) as server:
        database = Postgres(server)
        try:
            yield database
        finally:
            database.stop()


@contextmanager
def mariadb(folder: Path) -> Iterator[Database]:
    """Debian's server, with every sync to the disk."""
    with mariadb_server(folder, "--innodb-flush-log-at-trx-commit=1") as server:
        yield Mariadb(server)
