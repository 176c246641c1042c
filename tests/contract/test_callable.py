"""Any importable function that takes an NDJSON text keeps the contract as a sink."""

import sys
from contextlib import contextmanager

import pytest

from eventferry.errors import ConfigError
from eventferry.sink import BatchRejected
from eventferry.sink.callables import CallableSink
from eventferry.sink.kit import SinkPromises, Target, make_batch, sample_events
from eventferry.sink.registry import make_sink

HOOK = """
from eventferry.sink import BatchRejected
arrived = []
def process(ndjson):
    arrived.extend(ndjson.encode().split(b"\\n")[:-1])
def refuse(ndjson):
    raise BatchRejected("not these")
def crash(ndjson):
    return 1 / 0
def later(ndjson):
    async def work(): ...
    return work()
async def asynchronous(ndjson): ...
def generator(ndjson):
    yield ndjson
def two(ndjson, more): ...
answer = 42
class Plain: ...
"""


@pytest.fixture
def hook(tmp_path, monkeypatch):
    name = f"hook_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(HOOK)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


class TestCallable(SinkPromises):
    sink_type = CallableSink

    @pytest.fixture(autouse=True)
    def _hook(self, hook):
        self.hook = hook

    @contextmanager
    def healthy(self):
        yield Target(lambda: make_sink(f"{self.hook}:process", "hook", {}), lambda: sys.modules[self.hook].arrived)

    @contextmanager
    def refusing(self):
        yield Target(lambda: make_sink(f"{self.hook}:refuse", "hook", {}))


def test_exceptions_pass_through(hook):
    """What the function raises reaches the daemon: SinkErrors with their meaning, others as unknown."""
    batch = make_batch(sample_events(1))
    with make_sink(f"{hook}:crash", "h", {}) as sink, pytest.raises(ZeroDivisionError):
        sink.deliver(batch)
    with make_sink(f"{hook}:refuse", "h", {}) as sink, pytest.raises(BatchRejected):
        sink.deliver(batch)
    with make_sink(f"{hook}:later", "h", {}) as sink, pytest.raises(TypeError, match="not done yet"):
        sink.deliver(batch)


@pytest.mark.parametrize(
    ("attribute", "words"),
    [
        ("asynchronous", "asynchronous and would never run"),
        ("generator", "generator and would never run"),
        ("two", "one argument"),
        ("answer", "is a int"),
        ("Plain", "not a sink"),
        ("proces", "did you mean 'process'"),
    ],
)
def test_what_cannot_be_a_sink_is_refused(hook, attribute, words):
    """A function that would lose events in silence is refused when it is configured."""
    with pytest.raises(ConfigError, match=words):
        make_sink(f"{hook}:{attribute}", "h", {})
