"""A small installation in a temporary directory, and the commands run against it."""

import gzip
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
from tests.scripted import SCRIPTS, Script
from typer.testing import CliRunner, Result

from eventferry import app, logs
from eventferry.cli.place import find_place
from eventferry.cli.program import program
from eventferry.ledger import Ledger, open_ledger

LONG_AGO = 1_706_700_000  # a file of that age is settled


@pytest.fixture(autouse=True)
def _restore_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands set up logging for their whole process; tests share one."""
    for name in ("EVENTFERRY_CONFIG", "STATE_DIRECTORY", "JOURNAL_STREAM", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "160")
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logs.set_redactor(None)
    structlog.reset_defaults()
    SCRIPTS.clear()


@dataclass(frozen=True)
class Site:
    """One installation: its store, its configuration, its state."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.toml"

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def script(self) -> Script:
        """What the sink "odd" does, where it is configured."""
        return SCRIPTS[str(self.root)]

    def configure(self, sinks: str = "file", source: str = "", top: str = "", more: str = "") -> None:
        """Write the configuration: the sinks "archive" (file), "odd" (scripted) or none, and what a test adds."""
        self.out.mkdir(exist_ok=True)
        text = f'state_dir = "{self.state}"\n{top}\n[execution]\nprocesses = 0\n'
        text += f'[[sources]]\nname = "events"\nurl = "{self.store}"\n{source}\n'
        if "file" in sinks:
            text += f'[[sinks]]\nname = "archive"\ntype = "file"\npath = "{self.out}"\n'
        if "odd" in sinks:
            text += f'[[sinks]]\nname = "odd"\ntype = "tests.scripted:ScriptedSink"\nscript = "{self.root}"\n'
        self.config.write_text(text + more)

    def put(self, name: str, lines: list[str] | int, *, cut: int = 0, age: int = LONG_AGO) -> Path:
        """Write a file of these lines, or of so many events; `cut` bytes are missing at its end."""
        if isinstance(lines, int):
            lines = [json.dumps({"n": n, "event_timestamp": LONG_AGO * 1000 + n}) for n in range(lines)]
        path = self.store / name
        path.parent.mkdir(parents=True, exist_ok=True)
        packed = gzip.compress(("\n".join(lines) + "\n").encode())
        path.write_bytes(packed[: len(packed) - cut])
        os.utime(path, (age, age))
        return path

    def run(self, *args: str, input: str | None = None) -> Result:
        """Run a command of this installation."""
        return CliRunner().invoke(program, ["--config", str(self.config), *args], input=input)

    def ledger(self) -> Ledger:
        return open_ledger(find_place(self.config).ledger, migrate=False)

    def is_free(self) -> bool:
        return not app.is_owned(self.state)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """An installation with one source, one sink and one file of three events; nothing has run yet."""
    made = Site(tmp_path)
    made.store.mkdir()
    made.configure()
    made.put("2024/01/31/00/a.ndjson.gz", 3)
    return made


@pytest.fixture
def used(site: Site) -> Site:
    """The same after a first `once`."""
    assert site.run("once").exit_code == 0
    return site
