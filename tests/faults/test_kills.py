"""kill -9 at any instant: nothing is lost anywhere, nothing is twice where a repeat can be made harmless."""

import os
import signal
import time
from pathlib import Path

import pytest
from tests.contract.receiver import receiving
from tests.faults.journal import Journal
from tests.faults.lane import STANDBY, Lane, plan_kinds, report, sinks_of
from tests.faults.stage import Stage, children_of, seed, wait_until

from eventferry.ledger import books, open_ledger

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

KILLS = 100


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path, seed())
    yield stage
    stage.close()


def test_a_hundred_kills_lose_nothing_and_repeat_nothing_that_can_be_told_apart(tmp_path, capsys):
    """After 100 kill -9 every event is everywhere: once in files and DuckDB, in whole known batches at the receiver."""
    number, began = seed(), time.monotonic()
    stage = Stage(tmp_path, number)
    journal = Journal(tmp_path / "received")
    try:
        with receiving(journal.take) as receiver:
            stage.configure(sinks_of(stage, receiver.url), ledger=STANDBY)
            lane = Lane(stage, journal)
            lane.run(plan_kinds(stage.random, KILLS))
            lane.drain()
        found = stage.count()
        with capsys.disabled():
            print(report(lane.tally, journal, stage, number, began), found, sep="\n")
        assert_not_vacuous(lane.tally, journal, stage)
        assert_exact(found, stage)
        assert_books_balance(stage.ledger, stage.events)
    finally:
        stage.close()


def assert_not_vacuous(tally, journal, stage):
    assert tally.kills >= KILLS and min(tally.missing) > 0
    assert tally.kinds["held"] >= 30, "by construction between a send and its record: the receiver kept its answer back"
    assert tally.between >= tally.kinds["held"], "a kill of a held call did not fall between send and record"
    assert stage.events >= 100_000
    assert journal.repeats >= 1, "no repeated batch: the kills proved nothing"


def assert_exact(found, stage):
    assert found["source"]["events"] == stage.events
    for sink in ("file", "duckdb", "http"):
        lacks = {key: found[sink][key] for key in ("missing", "duplicates", "foreign", "disorder")}
        assert not any(lacks.values()), (sink, lacks)
    assert found["http"]["other_content"] == 0


def assert_books_balance(path: Path, events: int):
    ledger = open_ledger(path, migrate=False)
    with ledger.read() as tx:
        (came,), gone = books.source_books(tx), books.sink_books(tx)
    ledger.close()
    assert came.balance and came.events == events and set(came.states) == {"indexed"}, came
    for each in gone:
        assert each.balance and each.delivered == events and each.waiting == each.dead == 0, each


def test_a_killed_index_worker_costs_no_file(stage):
    """Index workers killed at work are replaced; their files are read again and none is quarantined."""
    stage.configure({"file": {"type": "file", "path": str(stage.out)}}, execution={"processes": 2})
    stage.add_files(4, 40_000)
    daemon = stage.start()
    indexed = "SELECT count(*) FROM objects WHERE state = 'indexed'"
    scanning = "SELECT count(*) FROM objects WHERE state = 'seen' AND attempts > 0"
    kills = 0
    for _ in range(4):
        daemon.wait_started()
        before = stage.ask(indexed)[0][0]
        workers = wait_until(lambda: stage.ask(scanning)[0][0] and workers_of(daemon), "a worker is at work")
        for worker in workers:
            kills += kill_quietly(worker)
        wait_until(lambda n=before: stage.ask(indexed)[0][0] > n, "files are indexed again")
        stage.add_files(2, 40_000)
    wait_until(lambda: stage.filed_events() == stage.events, "all is delivered", 60)
    assert daemon.stop() == 0
    assert kills >= 4
    assert_exact_in_files(stage)


def test_kills_during_indexing_quarantine_nothing(stage):
    """A daemon killed six times in a row while it reads the same files loses none of them, and blames none."""
    stage.configure({"file": {"type": "file", "path": str(stage.out)}})
    stage.add_files(2, 40_000)
    reading = "SELECT id, attempts FROM objects WHERE state = 'seen'"
    known = {}
    for _ in range(6):
        daemon = stage.start()
        daemon.wait_started()
        stage.add_files(1, 40_000)
        wait_until(
            lambda known=known: any(n > known.get(id_, 0) for id_, n in stage.ask(reading)),
            "a scan begins",
            every=0.001,
        )
        daemon.kill()
        known = dict(stage.ask(reading))
    with stage.running():
        wait_until(lambda: stage.filed_events() == stage.events, "all is delivered", 60)
    assert_exact_in_files(stage)


def assert_exact_in_files(stage):
    found = stage.count()["file"]
    assert not any(found[key] for key in ("missing", "duplicates", "foreign", "disorder")), found
    assert stage.ask("SELECT DISTINCT state FROM objects") == [("indexed",)]


def workers_of(daemon):
    return [pid for pid, command in children_of(daemon.pid) if "spawn_main" in command]


def kill_quietly(pid: int) -> int:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1
