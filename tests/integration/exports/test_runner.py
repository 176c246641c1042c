"""The runner over a real store: exports end complete or say why not, and nothing is left of those that do not."""

import gzip
import hashlib
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import freezegun
import pytest
from tests.builders import event, events, wait_until
from tests.desks import ANA, Works, ask, begin, die, key, look, works_at

from eventferry.execution import make_executor
from eventferry.exports import ending, folders, requests, task
from eventferry.exports.model import Output, Selection
from eventferry.exports.plan import readables
from eventferry.exports.runner import Runner
from eventferry.ledger import alerts, exports
from eventferry.query import Compare, Op, Scope
from eventferry.store.opening import StreamLimits

A, B = events(100), events(50, 100)
FILES = {"2026/01/01/00/a.ndjson": A, "2026/01/02/00/b.ndjson": B}
GZIP = Output("ndjson", "gzip")


@pytest.fixture
def works(tmp_path) -> Iterator[Works]:
    with works_at(tmp_path, FILES) as works:
        yield works


def test_an_export_is_complete_with_its_files_figures_and_expiry(works):
    """What is downloaded is what lies in the store."""
    row = works.until(ask(works.desk, output=GZIP))
    assert (row.state, row.percent, row.events, row.files, row.attempts) == ("complete", 100, 150, 1, 1)
    [content] = works.content(row).values()
    assert gzip.decompress(content) == A + B
    assert row.bytes == len(content)
    assert row.expires_ms == row.finished_ms + 7 * 86_400_000
    assert works.left() == {row.id}


def test_the_manifest_lies_beside_the_files(works):
    """It lists the parts with their sizes and digests, and is opened like them."""
    row = works.until(ask(works.desk, output=Output("ndjson", part_bytes=4096)))
    assert row.files > 1
    opened = requests.open_linked_file(works.desk, row.id, "manifest.json")
    with opened.file as file:
        content = file.read()
    assert opened.row.bytes == len(content)
    listed = {each["name"]: each["sha256"] for each in json.loads(content)["files"]}
    assert listed == {name: hashlib.sha256(made).hexdigest() for name, made in works.content(row).items()}
    assert b"".join(works.content(row).values()) == A + B


def test_an_empty_selection_is_a_success_with_no_rows(works):
    """Not a failure."""
    row = works.until(ask(works.desk, selection=Selection(filter=Compare(("n",), Op.EQ, -1))))
    assert (row.state, row.events) == ("complete", 0)


def test_what_comes_after_the_request_is_not_in_it(works):
    """An export is pinned to the log as it was: made at once or later, it has the same bytes."""
    early = ask(works.desk)
    works.ferry.put("2026/01/03/00/c.ndjson", events(10, 150))
    works.ferry.index()
    late = ask(works.desk)
    works.until(late)
    assert [works.until(each).events for each in (early, late)] == [150, 160]
    assert list(works.content(early).values()) == [A + B]


def test_no_more_are_at_work_than_there_are_workers(tmp_path):
    """The others wait for their turn."""
    with works_at(tmp_path, FILES, processes=1, exports={"workers": 2}) as works:
        rows = [ask(works.desk, key(str(number))) for number in range(3)]
        works.runner.tick()
        assert sorted(look(works.desk, row).state for row in rows) == ["queued", "running", "running"]
        assert [works.until(row).state for row in rows] == ["complete"] * 3


def test_a_store_that_does_not_answer_is_asked_again_for_an_hour(works):
    """With growing pauses; then the export has failed, and its requester is told why."""
    store = works.ferry.home / "events"
    away = store.rename(works.ferry.home / "away")
    with freezegun.freeze_time("2026-03-01 12:00:00") as time:
        row = ask(works.desk)
        works.runner.tick()
        works.runner.tick()
        now = look(works.desk, row)
        assert now.state == "queued"
        assert now.next_ms > row.created_ms
        assert now.reason == "waits: the store of the events cannot be read now; it is tried again"
        time.tick(1800)
        works.runner.tick()
        works.runner.tick()
        assert look(works.desk, row).state == "queued"
        time.tick(1801)
        works.runner.tick()
        works.runner.tick()
        failed = look(works.desk, row)
    assert failed.state == "failed"
    assert "events" in failed.reason
    away.rename(store)
    assert works.until(ask(works.desk)).state == "complete"


def test_the_reason_of_a_wait_ends_with_the_wait(works):
    """Whether the export is made after all, or cancelled: what has ended waits for nothing."""
    store = works.ferry.home / "events"
    away = store.rename(works.ferry.home / "away")
    rows = [ask(works.desk), ask(works.desk, key("bob"))]
    with freezegun.freeze_time("2026-03-01 12:00:00"):
        for _ in range(4):
            works.runner.tick()
    assert all(look(works.desk, row).reason.startswith("waits: ") for row in rows)
    requests.cancel(works.desk, key("bob"), rows[1].id)
    away.rename(store)
    made, cancelled = works.until(rows[0]), look(works.desk, rows[1])
    assert (made.state, made.reason) == ("complete", None)
    assert (cancelled.state, cancelled.reason) == ("cancelled", None)


def test_an_export_over_its_limit_fails_and_leaves_nothing(works):
    """At once: the same would fail again."""
    row = works.until(ask(works.desk, output=Output("ndjson", max_events=149)))
    assert row.state == "failed"
    assert "149" in row.reason
    assert works.left() == set()


def test_a_queued_export_that_is_cancelled_never_begins(works):
    """Nor is anything left of it."""
    row = ask(works.desk)
    requests.cancel(works.desk, ANA, row.id)
    works.runner.tick()
    assert (look(works.desk, row).state, look(works.desk, row).attempts) == ("cancelled", 0)


def test_a_running_export_is_cancelled_by_the_next_look_and_leaves_nothing(tmp_path):
    """Its process is told to stop, and its place is free for another one."""
    with works_at(tmp_path, FILES, processes=1) as works:
        row = ask(works.desk)
        works.runner.tick()
        requests.cancel(works.desk, ANA, row.id)
        works.runner.tick()
        assert look(works.desk, row).state == "cancelled"
        assert works.until(ask(works.desk, key("bob"))).state == "complete"
        assert row.id not in works.left()
        assert f".work-{row.id}" not in works.left()


def test_a_running_export_that_is_deleted_is_cancelled_first(tmp_path):
    """Nobody sees it any more, and its files never appear."""
    with works_at(tmp_path, FILES, processes=1) as works:
        row = ask(works.desk)
        works.runner.tick()
        requests.delete(works.desk, ANA, row.id)
        assert works.until(row).state == "cancelled"
        works.until(ask(works.desk, key("bob")))
        works.runner.expire()
        assert not any(row.id in name for name in works.left())


def kill_worker(works: Works) -> None:
    """Kill the process of the export at work, once it is there."""
    [slot] = works.runner._slots
    found: list[int] = []

    def is_there() -> bool:
        found[:] = list(getattr(slot._executor, "_processes", None) or ())
        return bool(found)

    wait_until(is_there)
    os.kill(found[0], signal.SIGKILL)
    wait_until(slot.task.future.done)


def test_an_export_whose_process_dies_is_begun_anew(tmp_path):
    """And ends complete with the right bytes."""
    with works_at(tmp_path, FILES, processes=1) as works:
        row = ask(works.desk, output=GZIP)
        works.runner.tick()
        kill_worker(works)
        row = works.until(row)
        assert (row.state, row.kills) == ("complete", 1)
        [content] = works.content(row).values()
        assert gzip.decompress(content) == A + B


def test_a_process_that_died_while_it_rested_is_replaced_at_once(tmp_path):
    """Its death is nobody's failure."""
    with works_at(tmp_path, FILES, processes=1) as works:
        works.until(ask(works.desk))
        [slot] = works.runner._slots
        [process] = slot._executor._processes.values()
        process.kill()
        process.join()
        wait_until(lambda: slot._executor._broken, what="the end of the pool")
        row = works.until(ask(works.desk))
        assert (row.state, row.attempts, row.kills) == ("complete", 1, 0)


@pytest.mark.parametrize("trouble", ["store", "vanished", "disk"])
def test_what_a_requester_is_told_names_neither_paths_nor_keys(works, monkeypatch, trouble):
    """Keys of files name other tenants, paths the machine; the operator finds both in the log."""
    told: list[str | None] = []

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    if trouble == "store":
        (works.ferry.home / "events").rename(works.ferry.home / "away")
    elif trouble == "vanished":
        (works.ferry.home / "events/2026/01/01/00/a.ndjson").unlink()
    else:
        monkeypatch.setattr("eventferry.exports.runner.write_plan", full)
    for name in ("fail", "fail_or_retry"):
        own = getattr(ending, name)

        def noting(desk, export_id, reason, *more, own=own):
            told.append(reason)
            told.append(more[-1])
            own(desk, export_id, reason, *more)

        monkeypatch.setattr(ending, name, noting)
    ask(works.desk)
    works.runner.tick()
    works.runner.tick()
    reason, detail = told[:2]
    assert reason
    assert not any(each in reason for each in (str(works.ferry.home), "a.ndjson", "2026/01"))
    assert detail
    assert "a.ndjson" in detail or str(works.ferry.home) in detail


def test_an_export_that_kills_its_process_five_times_has_failed(tmp_path, monkeypatch):
    """Others are made after it, and nothing of it is left."""
    with works_at(tmp_path, FILES, processes=1) as works, freezegun.freeze_time("2026-03-01 12:00:00") as time:
        row = ask(works.desk)
        with monkeypatch.context() as patch:
            patch.setattr(task, "run_export", die)

            def has_failed() -> bool:
                works.runner.tick()
                time.tick(1)
                return look(works.desk, row).state == "failed"

            wait_until(has_failed, 60)
        failed = look(works.desk, row)
        assert failed.state == "failed"
        assert "may need more memory than there is (5 times)" in failed.reason
        assert works.until(ask(works.desk)).state == "complete"
        assert not any(row.id in name for name in works.left())


def test_a_stop_waits_for_no_export_and_the_next_start_goes_on(tmp_path):
    """Nothing of it counts as a failure."""
    with works_at(tmp_path, FILES, processes=1) as works:
        row = ask(works.desk)
        works.runner.tick()
        works.runner.close()
        stopped = look(works.desk, row)
        assert (stopped.state, stopped.kills, stopped.interruptions) == ("queued", 0, 0)
        again = Works(works.ferry, 1)
        assert again.until(row).state == "complete"
        assert list(again.content(row).values()) == [A + B]
        again.runner.close()


def test_an_export_that_a_death_of_the_daemon_interrupted_is_begun_anew(works):
    """It was running when nobody ran it; a new runner counts that, and goes on."""
    row = begin(works.desk, ask(works.desk))
    row = works.until(row)
    assert (row.state, row.interruptions) == ("complete", 1)


def test_files_that_were_finished_when_the_daemon_died_are_not_made_again(works, monkeypatch):
    """The last step was taken, and only the ledger did not hear of it."""
    row = works.until(ask(works.desk))
    with works.desk.ledger.write() as tx:
        tx.exec_driver_sql("UPDATE exports SET state = 'running', percent = 0, files = 0")
        tx.exec_driver_sql("DELETE FROM export_files")
    monkeypatch.setattr(task, "_make", None)
    again = Works(works.ferry, 0)
    assert again.until(row).state == "complete"
    assert list(again.content(row).values()) == [A + B]


def test_settings_that_changed_between_two_attempts_begin_the_export_anew(tmp_path):
    """A plan says whose whole files are: with another tenant field it, and what was made by it, is void."""
    events_ = event(1, org="acme", owner="zeta") + event(2, org="zeta", owner="acme")
    with works_at(tmp_path, {"2026/01/01/00/a.ndjson": events_}, processes=1) as works:
        row = ask(works.desk, selection=Selection(Scope(tenants=("default",))))
        works.runner.tick()
        works.runner.close()
        work = works.desk.folder / f"{folders.WORK}{row.id}"
        (work / "survey.json").write_text("left by the attempt before")
        works.ferry.sources["events"]["tenant_field"] = "org"
        works.ferry.open()
        again = Works(works.ferry, 0)
        again.runner.tick()
        assert not (work / "survey.json").exists()
        assert (again.until(row).state, again.until(row).events) == ("complete", 0)
        again.runner.close()


@pytest.mark.parametrize("change", ["nothing", "limits", "removed"])
def test_an_attempt_goes_on_where_how_events_are_read_is_the_same(tmp_path, change):
    """Other limits are no other events; and a source that is gone is told by the plan that has it, not left out."""
    with works_at(tmp_path, FILES, processes=1) as works:
        row = ask(works.desk)
        works.runner.tick()
        works.runner.close()
        plan = works.desk.folder / f"{folders.WORK}{row.id}" / task.PLAN
        before = plan.stat().st_ino
        found = readables(works.ferry.ledger, works.ferry.config.sources)
        if change == "limits":
            found = {id_: replace(each, limits=StreamLimits(max_bytes=1 << 30)) for id_, each in found.items()}
        again = Runner(works.desk, lambda: {} if change == "removed" else found, make=partial(make_executor, 0))
        again.tick()
        assert plan.stat().st_ino == before
        again.tick()
        assert look(works.desk, row).state == ("failed" if change == "removed" else "complete")
        again.close()


def test_switched_off_no_export_is_made_and_those_at_work_wait(tmp_path):
    """Switched on again they go on."""
    with works_at(tmp_path, FILES, processes=1) as works:
        row = ask(works.desk)
        works.runner.tick()
        works.runner.use(works.desk, enabled=False)
        works.runner.tick()
        assert look(works.desk, row).state == "queued"
        works.runner.use(works.desk, enabled=True)
        assert works.until(row).state == "complete"


def test_a_folder_that_cannot_be_written_puts_exports_off_and_tells_people(works, monkeypatch):
    """A full disk is an alert that ends by itself; nothing fails for an hour."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("eventferry.exports.runner.write_plan", full)
        row = ask(works.desk)
        works.runner.tick()
    assert look(works.desk, row).state == "queued"
    with works.desk.ledger.read() as tx:
        assert [each.cause for each in alerts.open_conditions(tx)] == ["exports.stalled"]
    with works.desk.ledger.write() as tx:
        exports.put_back(tx, row.id)
    assert works.until(row).state == "complete"
    with works.desk.ledger.read() as tx:
        assert alerts.open_conditions(tx) == []


def test_idle_processes_are_ended_after_a_minute(tmp_path):
    """So that the daemon is as small as before."""
    with works_at(tmp_path, FILES, processes=1) as works:
        with freezegun.freeze_time("2026-03-01 12:00:00") as time:
            works.until(ask(works.desk))
            time.tick(59)
            works.runner.tick()
            [slot] = works.runner._slots
            [process] = slot._executor._processes.values()
            time.tick(1)
            works.runner.tick()
        assert works.runner._slots == []
        process.join(10)
        assert not process.is_alive()


def test_a_mistake_of_ours_fails_one_export_and_no_other(works, monkeypatch):
    """It is tried a few times, then said; the log has the rest."""
    row = ask(works.desk)

    def broken(_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(task, "run_export", broken)
        for _ in range(5):
            if look(works.desk, row).state == "queued":
                with works.desk.ledger.write() as tx:
                    exports.put_back(tx, row.id)
            works.runner.tick()
            works.runner.tick()
        failed = works.until(row)
    assert failed.state == "failed"
    assert "mistake of its own" in failed.reason
    assert works.until(ask(works.desk)).state == "complete"


def test_work_of_unknown_exports_is_swept(works):
    """What a restored ledger does not know has no owner."""
    row = works.until(ask(works.desk))
    other = works.desk.folder / f"{folders.WORK}00000000-0000-4000-8000-000000000000"
    other.mkdir()
    works.runner.expire()
    assert works.left() == {row.id}
