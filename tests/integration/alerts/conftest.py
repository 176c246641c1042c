"""A ledger, a clock that tests set, and logging put back after each test."""

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from eventferry import clock, logs
from eventferry.ledger import Ledger, open_ledger

START = 1_772_366_400_000  # 2026-03-01 12:00 UTC


class Clock:
    """The wall clock of the process under test, in epoch milliseconds."""

    def __init__(self) -> None:
        self.ms = START

    def pass_(self, *, seconds: float = 0, hours: float = 0) -> None:
        self.ms += int(seconds * 1000 + hours * 3_600_000)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time stands still until a test lets it pass."""
    hands = Clock()
    monkeypatch.setattr(clock, "now_ms", lambda: hands.ms)
    monkeypatch.setattr(clock, "now", lambda: clock.from_ms(hands.ms))
    return hands


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A new ledger."""
    opened = open_ledger(tmp_path / "ledger.db", migrate=True)
    yield opened
    opened.close()


class Journal:
    """What the process logged."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    def records(self, event: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.text.splitlines()]
        return [one for one in found if one["event"] == event]


@pytest.fixture
def journal() -> Journal:
    """The log, from here on."""
    stream = io.StringIO()
    logs.configure_logs("json", level="debug", stream=stream)
    return Journal(stream)


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logs.set_redactor(None)
    structlog.reset_defaults()
