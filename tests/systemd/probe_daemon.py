#!/opt/eventferry/venv/bin/python
"""Reports, as one JSON line, what a program inside the unit's sandbox can and cannot do."""

import concurrent.futures
import importlib
import importlib.util
import json
import multiprocessing
import os
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from eventferry import notify

MODULES = [
    "apscheduler.schedulers.background",
    "sqlalchemy",
    "alembic.command",
    "structlog",
    "requests",
    "smart_open",
    "pydantic",
    "typer",
    "rich.progress",
    "msgspec",
    "isal.igzip_threaded",
    "xxhash",
    "backports.zstd",
    "boto3",
    "duckdb",
    "apprise",
    "cryptography.hazmat.primitives.asymmetric.rsa",
]


def outcome(action: Callable[[], object]) -> str:
    try:
        return str(action())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def write_to(directory: str) -> str:
    Path(directory, "probe").write_text("x")
    return "written"


def use_ledger() -> str:
    with sqlite3.connect(Path(os.environ["STATE_DIRECTORY"], "probe.sqlite")) as ledger:
        (mode,) = ledger.execute("PRAGMA journal_mode=WAL").fetchone()
        ledger.execute("CREATE TABLE IF NOT EXISTS t (n)")
    return str(mode)


def spawn_workers() -> int:
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=spawn) as workers:
        return sum(workers.map(abs, [-1, -2]))


def use_duckdb() -> object:
    import duckdb

    with duckdb.connect(str(Path(os.environ["STATE_DIRECTORY"], "probe.duckdb"))) as database:
        database.execute("CREATE OR REPLACE TABLE t AS SELECT range AS n FROM range(100000)")
        return database.execute("SELECT count(*) FROM t").fetchone()


def import_all() -> list[str]:
    for module in MODULES:
        importlib.import_module(module)
    return MODULES


def start_thread() -> bool:
    done = threading.Event()
    threading.Thread(target=done.set).start()
    return done.wait(5)


def main() -> None:
    credentials = Path(os.environ.get("CREDENTIALS_DIRECTORY", "/none"), "slack-webhook")
    report = {
        "user": os.getuid(),
        "state": outcome(lambda: write_to("/var/lib/eventferry")),
        "cache": outcome(lambda: write_to("/var/cache/eventferry")),
        "runtime": outcome(lambda: write_to("/run/eventferry")),
        "config": outcome(lambda: write_to("/etc/eventferry")),
        "srv": outcome(lambda: write_to("/srv/incoming")),
        "group file": outcome(lambda: Path("/srv/events/a.ndjson").read_text().strip()),
        "home": outcome(lambda: os.listdir("/home/ana")),
        "credential": outcome(credentials.read_text),
        "ledger": outcome(use_ledger),
        "workers": outcome(spawn_workers),
        "duckdb": outcome(use_duckdb),
        "imports": outcome(lambda: len(import_all())),
        "threads": outcome(start_thread),
        "tls": outcome(lambda: len(ssl.create_default_context().get_ca_certs()) > 0),
        "lookup": outcome(lambda: socket.getaddrinfo("localhost", 80)[0][4][1]),
        "subprocess": outcome(lambda: subprocess.check_output(["/bin/echo", "hi"], text=True).strip()),
        "journal": outcome(lambda: len(subprocess.check_output(["journalctl", "--quiet", "--lines=1"])) > 0),
        "cores": outcome(lambda: (os.cpu_count() or 0) > 0),
        "nice": outcome(lambda: os.nice(-1)),
        "faulthandler": outcome(lambda: sys.modules["faulthandler"].is_enabled()),
    }
    print("PROBE", json.dumps(report), flush=True)
    if sys.argv[1] == "run":
        notify.ready()
        signal.pause()


if __name__ == "__main__":
    main()
