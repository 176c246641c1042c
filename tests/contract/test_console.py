"""The console sink keeps the contract, on a real standard output."""

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from eventferry.sink.kit import SinkPromises, Target
from eventferry.sink.registry import make_sink
from eventferry_sinks.console.sink import ConsoleSink


class TestConsole(SinkPromises):
    sink_type = ConsoleSink
    counterpart = "a standard output that is captured"

    @pytest.fixture(autouse=True)
    def _capture(self, capfdbinary):
        self._capture = capfdbinary

    @contextmanager
    def healthy(self):
        seen = []

        def arrived():
            seen.extend(self._capture.readouterr().out.split(b"\n")[:-1])
            return seen

        yield Target(lambda: make_sink("console", "out", {}), arrived)


PROGRAM = """
import os, sys
from eventferry.sink import SinkUnavailable
from eventferry.sink.kit import make_batch, sample_events
from eventferry.sink.registry import make_sink
sink = make_sink("console", "out", {})
sink.open()
os.read(0, 1)
try:
    sink.deliver(make_batch(sample_events(1000)))
except SinkUnavailable as error:
    print(error.untouched, error, file=sys.stderr)
"""


def test_a_closed_pipe_means_later():
    """A reader that left is SinkUnavailable, and nothing fails again at exit."""
    read, write = os.pipe()
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    os.close(read)
    _, said = program.communicate("x", timeout=30)
    assert program.returncode == 0, said
    assert said.startswith("True standard output takes no more: Broken pipe")
    assert len(said.splitlines()) == 1
