"""The stage of the fault lane: a store that grows, a configuration, and real daemons that can be killed."""

import collections
import contextlib
import datetime as dt
import gzip
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "eventferry"]
CHECKOUT = Path(__file__).resolve().parents[2]
WORDS = ["pageView", "click", "ünïcödé ☃ 漢字", 'quote " and \\ backslash', "tab\\tnewline\\n", ""]

BASE: dict[str, Any] = {
    "log": {"format": "json", "level": "info"},
    "execution": {"processes": 1},
    "service": {"stop_timeout": "10s", "requests_every": "200ms"},
}


def wait_until(true: Callable[[], Any], what: str, seconds: float = 30.0, every: float = 0.005) -> Any:
    """Poll until `true()` holds; what it gave. AssertionError names what was waited for."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not (found := true()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        pause.wait(every)
    return found


class Stage:
    """A folder with a store, a state directory, a configuration and the daemons that run on them."""

    def __init__(self, folder: Path, seed: int = 1, *, state: Path | None = None) -> None:
        self.folder = folder
        self.state = state or folder / "state"
        self.store, self.out = folder / "store", folder / "out"
        for each in (self.store, self.state, self.out):
            each.mkdir(exist_ok=True)
        self.random = random.Random(seed)
        self.events = self.files = 0
        self.daemons: list[Daemon] = []
        # Dated yesterday, so that neither look-back nor retention ever leaves them out.
        self._day = (dt.datetime.now(dt.UTC) - dt.timedelta(days=1)).strftime("%Y/%m/%d")

    # -- what the daemon is given -------------------------------------------------------------------------------------

    def add_files(self, files: int, events: int) -> None:
        """Let whole files land in the store; every seventh line or so is blank or broken."""
        for _ in range(files):
            self.files += 1
            lines = [self._line(self.files, number) for number in range(events)]
            for _ in range(events // 100):
                lines.insert(self.random.randrange(len(lines)), self.random.choice([b"", b'{"torn": ', b"[1]"]))
            target = self.store / self._day / f"{self.files // 1000:02d}" / f"{self.files:06d}.ndjson.gz"
            target.parent.mkdir(parents=True, exist_ok=True)
            growing = target.with_name(f".{target.name}")
            growing.write_bytes(gzip.compress(b"\n".join(lines) + b"\n", 1, mtime=0))
            growing.rename(target)
            self.events += events

    def _line(self, file: int, number: int) -> bytes:
        event = {
            "event_timestamp": 1_700_000_000_000 + file * 1000 + number,
            "file": file,
            "n": number,
            "type": self.random.choice(WORDS),
            "big": 2**63 - self.random.randrange(1000),
            "attributes": {"price": 19.90, "fill": "x" * self.random.randrange(200)},
        }
        return json.dumps(event, ensure_ascii=number % 2 == 0).encode()

    def configure(self, sinks: Mapping[str, Mapping[str, Any]], **tables: Mapping[str, Any]) -> Path:
        """Write the configuration: `sinks` by name, further tables over the base."""
        source = {"name": "events", "url": str(self.store), "settle": "0s", "interval": "200ms"}
        lines = [
            f"state_dir = {_toml(str(self.state))}",
            "[[sources]]",
            *_pairs({**source, **tables.pop("source", {})}),
        ]
        for name, table in {**BASE, **tables}.items():
            lines += [f"[{name}]", *_pairs(table)]
        for name, options in sinks.items():
            plain = {key: value for key, value in options.items() if not isinstance(value, Mapping)}
            lines += ["[[sinks]]", *_pairs({"name": name, **plain})]
            for key, value in options.items():
                if isinstance(value, Mapping):
                    lines += [f"[sinks.{key}]", *_pairs(value)]
        self.config.write_text("\n".join(lines) + "\n")
        return self.config

    @property
    def config(self) -> Path:
        return self.folder / "eventferry.toml"

    # -- daemons ------------------------------------------------------------------------------------------------------

    def start(self, *before: str, command: list[str] | None = None) -> "Daemon":
        """A daemon of its own process, with `before` (such as strace) in front of its command."""
        daemon = Daemon(self, [*before, *(command or COMMAND), "run", "--config", str(self.config)])
        self.daemons.append(daemon)
        return daemon

    @contextlib.contextmanager
    def running(self, *before: str, command: list[str] | None = None) -> Iterator["Daemon"]:
        """A daemon at work, stopped at the end."""
        daemon = self.start(*before, command=command)
        daemon.wait_started()
        yield daemon
        if daemon.is_alive:
            assert daemon.stop() == 0

    def close(self) -> None:
        """Leave no process behind."""
        for daemon in self.daemons:
            daemon.end()

    # -- what can be seen from outside --------------------------------------------------------------------------------

    @property
    def ledger(self) -> Path:
        return self.state / "ledger.db"

    def ask(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of the ledger."""
        with contextlib.closing(sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True, timeout=5)) as connection:
            return connection.execute(query, values).fetchall()

    def under_way(self) -> list[tuple[str, str]]:
        """(sink, batch id) of every attempt whose outcome is not recorded."""
        with contextlib.suppress(sqlite3.OperationalError):
            return self.ask(
                "SELECT sinks.name, batches.id FROM batches JOIN sinks ON sinks.id = sink_id"
                " WHERE batches.state = 'sending'"
            )
        return []

    def has_nothing_left(self) -> bool:
        """Whether every cursor is at the end of the log and every batch has an end."""
        return self.ask(
            "SELECT (SELECT min(position) FROM cursors) = (SELECT max(position) FROM segments)"
            " AND (SELECT max(left_events) FROM cursors) = 0"
            " AND (SELECT count(*) FROM batches WHERE state IN ('planned', 'sending', 'waiting', 'suspect')) = 0"
            " AND (SELECT count(*) FROM objects WHERE state = 'seen') = 0"
        ) == [(1,)]

    @contextlib.contextmanager
    def locked(self, seconds: float = 10.0) -> Iterator[None]:
        """Hold the ledger's write lock: no outcome can be recorded in the meantime."""
        connection = sqlite3.connect(self.ledger, isolation_level=None, timeout=seconds)
        try:
            connection.execute("PRAGMA wal_autocheckpoint=0")
            connection.execute("BEGIN IMMEDIATE")
            yield
        finally:
            connection.close()

    def delivered_files(self) -> list[Path]:
        """The files of the `file` sink that are in place."""
        return [path for path in self.out.rglob("*.ndjson") if path.parent.name != ".eventferry-attempts"]

    def filed_events(self) -> int:
        return sum(path.read_bytes().count(b"\n") for path in self.delivered_files())

    def count(self) -> dict[str, Any]:
        """What the independent counter finds, in a process of its own."""
        counter = Path(__file__).with_name("count.py")
        said = subprocess.run([sys.executable, "-I", counter, self.folder], capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stderr
        return json.loads(said.stdout)


class Daemon:
    """One process of `eventferry run`."""

    def __init__(self, stage: Stage, command: list[str]) -> None:
        self.stage = stage
        self.log = stage.folder / f"daemon-{len(stage.daemons):03d}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # so that nothing it started can outlive the test
                cwd=CHECKOUT,  # so that a sink may be a function of these tests
                env={**os.environ, "FAULTS_FOLDER": str(stage.folder)},
            )
        self.pid = self.process.pid

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def owns_ledger(self) -> bool:
        """Whether it holds the state directory (and is no longer a stand-by)."""
        assert self.is_alive, f"the daemon ended by itself with {self.process.returncode}:\n{self.tail()}"
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int((self.stage.state / "eventferry.lock").read_text()) == self.pid
        return False

    def said(self) -> list[dict[str, Any]]:
        """Its log so far."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [json.loads(line[line.index("{") :]) for line in lines if '{"' in line]

    def events(self) -> collections.Counter[str]:
        """How often it logged which event."""
        return collections.Counter(each["event"] for each in self.said())

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-25:])

    def wait_started(self, seconds: float = 30.0) -> None:
        def has_started() -> bool:
            assert self.is_alive, f"the daemon ended with {self.process.returncode}:\n{self.tail()}"
            return b"service.started" in self.log.read_bytes()

        wait_until(has_started, "the daemon is up", seconds)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.process.kill()
        self.process.wait(10)

    def stop(self, seconds: float = 20.0) -> int:
        """SIGTERM; its exit code."""
        self.signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def end(self) -> None:
        """Leave nothing of it behind, neither its workers nor what a tracer in front of it would set free."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(10)


def children_of(pid: int) -> list[tuple[int, str]]:
    """(pid, command line) of every living child process."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(stat[1]) == pid and stat[0] != "Z":
                found.append((int(entry.name), (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()))
    return found


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)


def _pairs(table: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_toml(value)}" for key, value in table.items()]


def seed() -> int:
    """The seed of this run; FAULTS_SEED repeats one."""
    return int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(10**9))
