"""A desk over a fresh ledger, keys to ask it with, and exports in the state that a test needs."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.builders import Ferry, config_text, wait_until

from eventferry import app
from eventferry.access.keys import Key
from eventferry.execution import make_executor
from eventferry.exports import ending, requests
from eventferry.exports.desk import Desk
from eventferry.exports.model import ENDED, Selection
from eventferry.exports.plan import readables
from eventferry.exports.runner import Runner
from eventferry.exports.wanted import Wanted
from eventferry.ledger import exports
from eventferry.ledger.exports import ExportRow, FileRow
from eventferry.query import Scope

ANA = Key("key-ana", "h", "ana", "ana", frozenset({"exports"}))


def key(name: str = "bob", *, filter: Any = None, **realm: Any) -> Key:
    """A key of that name, limited to the tenants, projects and collections that are given."""
    limits = (realm.get(each) for each in ("tenants", "projects", "collections"))
    return Key(f"key-{name}", name, name, name, frozenset({"exports"}), Scope(*limits), filter)


@contextmanager
def desk_at(home: Path, **top: Any) -> Iterator[Desk]:
    """A desk; `top` are tables of the configuration, such as `exports={"queued_per_key": 2}`."""
    path = home / "config.toml"
    path.write_text(config_text(home / "state", {}, {}, **{"pull": {"enabled": True}, **top}))
    config = app.load_config(path)
    ledger = app.open_own_ledger(config)
    try:
        yield app.build_desk(ledger, config)
    finally:
        ledger.close()


def ask(desk: Desk, who: Key = ANA, **wanted: Any) -> ExportRow:
    """An export as asked for: of everything, where nothing else is said."""
    return requests.create(desk, who, Wanted(**{"selection": Selection(), **wanted}))


def begin(desk: Desk, row: ExportRow) -> ExportRow:
    """The export, running."""
    with desk.ledger.write() as tx:
        exports.start(tx, row.id)
    return look(desk, row)


def finish(desk: Desk, row: ExportRow, **files: bytes) -> ExportRow:
    """The export, complete with these files, by name without `.csv`; `events.csv` where none is given."""
    begin(desk, row)
    folder = desk.folder / row.id
    folder.mkdir(parents=True)
    made = []
    for number, (name, content) in enumerate((files or {"events": b"a,b\r\n1,2\r\n"}).items(), 1):
        (folder / f"{name}.csv").write_bytes(content)
        made.append(FileRow(f"{name}.csv", number, content.count(b"\n"), len(content), "0" * 64))
    assert ending.complete(desk, row.id, made)
    return look(desk, row)


def look(desk: Desk, row: ExportRow) -> ExportRow:
    """The export as it is now, a deleted one too."""
    with desk.ledger.read() as tx:
        found = exports.get(tx, row.id)
    assert found is not None
    return found


class Works:
    """A store with events, the ledger over it, and a runner that is ticked by hand."""

    def __init__(self, ferry: Ferry, processes: int) -> None:
        self.ferry = ferry
        self.desk = app.build_desk(ferry.ledger, ferry.config)
        make = partial(make_executor, processes)
        self.runner = Runner(self.desk, lambda: readables(ferry.ledger, ferry.config.sources), make=make)

    def until(self, row: ExportRow, *states: str, seconds: float = 30) -> ExportRow:
        """Tick until the export has one of these states: an end, where none is given."""

        def is_so() -> bool:
            self.runner.tick()
            return look(self.desk, row).state in (states or ENDED)

        wait_until(is_so, seconds, f"the end of {row.id}")
        return look(self.desk, row)

    def content(self, row: ExportRow) -> dict[str, bytes]:
        """The files of a finished export, as whoever may download them gets them."""
        with self.desk.ledger.read() as tx:
            found = exports.files(tx, row.id)
        made = {}
        for each in found:
            with requests.open_linked_file(self.desk, row.id, each.name).file as file:
                made[each.name] = file.read()
            assert (len(made[each.name]), hashlib.sha256(made[each.name]).hexdigest()) == (each.bytes, each.sha256)
        return made

    def left(self) -> set[str]:
        """What lies in the folder of exports."""
        return {path.name for path in self.desk.folder.iterdir()} if self.desk.folder.exists() else set()


@contextmanager
def works_at(home: Path, events: Mapping[str, bytes], *, processes: int = 0, **top: Any) -> Iterator[Works]:
    """A runner over these files, indexed; `processes` 0 runs tasks at once inside a tick."""
    with Ferry(home, sinks=()) as ferry:
        ferry.top |= {"pull": {"enabled": True}, **top}
        for name, content in events.items():
            ferry.put(name, content)
        ferry.open()
        ferry.index()
        works = Works(ferry, processes)
        try:
            yield works
        finally:
            works.runner.close()


def die(_: object) -> None:
    """A task that ends its process as the kernel does where memory runs out."""
    os._exit(137)
