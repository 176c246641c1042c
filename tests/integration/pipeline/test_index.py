"""Indexing: each file read once, whole, before anything of it is sent; bad files and lines told, counted, survived."""

import datetime as dt
import gzip
import os
from concurrent.futures import Executor

import freezegun
import pytest
import sqlalchemy as sa
from tests.builders import HOUR, Ferry, event, events, numbers, put

from eventferry import clock
from eventferry.errors import StoreError
from eventferry.execution import InlineExecutor, make_executor
from eventferry.ledger import tables as t
from eventferry.pipeline.index import Indexer
from eventferry.store.directory import DirectoryStore


def positions(ferry: Ferry) -> list[tuple[int, str, int]]:
    query = sa.select(t.segments.c.position, t.objects.c.key, t.segments.c.start).join_from(
        t.segments, t.objects, t.segments.c.object_id == t.objects.c.id
    )
    return [tuple(row) for row in ferry.rows(query.order_by(t.segments.c.position))]


def test_log_positions_are_gapless_and_in_the_order_of_files(tmp_path):
    """However files fail in between, the log counts 1, 2, 3 … in the order in which files were taken."""
    with Ferry(tmp_path) as ferry:
        for number in range(30):
            content = events(50, 50 * number, pad="x" * 200)
            path = ferry.put(f"{HOUR}/{number:02}.ndjson.gz", content)
            if number % 7 == 3:
                path.write_bytes(path.read_bytes()[:-20])
                os.utime(path, (0, 0))
        ferry.open()
        assert ferry.index().indexed.files == 26
        found = positions(ferry)
        assert [position for position, _, _ in found] == list(range(1, len(found) + 1))
        assert [(key, start) for _, key, start in found] == sorted((key, start) for _, key, start in found)


def test_a_large_file_becomes_several_segments_that_meet(tmp_path):
    """Segments of at most 4 MiB cover the file without gap or overlap."""
    with Ferry(tmp_path) as ferry:
        content = events(60_000, pad="x" * 100)
        ferry.put(f"{HOUR}/a.ndjson.gz", content)
        ferry.open()
        ferry.index()
        rows = ferry.rows(sa.select(t.segments.c.start, t.segments.c.end).order_by(t.segments.c.position))
        assert len(rows) >= 3
        assert [row.start for row in rows] == [0, *(row.end for row in rows[:-1])]
        assert rows[-1].end == len(content)
        assert max(row.end - row.start for row in rows) <= 4 * 1024 * 1024


def test_a_hundred_tiny_files_are_one_commit(tmp_path):
    """Tiny files share a transaction: their segments were appended at the same moment of a moving clock."""
    with freezegun.freeze_time("2026-03-01", auto_tick_seconds=1), Ferry(tmp_path) as ferry:
        for number in range(100):
            ferry.put(f"{HOUR}/{number:03}.ndjson", event(number))
        ferry.open()
        ferry.index()
        assert len({row[0] for row in ferry.rows(sa.select(t.segments.c.appended_ms))}) == 1


def test_a_truncated_file_sends_nothing_and_waits_then_is_quarantined(tmp_path):
    """It may still be being written: tried again until it is old enough, then quarantined with one alert per source."""
    with freezegun.freeze_time("2026-03-01 12:00:00") as time, Ferry(tmp_path) as ferry:
        ferry.sources["events"]["unreadable_after"] = "1h"
        for name in "ab":
            path = ferry.put(f"{HOUR}/{name}.ndjson.gz", events(2000), age=600)
            before = path.stat().st_mtime
            path.write_bytes(path.read_bytes()[:-30])
            os.utime(path, (before, before))
        ferry.open()
        assert ferry.index().indexed.postponed == 2
        assert ferry.conditions() == {}
        time.tick(dt.timedelta(minutes=30))
        assert ferry.index().indexed.postponed == 2
        time.tick(dt.timedelta(minutes=31))
        assert ferry.index().indexed.quarantined == 2
        assert ferry.rows(sa.select(t.segments.c.position)) == []
        condition = ferry.conditions()["file.quarantined:events"]
        assert condition.count == 2
        assert {row.state for row in ferry.objects()} == {"quarantined"}
        assert "truncated" in (ferry.objects()[0].reason or "")
        with ferry.ledger.read() as tx:
            assert tx.execute(sa.select(sa.func.count()).select_from(t.messages)).scalar_one() == 1


def test_a_file_that_is_complete_at_the_second_look_is_delivered(tmp_path):
    """The rest of an upload arrives: a new version, read whole."""
    with Ferry(tmp_path) as ferry:
        path = ferry.put(f"{HOUR}/a.ndjson.gz", events(2000), age=600)
        whole = path.read_bytes()
        put(tmp_path / "events", f"{HOUR}/a.ndjson.gz", whole[:-30], age=600, packed=False)
        ferry.open()
        assert ferry.index().indexed.postponed == 1
        put(tmp_path / "events", f"{HOUR}/a.ndjson.gz", whole, age=500, packed=False)
        ferry.index()
        ferry.index()
        ferry.deliver()
        assert numbers(ferry.script().lines()) == list(range(2000))


def test_a_retried_file_is_read_again_and_a_dropped_one_is_not(tmp_path):
    """What a person decides about quarantined files happens; the alert lasts until the file asked for is read."""
    with Ferry(tmp_path) as ferry:
        for name in "ab":
            path = ferry.put(f"{HOUR}/{name}.ndjson.gz", events(20), age=7200)
            path.write_bytes(path.read_bytes()[:-9])
            os.utime(path, (1e9, 1e9))
        ferry.open()
        ferry.index()
        first, second = ferry.objects(state="quarantined")
        ferry.do("files.drop", ids=[first.id])
        ferry.do("files.retry", ids=[second.id])
        assert "file.quarantined:events" in ferry.conditions()
        ferry.index()
        assert [row.state for row in ferry.objects()] == ["dropped", "quarantined"]
        assert kinds(ferry) == ["problem"]
        ferry.do("files.drop", ids=[second.id])
        assert ferry.conditions() == {}
        assert kinds(ferry) == ["problem", "over"]


def kinds(ferry: Ferry, event: str = "file.quarantined") -> list[str]:
    """Of the messages to people about an event, in order."""
    found = sa.select(t.messages.c.kind).where(t.messages.c.event == event).order_by(t.messages.c.id)
    return [row.kind for row in ferry.rows(found)]


def test_the_alert_about_quarantined_files_names_one_with_its_own_reason_and_counts_the_rest(tmp_path):
    """Name and reason are of the same file, the last one, as often as files come and go."""

    def told() -> tuple[str, str]:
        condition = ferry.conditions()["file.quarantined:events"]
        assert condition.command == "eventferry files list --state quarantined --source events"
        return condition.subject, condition.detail

    with Ferry(tmp_path) as ferry:
        ferry.put(f"{HOUR}/a.ndjson", b"bad\n" * 30)
        ferry.open()
        ferry.index()
        subject, detail = told()
        assert subject.startswith("A file of source events") and subject.endswith(f"{HOUR}/a.ndjson")
        assert detail.startswith("30 of 30")
        ferry.put(f"{HOUR}/b.ndjson", b"bad\n" * 40)
        ferry.put(f"{HOUR}/c.ndjson", b"bad\n" * 50)
        ferry.index()
        subject, detail = told()
        assert subject.startswith("3 files of source events")
        assert detail.startswith(f"The last one: {HOUR}/c.ndjson: 50 of 50")
        assert ferry.conditions()["file.quarantined:events"].fields["files"] == 3
        ferry.do("files.drop", ids=[row.id for row in ferry.objects() if row.key.endswith("c.ndjson")])
        subject, detail = told()
        assert subject.startswith("2 files") and detail.startswith(f"The last one: {HOUR}/b.ndjson: 40 of 40")
        assert kinds(ferry) == ["problem"]


def test_a_file_that_is_released_ends_the_alert_with_its_index(tmp_path):
    """Asked for is not yet mended: the recovery is told when the file was read."""
    with Ferry(tmp_path) as ferry:
        ferry.put(f"{HOUR}/a.ndjson", events(20) + b"bad\n" * 30)
        ferry.open()
        ferry.index()
        (row,) = ferry.objects(state="quarantined")
        ferry.do("files.retry", ids=[row.id], release=True)
        assert kinds(ferry) == ["problem"]
        ferry.index()
        assert ferry.states() == {f"{HOUR}/a.ndjson": "indexed"}
        assert kinds(ferry) == ["problem", "recovered"]


class Retiring(InlineExecutor):
    """Is retired by a reload in the moment between its look-up and the hand-over of a pack."""

    def submit(self, fn, /, *args, **kwargs):
        if args[0] and self.retire is not None:
            retire, self.retire = self.retire, None
            retire()
        return super().submit(fn, *args, **kwargs)


def test_a_pool_that_is_retired_in_the_moment_of_a_hand_over_costs_nothing(tmp_path):
    """A reload that changes the workers never fails a run."""
    with Ferry(tmp_path) as ferry:
        ferry.put(f"{HOUR}/a.ndjson", events(3))
        ferry.open()
        retiring = Retiring()
        indexer = Indexer(ferry.ledger, lambda: retiring, 1)
        retiring.retire = lambda: indexer.use(InlineExecutor, 1)
        ferry.indexer = indexer
        assert ferry.index().indexed.files == 1
        assert retiring.retire is None


def test_too_many_bad_lines_quarantine_a_file_until_it_is_released(tmp_path):
    """A file that is mostly no events is taken for something else; a person may deliver its events all the same."""
    with Ferry(tmp_path) as ferry:
        ferry.put(f"{HOUR}/a.ndjson", events(20) + b"not json\n" * 30)
        ferry.open()
        assert ferry.index().indexed.quarantined == 1
        (row,) = ferry.objects()
        assert "30 of 50 lines are bad" in (row.reason or "")
        ferry.do("files.retry", ids=[row.id], release=True)
        ferry.index()
        ferry.deliver()
        assert numbers(ferry.script().lines()) == list(range(20))
        assert (ferry.source_book().events, ferry.source_book().bad) == (20, 30)


def test_bad_lines_are_counted_exactly_sampled_and_stop_nothing(tmp_path):
    """Every good line arrives; the count of bad ones is exact, their samples are capped and tell line and reason."""
    with Ferry(tmp_path) as ferry:
        lines = [event(n) if n % 3 else b"{broken\n" for n in range(300)]
        ferry.put(f"{HOUR}/a.ndjson.gz", b"".join(lines) + b"\n\n")
        ferry.open()
        ferry.index()
        ferry.deliver()
        assert numbers(ferry.script().lines()) == [n for n in range(300) if n % 3]
        books = ferry.source_book()
        assert (books.lines, books.events, books.bad, books.blank) == (302, 200, 100, 2)
        samples = ferry.rows(sa.select(t.bad_lines).order_by(t.bad_lines.c.line))
        assert [row.line for row in samples] == list(range(1, 60, 3))
        assert (samples[1].offset, samples[1].length) == (8 + 2 * len(event(1)), 7)
        assert "invalid JSON" in samples[0].reason
        condition = ferry.conditions()["lines.bad:events"]
        assert condition.level == "warning"
        assert "100 in" in condition.detail


def test_events_without_a_time_are_delivered_and_counted(tmp_path):
    """A missing or odd time is no fault of the line."""
    with Ferry(tmp_path) as ferry:
        ferry.put(f"{HOUR}/a.ndjson", b'{"n":0}\n{"n":1,"event_timestamp":"soon"}\n' + event(2))
        ferry.open()
        ferry.index()
        ferry.deliver()
        assert numbers(ferry.script().lines()) == [0, 1, 2]
        assert ferry.source_book().untimed == 2


def test_no_event_time_reaches_the_sink_as_none(tmp_path):
    """A batch names the smallest and largest time of its segments, or none."""
    with Ferry(tmp_path) as ferry:
        ferry.put(f"{HOUR}/a.ndjson", b'{"n":0}\n')
        ferry.open()
        ferry.index()
        ferry.deliver()
        (batch,) = ferry.script().calls
        assert (batch.time_min, batch.time_max) == (None, None)
        ferry.put(f"{HOUR}/b.ndjson", events(3))
        ferry.index()
        ferry.deliver()
        assert ferry.script().calls[1].time_max == 1_767_323_000_002


def test_an_object_that_vanishes_before_it_is_read_is_noted_as_gone(tmp_path):
    """Nothing of it was ever promised; the run goes on with the others."""
    with Ferry(tmp_path) as ferry:
        ferry.put(f"{HOUR}/a.ndjson", events(3))
        ferry.put(f"{HOUR}/b.ndjson", events(3))
        ferry.open()
        store = ferry.at_work["events"].open()
        from eventferry.pipeline.discover import discover

        discover(ferry.ledger, ferry.at_work["events"], store, limit=10, full=False)
        (tmp_path / "events" / HOUR / "a.ndjson").unlink()
        assert ferry.index().indexed.files == 1
        assert ferry.states() == {f"{HOUR}/a.ndjson": "gone", f"{HOUR}/b.ndjson": "indexed"}


def test_an_empty_file_that_is_filled_later_is_delivered(tmp_path):
    """A producer that creates its file first and writes it later is served like any other that grows."""
    with Ferry(tmp_path) as ferry:
        ferry.put(f"{HOUR}/a.ndjson", b"", age=7200)
        ferry.open()
        assert ferry.index().indexed.files == 1
        ferry.put(f"{HOUR}/a.ndjson", events(5), age=3600)
        ferry.index()
        ferry.deliver()
        assert numbers(ferry.script().lines()) == list(range(5))
        assert ferry.conditions() == {}


def test_concatenated_objects_are_events_too(tmp_path):
    """JSON objects without newlines between them (Firehose without a delimiter) are split where the source says so."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"]["concatenated"] = True
        ferry.put(f"{HOUR}/a.ndjson.gz", events(500).replace(b"\n", b""))
        ferry.open()
        ferry.index()
        ferry.set_batch(max_events=70)
        ferry.open().deliver()
        assert numbers(ferry.script().lines()) == list(range(500))


def test_members_frames_and_odd_ends_all_arrive(tmp_path):
    """Several gzip members, CRLF, a byte order mark, no final newline: canonical events, nothing lost."""
    with Ferry(tmp_path) as ferry:
        members = gzip.compress(events(3)) + gzip.compress(events(3, 3)[:-1].replace(b"\n", b"\r\n"))
        ferry.put(f"{HOUR}/a.ndjson.gz", members, packed=False)
        ferry.put(f"{HOUR}/b.ndjson", b"\xef\xbb\xbf" + event(6) + b"\r\n" + event(7)[:-1])
        ferry.open()
        ferry.index()
        ferry.deliver()
        assert b"".join(line + b"\n" for line in ferry.script().lines()) == events(8)


def test_files_that_are_listed_but_not_handed_out_are_told_and_forgiven(tmp_path, monkeypatch):
    """Silence is a fault: after `unreadable_after` people hear of it, with key, reason and count, until it is over."""

    def refuse(self, key, version):
        raise StoreError(f"{key}: permission denied")

    with freezegun.freeze_time("2026-03-01 12:00:00") as time, Ferry(tmp_path) as ferry:
        for name in "ab":
            ferry.put(f"{HOUR}/{name}.ndjson", events(3))
        ferry.open()
        with monkeypatch.context() as patched:
            patched.setattr(DirectoryStore, "open", refuse)
            assert ferry.index().indexed.postponed == 2
            time.tick(dt.timedelta(minutes=59))
            ferry.index()
            assert ferry.conditions() == {}
            time.tick(dt.timedelta(minutes=2))
            ferry.index()
            condition = ferry.conditions()["source.unreadable:events"]
            assert (condition.level, condition.fields["waiting"]) == ("error", 2)
            assert f"{HOUR}/a.ndjson: permission denied" in condition.detail
            assert condition.command == "eventferry check --source events"
        time.tick(dt.timedelta(minutes=2))
        assert ferry.index().indexed.files == 2
        assert ferry.conditions() == {}


def test_a_truncated_file_dated_in_the_future_is_quarantined_all_the_same(tmp_path):
    """Its age begins when it was first seen: a store ahead of our clock does not make it wait for ever."""
    with freezegun.freeze_time("2026-03-01 12:00:00") as time, Ferry(tmp_path) as ferry:
        path = ferry.put(f"{HOUR}/a.ndjson.gz", events(2000))
        path.write_bytes(path.read_bytes()[:-30])
        os.utime(path, (clock.now_ms() / 1000 + 10 * 86_400,) * 2)
        ferry.open()
        ferry.index()
        time.tick(dt.timedelta(seconds=2))
        assert ferry.index().indexed.postponed == 1
        time.tick(dt.timedelta(minutes=61))
        assert ferry.index().indexed.quarantined == 1


def test_bad_lines_are_over_only_when_none_came_in_for_a_day(tmp_path):
    """Clean files between bad ones neither end the warning nor begin it anew: one message, then one recovery."""
    with freezegun.freeze_time("2026-03-01 12:00:00") as time, Ferry(tmp_path) as ferry:
        ferry.open()
        for number in range(6):
            ferry.put(f"{HOUR}/{number}.ndjson", events(3) + (b"{broken\n" if number % 2 == 0 else b""))
            ferry.index()
            assert "lines.bad:events" in ferry.conditions()
            time.tick(dt.timedelta(hours=4))
        time.tick(dt.timedelta(hours=15))
        ferry.index()
        assert "lines.bad:events" in ferry.conditions()
        time.tick(dt.timedelta(hours=2))
        ferry.index()
        assert ferry.conditions() == {}
        kinds = [row.kind for row in ferry.rows(sa.select(t.messages.c.kind).order_by(t.messages.c.id))]
        assert kinds == ["problem", "recovered"]


def test_a_shorter_patience_makes_no_alarm_of_a_file_that_is_being_written(tmp_path):
    """A truncated file says nothing about its store: it is quarantined when its time is over, and that is all."""
    with freezegun.freeze_time("2026-03-01 12:00:00") as time, Ferry(tmp_path) as ferry:
        path = ferry.put(f"{HOUR}/a.ndjson.gz", events(2000), age=60)
        before = path.stat().st_mtime
        path.write_bytes(path.read_bytes()[:-30])
        os.utime(path, (before, before))
        ferry.open()
        assert ferry.index().indexed.postponed == 1
        time.tick(dt.timedelta(seconds=30))
        ferry.sources["events"]["unreadable_after"] = "1s"
        ferry.open()
        ferry.index()
        assert ferry.conditions() == {}
        time.tick(dt.timedelta(seconds=60))
        assert ferry.index().indexed.quarantined == 1
        assert kinds(ferry, "source.unreadable") == []


@pytest.mark.parametrize(("is_whole", "end"), [(True, "recovered"), (False, "over")])
def test_only_a_file_that_was_read_proves_that_files_can_be_read(tmp_path, monkeypatch, is_whole, end):
    """What is handed out in the end and quarantined then is no recovery."""

    def refuse(self, key, version):
        raise StoreError(f"{key}: permission denied")

    with freezegun.freeze_time("2026-03-01 12:00:00") as time, Ferry(tmp_path) as ferry:
        path = ferry.put(f"{HOUR}/a.ndjson.gz", events(2000))
        if not is_whole:
            before = path.stat().st_mtime
            path.write_bytes(path.read_bytes()[:-30])
            os.utime(path, (before, before))
        ferry.open()
        with monkeypatch.context() as patched:
            patched.setattr(DirectoryStore, "open", refuse)
            for _ in range(2):
                ferry.index()
                time.tick(dt.timedelta(minutes=61))
            ferry.index()
        assert kinds(ferry, "source.unreadable") == ["problem"]
        time.tick(dt.timedelta(minutes=2))
        ferry.index()
        assert kinds(ferry, "source.unreadable") == ["problem", end]


# -- later versions ---------------------------------------------------------------------------------------------------


def test_a_file_that_is_mended_under_its_key_ends_the_alert(tmp_path):
    """The later version was taken: nothing waits of the earlier one, and the books balance."""
    with Ferry(tmp_path) as ferry:
        ferry.put(f"{HOUR}/a.ndjson", events(20) + b"bad\n" * 30, age=7200)
        ferry.put(f"{HOUR}/b.ndjson", b"bad\n" * 30, age=7200)
        ferry.open()
        ferry.index()
        assert ferry.conditions()["file.quarantined:events"].fields["files"] == 2
        ferry.put(f"{HOUR}/a.ndjson", events(20))
        ferry.index()
        assert "b.ndjson" in ferry.conditions()["file.quarantined:events"].subject
        ferry.put(f"{HOUR}/b.ndjson", events(5, 20))
        ferry.index()
        assert ferry.conditions() == {}
        assert kinds(ferry) == ["problem", "recovered"]
        assert [(row.state, row.reason) for row in ferry.objects()[:2]] == [
            ("dropped", "a later version was taken")
        ] * 2
        ferry.deliver()
        assert numbers(ferry.script().lines()) == list(range(25))
        assert ferry.source_book().events == ferry.book().delivered == 25


def test_a_quarantined_growth_is_made_up_for_by_a_later_growth(tmp_path):
    """The later version has all that the earlier one could have had."""
    with Ferry(tmp_path) as ferry:
        ferry.put(f"{HOUR}/a.ndjson", events(30), age=9000)
        ferry.open()
        ferry.index()
        ferry.put(f"{HOUR}/a.ndjson", events(30) + b"bad\n" * 90, age=8000)
        ferry.index()
        assert "file.quarantined:events" in ferry.conditions()
        ferry.put(f"{HOUR}/a.ndjson", events(40), age=7000)
        ferry.index()
        assert [row.state for row in ferry.objects()] == ["indexed", "dropped", "indexed"]
        assert ferry.conditions() == {}
        assert ferry.source_book().events == 40


@pytest.mark.parametrize(
    ("later", "on_change", "state"),
    [
        (events(40), "deliver", "held"),  # grown from what was before the held one
        (events(30), "deliver", "held"),  # put back
        (events(40, 500), "hold", "held"),
        (events(40, 500), "deliver", "dropped"),  # rewritten once more, and taken whole
    ],
)
def test_a_held_version_is_over_only_when_a_later_one_was_taken_whole(tmp_path, later, on_change, state):
    """What grew from another base holds nothing of the held version: a person still decides."""
    with Ferry(tmp_path) as ferry:
        ferry.put(f"{HOUR}/a.ndjson", events(30), age=9000)
        ferry.open()
        ferry.index()
        ferry.put(f"{HOUR}/a.ndjson", events(35, 100), age=8000)
        ferry.index()
        assert "file.held:events" in ferry.conditions()
        ferry.sources["events"]["on_change"] = on_change
        ferry.open()
        ferry.put(f"{HOUR}/a.ndjson", later, age=7000)
        ferry.index()
        assert ferry.objects()[1].state == state
        assert ("file.held:events" in ferry.conditions()) == (state == "held")
        ferry.source_book()


# -- workers that die -------------------------------------------------------------------------------------------------


def die_over_poison(specs):
    """Stands in for scan_pack in a worker process: some file in the pack ends the process."""
    from eventferry.pipeline.scan import scan_pack

    if any("poison" in spec.key for spec in specs):
        os._exit(9)
    return scan_pack(specs)


class Deadly(Executor):
    """Real worker processes in which reading a file named poison ends the process."""

    def __init__(self, inner: Executor) -> None:
        self._inner = inner

    def submit(self, fn, /, *args, **kwargs):
        return self._inner.submit(die_over_poison, *args, **kwargs)

    def shutdown(self, wait=True, *, cancel_futures=False):
        self._inner.shutdown(wait, cancel_futures=cancel_futures)


@pytest.mark.parametrize("where", ["m-poison", "a-poison"])
def test_a_file_that_kills_its_worker_three_times_is_quarantined_and_spares_the_others(tmp_path, where):
    """The daemon survives, the culprit is found, the other files of its pack are delivered."""
    with Ferry(tmp_path) as ferry:
        for name in ("b", "c", where, "y", "z"):
            ferry.put(f"{HOUR}/{name}.ndjson", events(3))
        ferry.open()
        indexer = Indexer(ferry.ledger, lambda: Deadly(make_executor(1)), 1)
        ferry.indexer = indexer
        report = ferry.index()
        assert (report.indexed.files, report.indexed.quarantined) == (4, 1)
        states = ferry.states()
        assert states.pop(f"{HOUR}/{where}.ndjson") == "quarantined"
        assert set(states.values()) == {"indexed"}
        (row,) = ferry.objects(state="quarantined")
        assert "3 times" in (row.reason or "")
        assert "file.quarantined:events" in ferry.conditions()


def test_a_file_that_was_asked_for_again_and_is_gone_is_no_recovery(tmp_path):
    """Nobody reads it any more: the alert is over, and says why."""
    with Ferry(tmp_path) as ferry:
        path = ferry.put(f"{HOUR}/a.ndjson", events(10) + b"bad\n" * 40)
        ferry.open()
        ferry.index()
        (row,) = ferry.objects(state="quarantined")
        path.unlink()
        ferry.do("files.retry", ids=[row.id])
        ferry.index()
        assert ferry.states() == {f"{HOUR}/a.ndjson": "gone"}
        assert kinds(ferry) == ["problem", "over"]


def test_a_quarantined_file_of_a_source_that_was_switched_off_is_told_again(tmp_path):
    """Nobody looks after what is switched off; what lasts is told anew when it is at work again."""
    with Ferry(tmp_path) as ferry:
        ferry.put(f"{HOUR}/a.ndjson", b"bad\n" * 30)
        ferry.open()
        ferry.index()
        ferry.sources["events"]["enabled"] = False
        ferry.open()
        assert ferry.conditions() == {}
        ferry.sources["events"]["enabled"] = True
        ferry.open()
        ferry.index()
        condition = ferry.conditions()["file.quarantined:events"]
        assert (condition.level, condition.fields["files"]) == ("error", 1)
        assert kinds(ferry) == ["problem", "over", "problem"]
        ferry.index()
        assert kinds(ferry) == ["problem", "over", "problem"]
