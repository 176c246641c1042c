"""When runs happen and how much they take: the clock held still, moved by hand."""

import datetime as dt
import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import freezegun
import pytest
import sqlalchemy as sa
import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from tests.builders import HOUR, Ferry, event, numbers, wait_until

from eventferry import clock, logs
from eventferry.ledger import sources
from eventferry.ledger import tables as t
from eventferry.service import Service, watch
from eventferry.service.polls import Polls
from eventferry.store.directory import DirectoryStore

START = "2026-03-01 12:00:00"


class Runs:
    """Polls on a real scheduler whose clock stands still."""

    def __init__(self, ferry: Ferry, time: freezegun.api.FrozenDateTimeFactory) -> None:
        self.ferry, self.time = ferry, time
        self.scheduler = BackgroundScheduler(timezone="UTC")
        self.polls = Polls(self.scheduler, ferry.ledger, ferry.indexer, lambda: None)
        for source in ferry.at_work.values():
            self.polls.put(source)
        self.scheduler.start()

    def found(self) -> list[int]:
        """How many files each finished run took."""
        query = sa.select(t.runs.c.found).where(t.runs.c.finished_ms.is_not(None)).order_by(t.runs.c.id)
        return [row[0] for row in self.ferry.rows(query)]

    def next_run(self) -> dt.datetime:
        """When the next run is due, once the one under way is over."""
        wait_until(lambda: self.scheduler.get_job("poll:events") is not None, what="the next run's time")
        job = self.scheduler.get_job("poll:events")
        assert job is not None
        return job.next_run_time

    def pass_time(self, seconds: float) -> None:
        self.time.tick(dt.timedelta(seconds=seconds))
        self.scheduler.wakeup()

    def await_runs(self, count: int) -> None:
        wait_until(lambda: len(self.found()) == count, what=f"{count} runs")


@contextmanager
def runs(ferry: Ferry, time: freezegun.api.FrozenDateTimeFactory) -> Iterator[Runs]:
    ferry.open()
    made = Runs(ferry, time)
    try:
        yield made
    finally:
        made.polls.stop()
        # Waiting inside it would deadlock with a job that plans its next run: APScheduler joins under its own lock.
        made.scheduler.shutdown(wait=False)


@pytest.fixture
def time() -> Iterator[freezegun.api.FrozenDateTimeFactory]:
    with freezegun.freeze_time(START) as frozen:
        yield frozen


def fill(ferry: Ferry, count: int) -> None:
    for number in range(count):
        ferry.put(f"{HOUR}/{number:04}.ndjson", event(number))


def test_250_files_take_three_runs_none_early(tmp_path, time):
    """100, 100, 50: each run an interval after the finish of the one before, not a second earlier."""
    with Ferry(tmp_path) as ferry:
        fill(ferry, 250)
        with runs(ferry, time) as clockwork:
            clockwork.await_runs(1)
            for done, expected in ((1, [100]), (2, [100, 100])):
                assert clockwork.next_run() == clock.now() + dt.timedelta(minutes=10)
                clockwork.pass_time(599)
                assert not clockwork.next_run() <= clock.now()
                assert clockwork.found() == expected
                clockwork.pass_time(1)
                clockwork.await_runs(done + 1)
            assert clockwork.found() == [100, 100, 50]
        ferry.deliver()
        assert numbers(ferry.script().lines()) == list(range(250))


def test_a_restart_resumes_at_file_101_when_the_run_is_due(tmp_path, time):
    """A restart between two runs neither runs early nor forgets where it was."""
    with Ferry(tmp_path) as ferry:
        fill(ferry, 250)
        with runs(ferry, time) as clockwork:
            clockwork.await_runs(1)
        time.tick(dt.timedelta(minutes=4))
        ferry.close()
        with runs(ferry, time) as clockwork:
            assert clockwork.next_run() == clock.now() + dt.timedelta(minutes=6)
            assert clockwork.found() == [100]
            clockwork.pass_time(360)
            clockwork.await_runs(2)
        assert [row.key for row in ferry.objects()][100] == f"{HOUR}/0100.ndjson"
        assert [row.key for row in ferry.objects()] == [f"{HOUR}/{n:04}.ndjson" for n in range(200)]


def test_a_restart_after_the_due_time_runs_at_once(tmp_path, time):
    """What was missed while the daemon was down is made up for by one run."""
    with Ferry(tmp_path) as ferry:
        fill(ferry, 1)
        with runs(ferry, time) as clockwork:
            clockwork.await_runs(1)
        time.tick(dt.timedelta(hours=5))
        ferry.close()
        with runs(ferry, time) as clockwork:
            clockwork.await_runs(2)
            assert clockwork.next_run() == clock.now() + dt.timedelta(minutes=10)


def test_with_catch_up_the_next_run_follows_at_once_while_files_wait(tmp_path, time):
    """No time passes, and still all files are taken, a run's worth at a time."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"] |= {"catch_up": True, "max_files": 10}
        fill(ferry, 95)
        with runs(ferry, time) as clockwork:
            clockwork.await_runs(10)
            assert clockwork.found() == [10] * 9 + [5]
            assert clockwork.next_run() == clock.now() + dt.timedelta(minutes=10)


def test_a_changed_interval_moves_the_next_run(tmp_path, time):
    """The next run is due an interval after the last finish, by the interval as it is now."""
    with Ferry(tmp_path) as ferry, runs(ferry, time) as clockwork:
        clockwork.await_runs(1)
        assert clockwork.next_run() == clock.now() + dt.timedelta(minutes=10)
        clockwork.pass_time(60)
        ferry.sources["events"]["interval"] = "2m"
        ferry.open()
        clockwork.polls.put(ferry.at_work["events"])
        assert clockwork.next_run() == clock.now() + dt.timedelta(minutes=1)


def test_a_run_asked_for_happens_now_and_the_rhythm_goes_on_from_it(tmp_path, time):
    """`run now` neither waits nor doubles the rhythm."""
    with Ferry(tmp_path) as ferry, runs(ferry, time) as clockwork:
        clockwork.await_runs(1)
        clockwork.pass_time(60)
        clockwork.polls.run_now("events")
        clockwork.await_runs(2)
        assert clockwork.next_run() == clock.now() + dt.timedelta(minutes=10)


def test_a_cron_expression_runs_at_its_times(tmp_path, time):
    """Instead of an interval: at the times of the expression, in its time zone."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"] |= {"cron": "30 14 * * *", "timezone": "Europe/Berlin"}
        with runs(ferry, time) as clockwork:
            assert clockwork.next_run() == dt.datetime(2026, 3, 1, 13, 30, tzinfo=dt.UTC)
            clockwork.pass_time(90 * 60)
            clockwork.await_runs(1)
            assert clockwork.next_run() == dt.datetime(2026, 3, 2, 13, 30, tzinfo=dt.UTC)


def test_the_whole_store_is_listed_once_a_day(tmp_path, time):
    """What polls from the look-back on may have missed is looked for a day after the last whole list."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"] |= {"interval": "1h", "look_back": "1h"}

        def whole_lists() -> int:
            return len(ferry.rows(sa.select(t.runs.c.id).where(t.runs.c.kind == "relist", t.runs.c.finished_ms > 0)))

        with runs(ferry, time) as clockwork:
            clockwork.await_runs(1)
            for day in (1, 2):
                for _ in range(47):
                    clockwork.pass_time(1800)
                assert whole_lists() == day - 1
                # Where a poll is under way just then, the whole list waits for its end and half a minute more.
                wait_until(lambda: (clockwork.pass_time(20), whole_lists())[1] >= day, 2, "a whole list")  # noqa: B023
                clockwork.next_run()


def test_a_clock_that_was_ahead_stops_no_runs(tmp_path, time):
    """A run recorded in the far future (the clock was wrong) must not silence the source until then."""
    with Ferry(tmp_path) as ferry:
        fill(ferry, 1)
        time.move_to("2031-01-01")
        with runs(ferry, time) as clockwork:
            clockwork.await_runs(1)
        time.move_to(START)
        ferry.close()
        with runs(ferry, time) as clockwork:
            assert clockwork.next_run() <= clock.now() + dt.timedelta(minutes=10)
            clockwork.pass_time(600)
            clockwork.await_runs(2)


def test_a_run_that_raises_is_told_and_tried_again_and_the_next_good_one_ends_it(tmp_path, time, monkeypatch):
    """An exception that nobody foresaw silences no source, and people hear of it."""

    def explode(*args: object, **how: object) -> None:
        raise ZeroDivisionError("nobody foresaw this")

    with Ferry(tmp_path) as ferry:
        fill(ferry, 1)
        with monkeypatch.context() as patched:
            patched.setattr(ferry.open().indexer, "index", explode)
            made = Runs(ferry, time)
            try:
                wait_until(lambda: "run.failed:events" in ferry.conditions(), what="the alert")
                condition = ferry.conditions()["run.failed:events"]
                assert (condition.level, "nobody foresaw this" in condition.detail) == ("error", True)
                assert made.next_run() == clock.now() + dt.timedelta(minutes=10)
                patched.undo()
                made.pass_time(600)
                made.await_runs(1)
                wait_until(lambda: ferry.conditions() == {}, what="the end of the alert")
            finally:
                made.polls.stop()
                made.scheduler.shutdown(wait=False)


def test_a_ledger_that_hiccups_loses_neither_the_next_poll_nor_the_full_listing(tmp_path, time, monkeypatch):
    """Where the ledger does not tell when a run is due, it is asked again in a few seconds."""

    def hiccup(*args: object) -> int:
        raise OSError("database is locked")

    with Ferry(tmp_path) as ferry, monkeypatch.context() as patched:
        patched.setattr(sources, "relist_due_ms", hiccup)
        patched.setattr(sources, "last_run_ms", hiccup)
        with runs(ferry, time) as clockwork:
            relist = clockwork.scheduler.get_job("relist:events")
            assert relist is not None
            assert relist.next_run_time == clockwork.next_run() == clock.now() + dt.timedelta(seconds=5)
            patched.undo()
            clockwork.pass_time(5)
            clockwork.await_runs(1)
            day = clock.now() + dt.timedelta(hours=23)
            wait_until(lambda: clockwork.scheduler.get_job("relist:events").next_run_time > day, what="a whole list")
            assert clockwork.next_run() == clock.now() + dt.timedelta(minutes=10)


def test_the_ping_is_withheld_while_a_source_does_not_run(tmp_path, time, monkeypatch):
    """Only progress that was seen is reported: a source whose runs ceased is none, and an open error is none."""
    pings: list[str] = []
    monkeypatch.setattr(watch, "ping", pings.append)
    with Ferry(tmp_path) as ferry:
        ferry.open()
        source = ferry.at_work["events"]

        def pinged() -> bool:
            pings.clear()
            watch.ping_if_well(ferry.ledger, "http://127.0.0.1:9/", [source])
            return bool(pings)

        assert not pinged()
        ferry.index()
        assert pinged()
        time.tick(dt.timedelta(minutes=29))
        assert pinged()
        time.tick(dt.timedelta(minutes=10))
        assert not pinged()
        ferry.index()
        assert pinged()


# -- the whole service ------------------------------------------------------------------------------------------------


@pytest.fixture
def journal() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    logs.configure_logs("json", level="info", stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    logs.set_redactor(None)
    structlog.reset_defaults()


def logged(journal: io.StringIO, name: str) -> list[dict]:
    return [one for one in map(json.loads, journal.getvalue().splitlines()) if one["event"] == name]


def test_with_no_sink_nothing_is_listed_until_an_edit_and_a_reload(tmp_path, journal, monkeypatch):
    """Nobody listens: no list call, no moved cursor, one line that says so; a sink and a reload start it."""
    listed: list[str] = []
    listing = DirectoryStore.list

    def counting(self, *args, **kwargs):
        listed.append(self.root)
        return listing(self, *args, **kwargs)

    monkeypatch.setattr(DirectoryStore, "list", counting)
    with Ferry(tmp_path, sinks=()) as ferry:
        ferry.sources["events"]["interval"] = "1s"
        fill(ferry, 5)
        ferry.open()
        config = ferry.save()
        service = Service(config, ferry.path, ferry.ledger)
        service.start()
        try:
            service.reload()
            assert listed == []
            assert ferry.rows(sa.select(t.runs.c.id)) == ferry.rows(sa.select(t.partitions.c.key)) == []
            (idle, _) = logged(journal, "service.idle")  # one at the start, one after the reload
            assert (idle["level"], "no sink is enabled" in idle["reason"]) == ("info", True)
            ferry.add_sink("out")
            ferry.save()
            service.reload()
            ferry.script().await_taken(5)
            assert len(listed) >= 1
        finally:
            service.stop()
        assert len(logged(journal, "service.idle")) == 2
