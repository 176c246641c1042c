"""Small builders: a configuration, a store with files, and the application at work over both."""

import faulthandler
import gzip
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import sqlalchemy as sa
from tests.scripted import SCRIPTS, Script

from eventferry import app, clock
from eventferry.config import Config
from eventferry.ledger import Ledger, alerts, books, dead_letters, objects
from eventferry.ledger import sinks as ledger_sinks
from eventferry.ledger import tables as t
from eventferry.ledger.alerts import Condition
from eventferry.ledger.books import SinkBooks, SourceBooks
from eventferry.ledger.dead_letters import DeadLetterRow
from eventferry.ledger.objects import ObjectRow
from eventferry.ledger.sinks import SinkRow
from eventferry.pipeline.deliver import SinkWorker
from eventferry.pipeline.run import RunReport, run_once
from eventferry.service import carry_out

HOUR = "2026/01/02/03"


def event(number: int, **more: Any) -> bytes:
    """One event as a line."""
    fields = {"event_timestamp": 1_767_323_000_000 + number, "event_type": "pageView", "n": number, **more}
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def events(count: int, start: int = 0, **more: Any) -> bytes:
    """Numbered events as NDJSON."""
    return b"".join(event(number, **more) for number in range(start, start + count))


def numbers(lines: Iterable[bytes]) -> list[int]:
    """The numbers of events, in their order."""
    return [json.loads(line)["n"] for line in lines]


def put(root: Path, key: str, content: bytes, *, age: float = 3600, packed: bool | None = None) -> Path:
    """Write a file of a store, gzipped where its name says so, last changed `age` seconds ago."""
    path = root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    gz = key.endswith(".gz") if packed is None else packed
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(gzip.compress(content, 1, mtime=0) if gz else content)
    moment = clock.now_ms() / 1000 - age
    os.utime(part, (moment, moment))
    part.rename(path)
    return path


def toml(value: object) -> str:
    """A value as TOML text."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml(each) for each in value) + "]"
    return json.dumps(value)


def config_text(state: Path, sources: Mapping[str, Mapping[str, Any]], sinks: Mapping[str, Mapping[str, Any]],
                **top: Any) -> str:  # fmt: skip
    """A configuration with these sources and sinks."""
    lines = [f"{key} = {toml(value)}" for key, value in {"state_dir": str(state), **top}.items()]
    for table, entries in (("sources", sources), ("sinks", sinks)):
        for name, settings in entries.items():
            lines += ["", f"[[{table}]]", f"name = {toml(name)}"]
            lines += [f"{key} = {toml(value)}" for key, value in settings.items()]
    return "\n".join(lines) + "\n"


def wait_until(is_so: Callable[[], Any], seconds: float = 20, what: str = "it") -> None:
    """Look again and again until it is so; fail at the deadline."""
    pause = Event()  # waits in real time, also where a test holds the clock still
    for _ in range(int(seconds / 0.005)):
        if is_so():
            return
        pause.wait(0.005)
    raise AssertionError(f"{what} did not come about within {seconds} s")


SCRIPTED: dict[str, Any] = {
    "type": "tests.scripted:ScriptedSink",
    "timeout": "20s",
    "probe": "30ms",
    "retry": {"first": "1ms", "max": "10ms"},
    "batch": {"max_wait": "0s"},
}


class Ferry:
    """The application over a store and a ledger in one folder, one step at a time."""

    def __init__(self, home: Path, *, sinks: Iterable[str] = ("out",), sources: Iterable[str] = ("events",)) -> None:
        self.home = home
        self.nonce = uuid.uuid4().hex[:8]
        self.top: dict[str, Any] = {"execution": {"processes": 0}}
        self.sources: dict[str, dict[str, Any]] = {}
        self.sinks: dict[str, dict[str, Any]] = {}
        for name in sources:
            (home / name).mkdir(parents=True, exist_ok=True)
            self.sources[name] = {"url": str(home / name), "settle": "1s"}
        for name in sinks:
            self.add_sink(name)
        self.is_open = False

    # -- configuration ------------------------------------------------------------------------------------------------

    def add_sink(self, name: str, **more: Any) -> None:
        self.sinks[name] = {**SCRIPTED, "script": f"{self.nonce}:{name}", **more}

    def script(self, name: str = "out") -> Script:
        return SCRIPTS[f"{self.nonce}:{name}"]

    def set_batch(self, name: str = "out", **limits: Any) -> None:
        self.sinks[name]["batch"] = {**self.sinks[name]["batch"], **limits}

    @property
    def path(self) -> Path:
        return self.home / "config.toml"

    def save(self) -> Config:
        self.path.write_text(config_text(self.home / "state", self.sources, self.sinks, **self.top))
        return app.load_config(self.path)

    def open(self) -> "Ferry":
        """Begin with the configuration as it is now, as a start or a reload does."""
        self.config = self.save()
        if not self.is_open:
            self._ledger = app.open_own_ledger(self.config)
            self.is_open = True
        app.check_identities(self.ledger, self.config)
        app.check_roots(self.ledger, self.config)
        self.at_work = app.build_sources(self.ledger, self.config)
        self.setups = app.build_sinks(self.ledger, self.config, self.at_work)
        self.indexer = app.build_indexer(self.ledger, self.config)
        return self

    @property
    def ledger(self) -> Ledger:
        """The ledger; opens everything where that was not done yet."""
        return self._ledger if self.is_open else self.open()._ledger

    def close(self) -> None:
        if self.is_open:
            self.indexer.close()
            self.ledger.close()
            self.is_open = False

    def restart(self) -> "Ferry":
        self.close()
        return self.open()

    def __enter__(self) -> "Ferry":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
        for script in [SCRIPTS[f"{self.nonce}:{name}"] for name in self.sinks]:
            script.released.set()

    def crashed(self, home: Path) -> "Ferry":
        """What a kill -9 at this moment leaves behind, in another folder; the store is the same."""
        home.mkdir(parents=True)
        shutil.copytree(self.home / "state", home / "state")
        other = Ferry(home, sinks=(), sources=())
        other.top, other.sources = self.top, self.sources
        other.sinks = {name: {**table, "script": f"{other.nonce}:{name}"} for name, table in self.sinks.items()}
        return other

    # -- work ---------------------------------------------------------------------------------------------------------

    def put(self, key: str, content: bytes, source: str = "events", **how: Any) -> Path:
        return put(self.home / source, key, content, **how)

    def index(self, source: str = "events", *, full: bool = False) -> RunReport:
        return run_once(self.ledger, self.at_work[source], self.indexer, full=full)

    @contextmanager
    def working(self, *names: str) -> Iterator[dict[str, SinkWorker]]:
        """Workers for these sinks (all of them where none is named), stopped in the end."""
        ledger = self.ledger
        workers = {name: SinkWorker(ledger, self.setups[name]) for name in names or self.setups}
        for worker in workers.values():
            worker.start()
        try:
            yield workers
        finally:
            for worker in workers.values():
                worker.stop()
            for name in workers:
                self.script(name).released.set()
            for worker in workers.values():
                if not worker.join(20):
                    faulthandler.dump_traceback(all_threads=True)
                    raise AssertionError("the worker did not stop")

    def deliver(self, *names: str, seconds: float = 30) -> None:
        """Let sinks work until every one has nothing left to do, now or later; held ones are probed meanwhile."""
        with self.working(*names) as workers:
            for worker in workers.values():
                worker.flush()
            for name, worker in workers.items():
                wait_until(lambda name=name: self.is_settled(name), seconds, f"the end of what waits for {name}")
                assert worker.wait_idle(seconds)

    def is_settled(self, sink: str) -> bool:
        return self.sink(sink).state == "active" and not any(each.waiting for each in self.books(sink))

    def do(self, kind: str, **args: Any) -> str:
        return carry_out.do(self.ledger, kind, args)

    # -- what came of it ----------------------------------------------------------------------------------------------

    def books(self, sink: str = "out") -> list[SinkBooks]:
        with self.ledger.read() as tx:
            found = [each for each in books.sink_books(tx) if each.sink == sink]
        assert all(each.balance for each in found), found
        return found

    def book(self, sink: str = "out", source: str = "events") -> SinkBooks:
        return next(each for each in self.books(sink) if each.source == source)

    def source_book(self, source: str = "events") -> SourceBooks:
        with self.ledger.read() as tx:
            found = next(each for each in books.source_books(tx) if each.source == source)
        assert found.balance, found
        return found

    def sink(self, name: str = "out") -> SinkRow:
        with self.ledger.read() as tx:
            row = ledger_sinks.get_sink(tx, name)
        assert row is not None
        return row

    def batches(self, sink: str = "out") -> list[Any]:
        query = sa.select(t.batches).where(t.batches.c.sink_id == self.sink(sink).id).order_by(t.batches.c.seq)
        return self.rows(query)

    def rows(self, query: Any) -> list[Any]:
        with self.ledger.read() as tx:
            return list(tx.execute(query).all())

    def letters(self, sink: str = "out", state: str | None = "waiting") -> list[DeadLetterRow]:
        with self.ledger.read() as tx:
            return dead_letters.find(tx, sink_id=self.sink(sink).id, state=state, limit=1000)

    def objects(self, **where: Any) -> list[ObjectRow]:
        """Object versions, oldest first."""
        with self.ledger.read() as tx:
            return objects.find_objects(tx, limit=10_000, **where)[::-1]

    def states(self) -> dict[str, str]:
        """Key → state of its last version."""
        return {row.key: row.state for row in self.objects()}

    def conditions(self) -> dict[str, Condition]:
        """What is wrong now, by cause."""
        with self.ledger.read() as tx:
            return {each.cause: each for each in alerts.open_conditions(tx)}
