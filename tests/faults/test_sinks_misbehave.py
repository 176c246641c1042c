"""Sinks that hang, drip, reset, refuse; signals at the wrong moment: one sink's trouble is its own, and all drains."""

import contextlib
import signal
import socket
import threading
import time

import pytest
from tests.contract.receiver import dripping, receiving
from tests.faults.altered import FAULTS
from tests.faults.journal import OK, Journal
from tests.faults.stage import COMMAND, Stage, seed, wait_until
from tests.faults.test_lane import ALTERED

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

QUICK = {"timeout": "1s", "probe": "300ms", "retry": {"first": "10ms", "max": "100ms"}}
SMALL = {"batch": {"max_events": 50, "max_wait": "0s"}}


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path, seed())
    yield stage
    stage.close()


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "received")


def file_sink(stage, **more):
    return {"type": "file", "path": str(stage.out), **SMALL, **more}


def http_sink(url, **more):
    return {"type": "http", "url": url, **SMALL, **QUICK, **more}


def assert_exact(found, *sinks):
    for sink in sinks:
        lacks = {key: found[sink][key] for key in ("missing", "duplicates", "foreign", "disorder")}
        assert not any(lacks.values()), (sink, lacks)
    assert found.get("http", {}).get("other_content", 0) == 0


def drain(stage, journal, daemon, *sinks):
    """Wait until all has arrived and is recorded, stop, count."""
    wait_until(lambda: journal.events >= stage.events or not journal.arrivals, "the receiver has everything", 60)
    wait_until(lambda: "file" not in sinks or stage.filed_events() >= stage.events, "the files hold everything", 60)
    wait_until(stage.has_nothing_left, "every batch has an end", 60)
    assert daemon.stop() == 0, daemon.tail()
    assert_exact(stage.count(), *sinks)


@contextlib.contextmanager
def silent():
    """The URL of a server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/in"


BAD_SERVERS = {
    "never answers": silent,
    "drips its headers": lambda: dripping(b"HTTP/1.1 200 OK\r\n", b"X-Drip: 1\r\n"),
    "drips its body": lambda: dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x"),
}


@pytest.mark.parametrize("server", BAD_SERVERS)
def test_a_server_that_keeps_a_call_open_is_left_at_the_deadline(server, stage, journal):
    """The call ends at its deadline, the healthy sink is not delayed, and the same ids go to the mended server."""
    stage.add_files(2, 200)
    with BAD_SERVERS[server]() as url, receiving(journal.take) as receiver:
        stage.configure({"file": file_sink(stage), "http": http_sink(url)})
        with stage.running() as daemon:
            wait_until(lambda: stage.filed_events() == stage.events, "the healthy sink has everything", 10)
            wait_until(lambda: daemon.events()["batch.postponed"] >= 2, "two attempts ended at their deadline", 15)
            attempted = stage.ask("SELECT batches.id FROM batches JOIN sinks ON sinks.id = sink_id WHERE name = 'http'")
            assert len(attempted) == 1
            stage.configure({"file": file_sink(stage), "http": http_sink(receiver.url)})
            daemon.signal(signal.SIGHUP)
            drain(stage, journal, daemon, "file", "http")
    assert attempted[0][0] in journal.keys


def test_an_answer_after_the_deadline_changes_nothing(stage, journal):
    """A receiver that took a batch and answers too late gets it again under the same key, with the same bytes."""
    stage.add_files(1, 300)
    journal.hold(2)
    with receiving(journal.take) as receiver:
        stage.configure({"http": http_sink(receiver.url)})
        with stage.running() as daemon:
            wait_until(lambda: journal.repeats >= 1, "the batch came again")
            journal.release()
            drain(stage, journal, daemon, "http")


def test_a_reply_lost_after_the_commit_doubles_nothing(stage, journal, tmp_path):
    """A hundred batches take effect and their replies are lost: files and rows are there once, keys come twice."""

    def reset_the_first(request, seen):
        if seen == 1:
            raise ConnectionResetError
        return OK

    journal = Journal(tmp_path / "received", reset_the_first)
    stage.add_files(5, 1000)
    with receiving(journal.take) as receiver:
        sinks = {"file": file_sink(stage, **QUICK), "http": http_sink(receiver.url)}
        sinks["duckdb"] = {"type": "duckdb", "path": str(stage.folder / "warehouse.duckdb"), **SMALL, **QUICK}
        stage.configure(sinks)
        assert "lost_replies" in FAULTS
        with stage.running(command=[COMMAND[0], str(ALTERED), "lost_replies"]) as daemon:
            drain(stage, journal, daemon, "file", "duckdb", "http")
    assert journal.repeats == len(journal.keys) >= 100
    attempts = "SELECT min(attempts), count(*) FROM batches WHERE state = 'delivered' GROUP BY sink_id"
    assert all(fewest == 2 and batches >= 100 for fewest, batches in stage.ask(attempts))


ANSWERS = {
    "500": (500, {}, b"sorry"),
    "429": (429, {"Retry-After": "1"}, b""),
    "302": (302, {"Location": "/elsewhere"}, b""),
    "401": (401, {}, b"who?"),
}


def test_refusing_answers_cost_nothing_and_end_by_themselves(stage, tmp_path):
    """500, 429, 302 and 401 move no cursor and lose no event; when they stop, the backlog drains without a person."""
    journals = {status: Journal(tmp_path / f"received-{status}") for status in ANSWERS}
    refusals = dict.fromkeys(ANSWERS, 3)
    times = {status: [] for status in ANSWERS}
    strangers = []

    def answer(request):
        status = request.path.strip("/")
        if status not in ANSWERS:
            strangers.append(request.path)
            return OK
        times[status].append(time.monotonic())
        if refusals[status]:
            refusals[status] -= 1
            return ANSWERS[status]
        return journals[status].take(request)

    stage.add_files(2, 200)
    with receiving(answer) as receiver:
        base = receiver.url.removesuffix("/in")
        sinks = {f"http-{status}": http_sink(f"{base}/{status}") for status in ANSWERS}
        stage.configure({"file": file_sink(stage), **sinks})
        with stage.running() as daemon:
            for status, journal in journals.items():
                wait_until(lambda journal=journal: journal.events == stage.events, f"{status} heals and drains", 30)
            logged = daemon.events()
    assert not strangers, "a redirect was followed"
    assert all(journal.repeats == 0 for journal in journals.values())
    assert min(b - a for a, b in zip(times["429"], times["429"][1:4], strict=False)) >= 1.0, "Retry-After is honoured"
    assert logged["sink.held"] == logged["sink.recovered"] == 2
    for status in ANSWERS:
        (tmp_path / f"received-{status}").rename(tmp_path / "received")
        assert_exact(stage.count(), "file", "http")
        (tmp_path / "received").rename(tmp_path / f"counted-{status}")


# -- signals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signals", [1, 2])
def test_a_stop_during_a_call_that_hangs_ends_in_time(signals, stage, journal):
    """SIGTERM, once or twice, while the receiver keeps its answer back: out within the stop timeout, nothing lost."""
    stage.add_files(1, 300)
    journal.hold(2)
    with receiving(journal.take) as receiver:
        slow = http_sink(receiver.url, timeout="60s")
        stage.configure({"http": slow}, service={"stop_timeout": "4s"})
        daemon = stage.start()
        wait_until(journal.held.is_set, "the receiver holds a request")
        began = time.monotonic()
        for _ in range(signals):
            daemon.signal(signal.SIGTERM)
        assert daemon.process.wait(10) == 0
        assert time.monotonic() - began < 4.5
        journal.release()
        with stage.running() as daemon:
            drain(stage, journal, daemon, "http")
    assert journal.repeats == 1


def test_a_stop_waits_for_a_call_that_ends_in_time(stage, journal):
    """SIGTERM in the middle of a batch that is then accepted: it is recorded, and not sent again."""
    stage.add_files(1, 300)
    journal.hold(2)
    with receiving(journal.take) as receiver:
        stage.configure({"http": http_sink(receiver.url, timeout="60s")})
        daemon = stage.start()
        wait_until(journal.held.is_set, "the receiver holds a request")
        daemon.signal(signal.SIGTERM)
        journal.release()
        assert daemon.process.wait(10) == 0
        with stage.running() as daemon:
            drain(stage, journal, daemon, "http")
    assert journal.repeats == 0


def test_a_stop_at_any_moment_of_the_start_loses_nothing(stage):
    """SIGTERM while the daemon is still starting ends it at once; the next start goes on."""
    stage.configure({"file": file_sink(stage)})
    for _ in range(6):
        stage.add_files(2, 400)
        daemon = stage.start()
        threading.Event().wait(stage.random.uniform(0, 2.0))
        daemon.signal(signal.SIGTERM)
        assert daemon.process.wait(10) in (0, -signal.SIGTERM), daemon.tail()
    with stage.running():
        wait_until(lambda: stage.filed_events() == stage.events, "all is delivered")
    assert_exact(stage.count(), "file")


def test_a_plugin_that_hangs_is_abandoned_and_hurts_nobody(stage):
    """A sink in a call that never ends is left at its deadline; reload, stop and the other sink do not wait for it."""
    hang = stage.folder / "hang"
    hang.touch()
    stage.add_files(1, 300)
    sinks = {"file": file_sink(stage), "slow": {"type": "tests.faults.hanging:take", **SMALL, **QUICK}}
    stage.configure(sinks, service={"stop_timeout": "4s"})
    daemon = stage.start()
    daemon.wait_started()
    wait_until(lambda: stage.filed_events() == stage.events, "the healthy sink has everything", 10)
    wait_until(lambda: daemon.events()["call.abandoned"], "a call is abandoned", 15)
    reload_and_wait(stage, daemon, {**sinks, "file": file_sink(stage, timeout="50s")}, seconds=5)
    began = time.monotonic()
    assert daemon.stop() == 0 and time.monotonic() - began < 4.5
    with stage.running() as daemon:
        wait_until(lambda: daemon.events()["call.abandoned"] >= 1, "a call is abandoned", 15)
        hang.unlink()
        taken = stage.folder / "taken.ndjson"
        wait_until(
            lambda: taken.exists() and len(set(taken.read_bytes().splitlines())) == stage.events, "it drains by itself"
        )
    assert_exact(stage.count(), "file")


def reload_and_wait(stage, daemon, sinks, seconds=5, **tables):
    loaded = daemon.events()["config.loaded"]
    stage.configure(sinks, **tables)
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: daemon.events()["config.loaded"] > loaded, "the edit is loaded", seconds)


def test_a_storm_of_reloads_keeps_the_last_whole_configuration(stage, tmp_path):
    """Twenty SIGHUPs within a second, every second edit broken: same process, last whole edit at work, nothing lost."""
    journal, paths = Journal(tmp_path / "received"), []

    def answer(request):
        paths.append(request.path)
        return journal.take(request)

    with receiving(answer) as receiver:
        stage.configure({"file": file_sink(stage), "http": http_sink(receiver.url)})
        with stage.running() as daemon:
            for number in range(20):
                stage.add_files(1, 50)
                stage.configure({"file": file_sink(stage), "http": http_sink(f"{receiver.url}/{number}")})
                if number % 2:
                    stage.config.write_text(stage.config.read_text().replace("[[sinks]]", "[[sinks]", 1))
                daemon.signal(signal.SIGHUP)
                threading.Event().wait(0.05)
            wait_until(lambda: daemon.events()["config.refused"], "the broken edit is refused", 10)
            reload_and_wait(stage, daemon, {"file": file_sink(stage), "http": http_sink(f"{receiver.url}/last")})
            stage.add_files(1, 50)  # what was loaded may have been one of the storm
            wait_until(lambda: "/in/last" in paths, "the last whole edit is at work", 20)
            stage.config.write_text("state_dir = ")
            refused = daemon.events()["config.refused"]
            daemon.signal(signal.SIGHUP)
            wait_until(lambda: daemon.events()["config.refused"] > refused, "the broken edit is refused", 10)
            wait_until(lambda: journal.events == stage.events, "what came before is delivered")
            paths.clear()
            stage.add_files(1, 100)
            drain(stage, journal, daemon, "file", "http")
            assert daemon.events()["service.started"] == 1
    assert set(paths) == {"/in/last"}


def test_a_second_daemon_on_the_same_ledger_leaves(stage):
    """Two daemons never share a ledger: the second one exits 75 and says who has it; the first one notices nothing."""
    stage.configure({"file": file_sink(stage)})
    with stage.running() as first:
        second = stage.start()
        assert second.process.wait(20) == 75
        assert str(first.pid) in second.tail()
        stage.add_files(1, 200)
        wait_until(lambda: stage.filed_events() == stage.events, "the first one goes on")
    assert_exact(stage.count(), "file")


def test_a_frozen_daemon_goes_on_where_it_stood(stage, journal):
    """SIGSTOP for longer than every deadline, in the middle of a call: afterwards all drains, in whole batches."""
    stage.add_files(2, 300)
    journal.hold(3)
    with receiving(journal.take) as receiver:
        stage.configure({"file": file_sink(stage), "http": http_sink(receiver.url)})
        with stage.running() as daemon:
            wait_until(journal.held.is_set, "the receiver holds a request")
            daemon.signal(signal.SIGSTOP)
            stage.add_files(2, 300)
            threading.Event().wait(2.5)
            daemon.signal(signal.SIGCONT)
            wait_until(lambda: journal.repeats >= 1, "the interrupted batch came again")
            journal.release()
            drain(stage, journal, daemon, "file", "http")
