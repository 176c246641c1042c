"""Puts logging back as it was after each test."""

import logging
from collections.abc import Iterator

import pytest
import structlog

from eventferry import logs


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    yield
    root.handlers[:], level = before[0], before[1]
    root.setLevel(level)
    logs.set_redactor(None)
    structlog.reset_defaults()
