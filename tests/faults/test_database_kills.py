"""kill -9 of the database under a sink, amid the events and at COMMIT: nothing is lost, nothing is twice."""

import collections
import time

import pytest
from tests.faults import count
from tests.faults.databases import mariadb, postgres
from tests.faults.relay import Relay, instants
from tests.faults.stage import Stage, seed, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

FILES, EVENTS = 2, 1500  # that land before each kill
MOST = 400_000  # bytes of a batch, below which a kill in its middle falls
PATIENCE = {"timeout": "20s", "probe": "300ms", "retry": {"first": "10ms", "max": "100ms"}}
LARGE = {"batch": {"max_events": 2_500, "max_wait": "0s"}}
OPEN = "SELECT id FROM batches WHERE state IN ('planned', 'sending', 'waiting', 'suspect')"

DATABASES = {"postgres": postgres, "mysql": mariadb}
FULL = pytest.mark.slow


@pytest.mark.parametrize("kills", [10, pytest.param(100, marks=FULL)])
@pytest.mark.parametrize("concurrency", [1, pytest.param(4, marks=FULL)])
@pytest.mark.parametrize("name", DATABASES)
def test_a_killed_database_loses_nothing_and_holds_nothing_twice(name, concurrency, kills, tmp_path, capsys):
    """One daemon goes through all kills by itself; in the end each event is there once, by an independent count."""
    number, began, tally = seed(), time.monotonic(), collections.Counter()
    stage = Stage(tmp_path, number)
    (tmp_path / "db").mkdir()
    with DATABASES[name](tmp_path / "db") as database:
        relay = Relay(*database.address, strike=database.kill, prepare=database.take_aim)
        try:
            stage.configure({"db": {**database.sink(relay.port), "concurrency": concurrency, **PATIENCE, **LARGE}})
            with stage.running() as daemon:
                stage.add_files(1, 100)  # the tables are made
                wait_until(lambda: drained(stage), "the first events have arrived", 60)
                for aim in instants(stage.random, kills, database.commit, MOST):
                    kill_once(stage, relay, database, aim, tally)
                stage.add_files(FILES, EVENTS)
                wait_until(lambda: drained(stage), "every batch has an end", 120)
                assert daemon.events()["sink.held"] == 0, "a database that restarts is no reason to hold the sink"
        finally:
            relay.close()
            stage.close()
        found = database.events()
    with capsys.disabled():
        seconds = time.monotonic() - began
        print(f"\n{name}: {kills} kills, {concurrency} at once, seed {number}, {seconds:.0f} s: {dict(tally)}")
    assert_exact(found, stage)
    assert tally["in the middle"] == tally["at COMMIT"] == kills // 2
    assert tally["under way"] == kills, "a kill fell where nothing was under way"
    assert tally["committed, reply lost"] >= kills // 20, "no kill fell behind a COMMIT: the lane proved nothing"
    assert concurrency > 1 or tally["committed, in the middle"] == 0


def drained(stage):
    return stage.ask("SELECT sum(events) FROM segments") == [(stage.events,)] and stage.has_nothing_left()


def kill_once(stage, relay, database, aim, tally):
    """Let events land, kill the server at this instant, look at what it kept, start it, let the daemon back to it."""
    kind = "at COMMIT" if aim.get("pattern") else "in the middle"
    relay.aim(**aim)
    stage.add_files(FILES, EVENTS)
    wait_until(relay.has_struck.is_set, f"a kill {kind}", 60)
    tally[kind] += 1
    under_way = [id_ for (id_,) in stage.ask(OPEN)]
    tally["under way"] += bool(under_way)
    database.start()
    if kept := database.recorded(under_way):
        tally["committed, reply lost" if kind == "at COMMIT" else "committed, in the middle"] += kept
    relay.mend()


def assert_exact(found, stage):
    """The table against the files, with nothing of eventferry."""
    source, books = count.read_store(stage.store)
    assert books["events"] == stage.events
    result = count.compare(source, found)
    lacks = {key: result[key] for key in ("missing", "duplicates", "foreign")}
    assert not any(lacks.values()), lacks
    assert len(found) == len(set(found)) == len(source)
    assert sum(map(len, found)) == sum(map(len, source))
