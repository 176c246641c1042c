"""A ledger of its own for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from eventferry.ledger import Ledger, open_ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(tmp_path / "ledger.db", migrate=True)
    yield opened
    opened.close()
