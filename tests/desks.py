"""A desk over a fresh ledger, keys to ask it with, and exports in the state that a test needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.builders import config_text

from eventferry import app
from eventferry.access.keys import Key
from eventferry.exports import ending, requests
from eventferry.exports.desk import Desk
from eventferry.exports.model import Selection
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
