"""One sink's trouble delays no other."""

import statistics
import threading
import time

from tests.builders import HOUR, Ferry, events, numbers, wait_until
from tests.scripted import hang, unavailable

from eventferry.sink import SinkUnavailable

RUNS = 20


def latencies(ferry: Ferry, first: int) -> list[float]:
    """Seconds from a file's appearance to its delivery at the healthy sink, run by run."""
    taken = []
    for number in range(first, first + RUNS):
        begun = time.monotonic()
        ferry.put(f"{HOUR}/{number:04}.ndjson.gz", events(200, 200 * number))
        ferry.index()
        for worker in ferry.workers.values():
            worker.wake()
        ferry.script("healthy").await_taken(200 * (number + 1))
        taken.append(time.monotonic() - begun)
    return taken


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def test_a_hanging_and_a_failing_sink_do_not_slow_the_healthy_one(tmp_path):
    """Visible → delivered at the healthy sink: its p95 beside two broken ones is within 10 % or 1 s of alone."""
    with Ferry(tmp_path, sinks=("healthy", "hanging", "failing")) as ferry:
        ferry.sinks["hanging"]["timeout"] = "100ms"
        ferry.script("hanging").behave = hang
        ferry.script("failing").behave = unavailable()
        ferry.open()
        with ferry.working("healthy") as ferry.workers:
            alone = p95(latencies(ferry, 0))
        with ferry.working() as ferry.workers:
            wait_until(lambda: ferry.workers["hanging"].is_stuck)
            together = p95(latencies(ferry, RUNS))
            assert ferry.workers["hanging"].is_stuck
        assert together <= max(1.1 * alone, alone + 1.0)
        assert numbers(ferry.script("healthy").lines()) == list(range(200 * 2 * RUNS))
        for broken in ("hanging", "failing"):
            assert ferry.book(broken).waiting == ferry.book(broken).indexed


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
