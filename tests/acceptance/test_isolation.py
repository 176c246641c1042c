"""One sink's trouble delays no other."""

import statistics
import threading
import time
from pathlib import Path

from tests.acceptance.test_daemon import ask, daemon, status
from tests.builders import HOUR, Ferry, events, numbers, put, wait_until
from tests.receivers import HttpReceiver, Reply, http_receiver

from eventferry.sink import SinkUnavailable

RUNS = 20
EVENTS = 200

SOURCE = """
state_dir = "{home}/state"
[log]
format = "json"
[execution]
processes = 1
[[sources]]
name = "game"
url = "{home}/store"
interval = "1s"
settle = "1s"
"""
SINK = """
[[sinks]]
name = "{name}"
type = {what}
start = "earliest"
timeout = "2s"
retry = {{first = "100ms", max = "1s"}}
batch = {{max_wait = "0s"}}
"""

# Somebody's own function: no timeout of a library ever ends it.
HANGS = """
import threading
def for_ever(ndjson):
    with open({calls!r}, "a") as calls:
        calls.write("called\\n")
    threading.Event().wait()
"""


def http(name: str, receiver: HttpReceiver) -> str:
    """The configuration of a sink that posts to a receiver."""
    return SINK.format(name=name, what=f'"http"\nurl = "{receiver.url}"')


def received(receiver: HttpReceiver) -> list[int]:
    """The numbers of the events that a receiver got, in order."""
    return numbers(line for request in list(receiver.requests) for line in request.body.splitlines())


def latencies(home: Path, healthy: HttpReceiver, first: int) -> list[float]:
    """Seconds from a file's appearance to the arrival of its events at the healthy receiver, run by run."""
    taken = []
    for number in range(first, first + RUNS):
        seen = len(healthy.requests)
        begun = time.monotonic()
        put(home / "store", f"{HOUR}/{number:04}.ndjson.gz", events(EVENTS, EVENTS * number))
        healthy.wait_for(seen + 1, 20)
        taken.append(time.monotonic() - begun)
        assert len(received(healthy)) == EVENTS * (number + 1)  # a file is one batch
    return taken


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def test_a_hanging_and_a_failing_sink_do_not_slow_the_healthy_one(tmp_path, monkeypatch):
    """Visible → delivered at the healthy sink: its p95 beside two broken ones is within 10 % or 1 s of alone."""
    config, calls = tmp_path / "config.toml", tmp_path / "calls"
    (tmp_path / "store").mkdir()
    (tmp_path / "hangs.py").write_text(HANGS.format(calls=str(calls)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with http_receiver() as healthy, http_receiver() as failing:
        failing.reply = Reply(500)
        alone_text = SOURCE.format(home=tmp_path) + http("healthy", healthy)
        config.write_text(alone_text)
        with daemon(config):
            alone = p95(latencies(tmp_path, healthy, 0))
            hanging = SINK.format(name="hanging", what='"hangs:for_ever"')
            config.write_text(alone_text + hanging + http("failing", failing))
            done = ask(config, "reload", "--wait")
            assert done.returncode == 0, done.stderr
            wait_until(calls.exists)
            failing.wait_for(3, 20)
            together = p95(latencies(tmp_path, healthy, RUNS))
            assert len(failing.requests) > 3  # it went on being wrong all the time
            known = status(config)
        assert together <= max(1.1 * alone, alone + 1.0), (alone, together)
        assert received(healthy) == list(range(EVENTS * 2 * RUNS))
        assert {sink["name"]: sink["waiting"] for sink in known["sinks"]} == {
            "healthy": 0,
            "hanging": EVENTS * 2 * RUNS,
            "failing": EVENTS * 2 * RUNS,
        }
        assert "sink.stuck" in {problem["event"] for problem in known["problems"]}


def test_when_the_faults_stop_the_backlogs_drain_by_themselves(tmp_path):
    """Nobody has to do anything: the sinks that hung and failed catch up."""
    with Ferry(tmp_path, sinks=("healthy", "hanging", "failing")) as ferry:
        ferry.sinks["hanging"]["timeout"] = "50ms"
        mended = threading.Event()

        def broken_until_mended(batch, script):
            if not mended.is_set():
                raise SinkUnavailable("answered 500")

        def hanging_until_mended(batch, script):
            mended.wait(60)

        ferry.script("failing").behave = broken_until_mended
        ferry.script("hanging").behave = hanging_until_mended
        for number in range(5):
            ferry.put(f"{HOUR}/{number}.ndjson", events(100, 100 * number))
        ferry.open()
        ferry.index()
        with ferry.working() as workers:
            ferry.script("healthy").await_taken(500)
            wait_until(lambda: workers["hanging"].is_stuck)
            mended.set()
            for name in ferry.sinks:
                wait_until(lambda name=name: ferry.is_settled(name), what=f"the end of {name}'s backlog")
        for name in ferry.sinks:
            assert numbers(ferry.script(name).lines_once()) == list(range(500))
