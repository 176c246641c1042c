"""Editing the configuration while the daemon runs: all or nothing, nothing lost, nobody waited for."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from tests.builders import HOUR, Ferry, events, numbers, wait_until
from tests.scripted import hang, raising, refusing, take

from eventferry.errors import ConfigError
from eventferry.ledger import requests
from eventferry.ledger import tables as t
from eventferry.ledger.database import get_meta
from eventferry.pipeline import deliver
from eventferry.pipeline.reader import SegmentReader
from eventferry.service import Service
from eventferry.service.reload import get_loaded
from eventferry.sink import SinkMisconfigured


@contextmanager
def serving(ferry: Ferry) -> Iterator[Service]:
    """The whole service in this process."""
    ferry.open()
    service = Service(ferry.config, ferry.path, ferry.ledger)
    service.start()
    try:
        yield service
    finally:
        for name in ferry.sinks:
            ferry.script(name).released.set()
        service.stop()


def reload(ferry: Ferry, service: Service) -> list[str]:
    ferry.save()
    return service.reload()


def next_run(service: Service) -> object:
    job = service._scheduler.get_job("poll:events")
    return None if job is None else job.next_run_time


def test_a_reload_says_what_changed_and_moves_the_next_run(tmp_path):
    """A shorter interval is at work at once."""
    with Ferry(tmp_path) as ferry, serving(ferry) as service:
        wait_until(lambda: ferry.rows(sa.select(t.runs.c.id).where(t.runs.c.finished_ms.is_not(None))))
        wait_until(lambda: next_run(service) is not None)
        before = next_run(service)
        ferry.sources["events"]["interval"] = "5m"
        assert reload(ferry, service) == ["sources.events.interval: 10m → 5m"]
        assert next_run(service) < before


def test_a_broken_edit_changes_nothing_and_says_why(tmp_path):
    """The old configuration stays at work; its problems are kept for `status`, told, and over with the next edit."""
    with Ferry(tmp_path) as ferry, serving(ferry) as service:
        good = ferry.path.read_text()
        ferry.path.write_text(good.replace('name = "out"', 'name = "out"\nconcurency = 3'))
        with pytest.raises(ConfigError, match="concurency"):
            service.reload()
        with ferry.ledger.read() as tx:
            loaded = get_loaded(tx)
        assert loaded is not None
        assert "concurency" in loaded.problems[0]
        assert "config.refused" in ferry.conditions()
        ferry.put(f"{HOUR}/a.ndjson", events(5))
        service.run_now(None)
        ferry.script().await_taken(5)
        ferry.path.write_text(good)
        assert service.reload() == []
        assert ferry.conditions() == {}


@pytest.mark.parametrize("mistake", ["unknown sink", "moved store", "bad options", "other state_dir"])
def test_a_refused_reload_leaves_no_trace_in_the_ledger(tmp_path, mistake):
    """All or nothing: a good change beside a bad one does not happen either."""
    with Ferry(tmp_path) as ferry:
        ferry.put(f"{HOUR}/a.ndjson", events(5))
        with serving(ferry) as service:
            ferry.script().await_taken(5)
            tables = (t.sinks, t.sources, t.cursors, t.transforms)
            wait_until(lambda: ferry.is_settled("out"))
            before = [ferry.rows(sa.select(table)) for table in tables]
            ferry.sinks["out"]["drop"] = ["event_type"]
            ferry.add_sink("zzz", start="latest")
            if mistake == "unknown sink":
                ferry.add_sink("more")
            elif mistake == "moved store":
                ferry.sources["events"]["url"] = str(tmp_path)
            elif mistake == "bad options":
                ferry.sinks["zzz"]["script"] = 5
            text = None
            with pytest.raises(ConfigError):
                try:
                    ferry.save()
                except ConfigError:
                    text = ferry.path.read_text()
                if mistake == "other state_dir":
                    text = ferry.path.read_text().replace("/state", "/elsewhere")
                    ferry.path.write_text(text)
                service.reload()
            assert [ferry.rows(sa.select(table)) for table in tables] == before
            ferry.put(f"{HOUR}/b.ndjson", events(5, 5))
            service.run_now(None)
            ferry.script().await_taken(10)
            assert all(b"event_type" in line for line in ferry.script().lines())


def test_a_reload_while_a_sink_hangs_takes_effect_within_five_seconds(tmp_path):
    """The hanging sink is abandoned, not waited for; its batch is sent again under the same id; nothing is lost."""
    with Ferry(tmp_path, sinks=("out", "stuck")) as ferry:
        ferry.script("stuck").behave = hang
        ferry.put(f"{HOUR}/a.ndjson", events(50))
        with serving(ferry) as service:
            ferry.script("stuck").await_calls(1)
            ferry.script("stuck").behave = take
            ferry.sinks["stuck"]["timeout"] = "19s"
            begun = time.monotonic()
            reload(ferry, service)
            assert time.monotonic() - begun < 5
            ferry.script("stuck").await_taken(50)
            assert len(set(ferry.script("stuck").ids())) == 1
            ferry.script("stuck").released.set()  # the late result of the abandoned call
            wait_until(lambda: ferry.is_settled("stuck"))
        assert numbers(ferry.script("stuck").lines_once()) == list(range(50))
        assert ferry.book("stuck").delivered == 50


def test_a_reload_leaves_unchanged_sinks_and_their_calls_alone(tmp_path):
    """A call under way at a sink that did not change is not cut short, nor repeated."""
    with Ferry(tmp_path, sinks=("out", "other")) as ferry:
        ferry.script("out").behave = hang
        ferry.put(f"{HOUR}/a.ndjson", events(50))
        with serving(ferry) as service:
            ferry.script("out").await_calls(1)
            ferry.sinks["other"]["timeout"] = "19s"
            reload(ferry, service)
            ferry.script("out").released.set()
            ferry.script("out").await_taken(50)
            wait_until(lambda: ferry.is_settled("out"))
        assert len(ferry.script("out").calls) == 1


def test_reloads_under_load_lose_and_double_nothing(tmp_path):
    """Ten reloads in the middle of a delivery, each with a change: every event arrives, once per batch id."""
    with Ferry(tmp_path) as ferry:
        ferry.set_batch(max_events=20)
        ferry.put(f"{HOUR}/a.ndjson", events(3000))
        with serving(ferry) as service:
            for number in range(10):
                ferry.script().await_taken(200 * number)
                ferry.sinks["out"]["timeout"] = f"{20 + number}s"
                reload(ferry, service)
            ferry.script().await_taken(3000)
            wait_until(lambda: ferry.is_settled("out"))
        assert numbers(ferry.script().lines_once()) == list(range(3000))


def test_a_sink_that_is_removed_gets_nothing_more(tmp_path):
    """Removed from the configuration: no call any more; put back, it goes on."""
    with Ferry(tmp_path, sinks=("out", "other")) as ferry:
        ferry.put(f"{HOUR}/a.ndjson", events(5))
        with serving(ferry) as service:
            ferry.script("out").await_taken(5)
            settings = ferry.sinks.pop("out")
            reload(ferry, service)
            ferry.put(f"{HOUR}/b.ndjson", events(5, 5))
            service.run_now(None)
            ferry.script("other").await_taken(10)
            assert len(ferry.script("out").calls) == 1
            ferry.sinks["out"] = settings
            reload(ferry, service)
            ferry.script("out").await_taken(10)


def test_what_lasts_is_told_again_when_it_is_switched_on_again(tmp_path):
    """A quarantined file, a held sink and dead letters outlast being switched off: no alert about them is lost."""
    lasting = {"file.quarantined:events", "sink.held:mute", "events.dead:out"}
    with Ferry(tmp_path, sinks=("out", "mute")) as ferry:
        ferry.put(f"{HOUR}/a.ndjson", events(20))
        ferry.put(f"{HOUR}/b.ndjson", b"bad\n" * 30)
        ferry.script("mute").behave = raising(SinkMisconfigured("401 Unauthorized"))
        ferry.script("out").behave = refusing(b'"n":7}', "no sevens")
        with serving(ferry) as service:
            wait_until(lambda: set(ferry.conditions()) == lasting)
            for sink in ferry.sinks.values():
                sink["enabled"] = False
            reload(ferry, service)
            assert ferry.conditions() == {}
            for sink in ferry.sinks.values():
                sink["enabled"] = True
            reload(ferry, service)
            told = ferry.conditions()
            assert set(told) == lasting
            assert told["events.dead:out"].subject.startswith("Sink out refused 1 event;")
            assert "401" in told["sink.held:mute"].detail


def test_a_request_to_reload_is_answered_with_the_problems(tmp_path):
    """`eventferry reload --wait` learns from the daemon what is wrong with the edit."""
    with Ferry(tmp_path) as ferry, serving(ferry):
        ferry.path.write_text("instance = 5")
        with ferry.ledger.write() as tx:
            number = requests.ask(tx, "reload")

        def answer() -> requests.Request:
            with ferry.ledger.read() as tx:
                return requests.get(tx, number)

        wait_until(lambda: answer().done_ms is not None, 5)
        assert answer().ok is False
        assert "instance" in (answer().result or "")


def test_a_start_is_a_sign_of_life(tmp_path):
    """A death seconds after a start is not taken for the clean stop before it."""
    with Ferry(tmp_path) as ferry:
        with serving(ferry):
            pass
        with serving(ferry), ferry.ledger.read() as tx:
            assert get_meta(tx, "heartbeat_ms") >= get_meta(tx, "stopped_ms")


def test_stopping_while_a_sink_hangs_keeps_to_the_stop_timeout(tmp_path):
    """The call is abandoned; its batch is left for the next start, under the same id."""
    with Ferry(tmp_path) as ferry:
        ferry.top["service"] = {"stop_timeout": "3s"}
        ferry.script().behave = hang
        ferry.put(f"{HOUR}/a.ndjson", events(50))
        ferry.open()
        service = Service(ferry.config, ferry.path, ferry.ledger)
        service.start()
        ferry.script().await_calls(1)
        begun = time.monotonic()
        service.stop()
        assert time.monotonic() - begun < 4
        assert ferry.batches()[0].state == "sending"
        ferry.script().behave = take
        ferry.script().released.set()
        wait_until(lambda: len(ferry.script().taken) == 1)
        ferry.open().deliver()
        assert numbers(ferry.script().lines_once()) == list(range(50))


def test_a_read_of_the_store_that_hangs_is_given_up_once(tmp_path, monkeypatch):
    """Another worker delivers in its place; where that hangs too, people are told; a late one sends nothing twice."""
    monkeypatch.setattr(deliver, "HANGING_SECONDS", 0.1)
    real, hanging, reads = SegmentReader.read, threading.Event(), []

    def read(self, segment):
        reads.append(segment)
        if len(reads) <= 1:
            hanging.wait(30)
        return real(self, segment)

    monkeypatch.setattr(SegmentReader, "read", read)
    with Ferry(tmp_path) as ferry:
        ferry.put(f"{HOUR}/a.ndjson", events(50))
        with serving(ferry) as service:
            first = service._workers["out"]
            wait_until(lambda: first.is_hanging, what="a read that hangs")
            service._tell_status()
            ferry.script().await_taken(50)
            hanging.set()
            assert first.join(10)
            assert ferry.conditions() == {}
            wait_until(lambda: ferry.book().delivered == 50)
        assert numbers(ferry.script().lines()) == list(range(50))


def test_a_store_that_goes_on_hanging_costs_one_thread_and_is_told(tmp_path, monkeypatch):
    """The second worker that hangs is not abandoned: the sink is stuck, and people know."""
    monkeypatch.setattr(deliver, "HANGING_SECONDS", 0.1)
    mended = threading.Event()
    monkeypatch.setattr(SegmentReader, "read", lambda *_: mended.wait(30) and b"")
    with Ferry(tmp_path) as ferry:
        ferry.put(f"{HOUR}/a.ndjson", events(50))
        with serving(ferry) as service:
            for _ in range(3):
                worker = service._workers["out"]
                wait_until(lambda worker=worker: worker.is_hanging)
                service._tell_status()
            assert service._workers["out"] is worker
            assert "sink.stuck:out" in ferry.conditions()
            mended.set()
