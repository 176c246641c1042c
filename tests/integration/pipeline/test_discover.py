"""What a run takes: every version once, settled, wanted, not before the start, oldest first, at most so many."""

import datetime as dt
import os

import freezegun
import pytest
import sqlalchemy as sa
from tests.builders import HOUR, Ferry, event, events, numbers, put

from eventferry import clock
from eventferry.ledger import tables as t
from eventferry.pipeline.discover import PAGE
from eventferry.pipeline.run import run_once


def keys(ferry: Ferry, *, full: bool = False, source: str = "events") -> list[str]:
    """The keys that one more run takes."""
    return [found.key for found in ferry.index(source, full=full).discovery.found]


def test_a_file_is_taken_once(tmp_path):
    """Membership is by key and version, not by time: what was taken is not taken again, whatever is listed."""
    with Ferry(tmp_path) as ferry:
        ferry.put(f"{HOUR}/a.ndjson", event(1))
        assert keys(ferry) == [f"{HOUR}/a.ndjson"]
        assert keys(ferry) == keys(ferry, full=True) == []


def test_files_are_taken_oldest_keys_first_and_at_most_max_files(tmp_path):
    """A limited run leaves the rest to the next ones, and none is skipped."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"]["max_files"] = 3
        names = [f"2026/01/{day:02}/{hour:02}/x.ndjson" for day in (1, 2) for hour in range(4)]
        for name in reversed(names):
            ferry.put(name, event(1))
        ferry.open()
        reports = [ferry.index() for _ in range(4)]
        assert [len(report.discovery.found) for report in reports] == [3, 3, 2, 0]
        assert [report.limited for report in reports] == [True, True, False, False]
        assert [found.key for report in reports for found in report.discovery.found] == names


def test_exactly_max_files_is_no_limited_run(tmp_path):
    """Where nothing more waits, nobody is told that something does."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"]["max_files"] = 2
        for name in "ab":
            ferry.put(f"{HOUR}/{name}.ndjson", event(1))
        ferry.open()
        assert ferry.index().limited is False


def test_a_growing_backlog_warns_once_and_the_warning_ends(tmp_path):
    """The third limited run in a row names both keys to turn; catching up ends it."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"]["max_files"] = 1
        for name in "abcd":
            ferry.put(f"{HOUR}/{name}.ndjson", event(1))
        ferry.open()
        for expected in (False, False, True):
            ferry.index()
            assert ("source.behind:events" in ferry.conditions()) is expected
        detail = ferry.conditions()["source.behind:events"].detail
        assert "max_files" in detail
        assert "catch_up" in detail
        ferry.index()
        assert ferry.conditions() == {}


def test_late_files_within_the_look_back_are_found_by_the_next_run(tmp_path):
    """A file that appears in an earlier hour is taken as long as the look-back reaches it."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"]["look_back"] = "3h"
        ferry.put("2026/01/02/10/a.ndjson", event(1))
        ferry.open()
        ferry.index(full=True)
        ferry.put("2026/01/02/07/late.ndjson", event(2))
        assert keys(ferry) == ["2026/01/02/07/late.ndjson"]


def test_later_files_are_found_by_the_full_list(tmp_path):
    """What came later than the look-back is found once a day, not lost."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"]["look_back"] = "3h"
        ferry.put("2026/01/02/10/a.ndjson", event(1))
        ferry.open()
        ferry.index(full=True)
        ferry.put("2026/01/02/06/late.ndjson", event(2))
        assert keys(ferry) == []
        assert keys(ferry, full=True) == ["2026/01/02/06/late.ndjson"]


def test_a_limited_run_does_not_move_the_listing_past_what_it_left(tmp_path):
    """However small the look-back, what a limited run left is taken by the next."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"] |= {"max_files": 2, "look_back": "0s"}
        names = [f"2026/01/02/{hour:02}/{name}.ndjson" for hour in range(5) for name in "ab"]
        for name in names:
            ferry.put(name, event(1))
        ferry.open()
        assert [key for _ in range(5) for key in keys(ferry)] == names


def test_foreign_keys_neither_stall_nor_enter(tmp_path):
    """Error folders, markers and stray files are counted and left alone; dated files beside them are taken."""
    with Ferry(tmp_path) as ferry:
        for foreign in ("_SUCCESS", "errors/2026-01-02.log", "zzz/last.ndjson", "2026/readme.txt"):
            ferry.put(foreign, b"not an event\n")
        ferry.put(f"{HOUR}/_SUCCESS", b"")
        ferry.put(f"{HOUR}/a.ndjson", event(1))
        ferry.open()
        report = ferry.index(full=True)
        assert [found.key for found in report.discovery.found] == [f"{HOUR}/a.ndjson"]
        assert report.discovery.foreign == 4
        ferry.put("2026/01/02/04/b.ndjson", event(2))
        assert keys(ferry) == ["2026/01/02/04/b.ndjson"]


def test_a_file_is_taken_when_it_is_settled(tmp_path):
    """Younger than `settle` waits; the same file older is taken; one written to meanwhile waits anew."""
    with freezegun.freeze_time("2026-03-01 12:00:00") as time, Ferry(tmp_path) as ferry:
        ferry.sources["events"]["settle"] = "60s"
        ferry.put(f"{HOUR}/a.ndjson", event(1), age=10)
        path = ferry.put(f"{HOUR}/b.ndjson", event(2), age=10)
        ferry.open()
        assert ferry.index().discovery.too_young == 2
        time.tick(dt.timedelta(seconds=49))
        assert keys(ferry) == []
        with path.open("ab") as file:
            file.write(event(3))
        os.utime(path, (clock.now_ms() / 1000,) * 2)
        time.tick(dt.timedelta(seconds=2))
        assert keys(ferry) == [f"{HOUR}/a.ndjson"]
        time.tick(dt.timedelta(seconds=60))
        assert keys(ferry) == [f"{HOUR}/b.ndjson"]


def test_a_store_whose_clock_is_ahead_is_settled_by_two_equal_looks(tmp_path):
    """A file dated in the future is taken once it was seen equal for as long as `settle`."""
    with freezegun.freeze_time("2026-03-01 12:00:00") as time, Ferry(tmp_path) as ferry:
        ferry.sources["events"]["settle"] = "60s"
        ferry.put(f"{HOUR}/a.ndjson", event(1), age=-86_400)
        ferry.open()
        assert keys(ferry) == []
        time.tick(dt.timedelta(seconds=61))
        assert keys(ferry) == [f"{HOUR}/a.ndjson"]


def test_with_a_marker_only_marked_folders_are_taken(tmp_path):
    """The producer says when a folder is complete; then its files need not settle."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"]["marker"] = "_DONE"
        ferry.put("2026/01/02/03/a.ndjson", event(1), age=0)
        ferry.put("2026/01/02/04/b.ndjson", event(2), age=0)
        ferry.put("2026/01/02/04/_DONE", b"", age=0)
        ferry.open()
        assert keys(ferry) == ["2026/01/02/04/b.ndjson"]
        ferry.put("2026/01/02/03/_DONE", b"", age=0)
        assert keys(ferry) == ["2026/01/02/03/a.ndjson"]


def test_a_marker_counts_for_its_whole_folder_whatever_lies_between(tmp_path):
    """A folder below the marked one, in the middle of its files by name, hides none of them."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"]["marker"] = "_DONE"
        for key in ("a.ndjson", "_DONE", "m/x.ndjson", "z.ndjson"):
            ferry.put(f"{HOUR}/{key}", event(1), age=0)
        ferry.open()
        assert keys(ferry) == [f"{HOUR}/a.ndjson", f"{HOUR}/z.ndjson"]


@pytest.mark.parametrize(
    "start, taken", [("earliest", ["old", "today"]), ("2026-03-01", ["today"]), ("latest", [])], ids=str
)
def test_where_a_new_source_begins(tmp_path, start, taken):
    """Earliest, a date (by the date in the key), or only what appears from now on."""
    with freezegun.freeze_time("2026-03-01 12:00:00") as time, Ferry(tmp_path) as ferry:
        ferry.sources["events"]["start"] = start
        ferry.put("2026/02/27/00/old.ndjson", event(1), age=7200)
        ferry.put("2026/03/01/00/today.ndjson", event(2), age=7200)
        ferry.open()
        found = keys(ferry)
        assert sorted(key.rpartition("/")[2].partition(".")[0] for key in found) == taken
        time.tick(dt.timedelta(minutes=5))
        ferry.put("2026/02/27/00/backfill.ndjson", event(3), age=60)
        ferry.put("2026/03/01/12/new.ndjson", event(4), age=60)
        late = keys(ferry, full=True)
        expected = ["2026/02/27/00/backfill.ndjson"] if start != "2026-03-01" else []
        assert late == [*expected, "2026/03/01/12/new.ndjson"]


def test_the_start_of_a_known_source_is_never_reconsidered(tmp_path):
    """Editing `start` later neither takes older files nor forgets taken ones."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"]["start"] = "2026-02-01"
        ferry.put(f"{HOUR}/a.ndjson", event(1))
        ferry.open()
        assert keys(ferry) == []
        ferry.sources["events"]["start"] = "earliest"
        ferry.open()
        assert keys(ferry, full=True) == []


def test_include_and_exclude_choose_keys(tmp_path):
    """Globs choose; what they leave out is not recorded, so that widening them later takes it."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"] |= {"include": ["**/*.gz"], "exclude": ["**/test-*"]}
        for name in ("a.ndjson.gz", "test-b.ndjson.gz", "c.ndjson"):
            ferry.put(f"{HOUR}/{name}", event(1))
        ferry.open()
        assert keys(ferry) == [f"{HOUR}/a.ndjson.gz"]
        ferry.sources["events"] |= {"include": ["**"], "exclude": []}
        ferry.open()
        assert keys(ferry) == [f"{HOUR}/c.ndjson", f"{HOUR}/test-b.ndjson.gz"]


def test_two_tenants_have_a_listing_cursor_each(tmp_path):
    """One tenant far ahead does not push another one's older hours out of sight."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"] |= {
            "key_pattern": r"^(?P<tenant>[a-z]+)/(?P<date>\d{4}/\d{2}/\d{2}/\d{2})/",
            "look_back": "1h",
        }
        ferry.put("acme/2026/01/02/10/a.ndjson", event(1))
        ferry.put("zeta/2026/01/01/01/a.ndjson", event(2))
        ferry.open()
        assert len(keys(ferry)) == 2
        ferry.put("acme/2026/01/02/11/b.ndjson", event(3))
        ferry.put("zeta/2026/01/01/02/b.ndjson", event(4))
        ferry.put("new/2025/12/01/00/a.ndjson", event(5))
        found = ["acme/2026/01/02/11/b.ndjson", "new/2025/12/01/00/a.ndjson", "zeta/2026/01/01/02/b.ndjson"]
        assert keys(ferry) == found


def test_keys_without_dates_are_listed_whole(tmp_path):
    """Without a pattern every poll sees every key, late ones too."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"]["key_pattern"] = ""
        ferry.put("m.ndjson", event(1))
        ferry.open()
        assert keys(ferry) == ["m.ndjson"]
        ferry.put("a.ndjson", event(2))
        ferry.put("z/deep/b.ndjson", event(3))
        assert keys(ferry) == ["a.ndjson", "z/deep/b.ndjson"]


def test_a_poll_lists_only_what_lies_after_the_look_back(tmp_path):
    """Old hours cost a poll nothing: their folders are not even scanned."""
    with Ferry(tmp_path) as ferry:
        for day in range(1, 28):
            ferry.put(f"2026/01/{day:02}/00/a.ndjson", event(day))
        ferry.open()
        assert ferry.index(full=True).discovery.listed == 27
        assert ferry.index().discovery.listed == 3


def test_a_store_that_cannot_be_listed_is_said_so_and_forgiven(tmp_path):
    """An unreachable store is an alert and a recorded run, not a crash; its return ends the alert."""
    with Ferry(tmp_path) as ferry:
        ferry.open()
        (tmp_path / "events").rename(tmp_path / "away")
        report = ferry.index()
        assert "no such directory" in (report.error or "")
        assert "source.unreachable:events" in ferry.conditions()
        (tmp_path / "away").rename(tmp_path / "events")
        ferry.index()
        assert ferry.conditions() == {}


def test_files_taken_before_a_failing_listing_are_still_indexed(tmp_path):
    """A run whose listing fails finishes what earlier runs left to index."""
    with Ferry(tmp_path) as ferry:
        ferry.put(f"{HOUR}/a.ndjson", events(3))
        ferry.open()
        source = ferry.at_work["events"]
        from eventferry.pipeline.discover import discover

        store = source.open()
        assert len(discover(ferry.ledger, source, store, limit=10, full=False).found) == 1
        store.close()
        ferry.put("2026/01/02/04/b.ndjson", events(3))
        assert ferry.index().indexed.files == 2


def test_a_key_in_two_sources_is_two_files(tmp_path):
    """Identity is source, key and version: equal names in two stores do not hide each other."""
    with Ferry(tmp_path, sources=("one", "two")) as ferry:
        put(tmp_path / "one", f"{HOUR}/a.ndjson", event(1))
        put(tmp_path / "two", f"{HOUR}/a.ndjson", event(2))
        ferry.open()
        assert keys(ferry, source="one") == keys(ferry, source="two") == [f"{HOUR}/a.ndjson"]
        ferry.deliver()
        assert sorted(numbers(ferry.script().lines())) == [1, 2]


def test_without_settle_a_file_dated_in_the_future_is_taken_at_once(tmp_path):
    """Who says that files need not settle is not made to wait for a clock that is ahead."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"]["settle"] = "0s"
        ferry.put(f"{HOUR}/a.ndjson", event(1), age=-86_400)
        ferry.open()
        assert keys(ferry) == [f"{HOUR}/a.ndjson"]


def test_files_that_come_later_than_the_ledger_remembers_are_told(tmp_path):
    """Left out, but not in silence: a warning counts them until a full listing meets none."""
    with freezegun.freeze_time("2026-01-05 12:00:00") as time, Ferry(tmp_path) as ferry:
        ferry.put("2026/01/02/03/old.ndjson", event(1), age=86_400)
        ferry.put("2026/01/03/03/young.ndjson", event(2), age=3600)
        ferry.open()
        assert len(keys(ferry, full=True)) == 2
        floor_ms = clock.to_ms(dt.datetime(2026, 1, 4, 13, tzinfo=dt.UTC))
        with ferry.ledger.write() as tx:
            tx.execute(sa.update(t.sources).values(floor_ms=floor_ms))
        ferry.index(full=True)
        assert ferry.conditions() == {}
        time.tick(dt.timedelta(hours=2))
        late = ferry.put("2026/01/02/03/late.ndjson", event(3), age=60)
        assert keys(ferry, full=True) == []
        condition = ferry.conditions()["files.late:events"]
        assert (condition.level, condition.fields["files"]) == ("warning", 1)
        late.unlink()
        ferry.index(full=True)
        assert ferry.conditions() == {}


def test_what_start_excludes_is_no_late_file(tmp_path):
    """A date before `start` was never wanted, whenever the file is written."""
    with freezegun.freeze_time("2026-03-05 12:00:00") as time, Ferry(tmp_path) as ferry:
        ferry.sources["events"]["start"] = "2026-03-01"
        ferry.open()
        time.tick(dt.timedelta(hours=1))
        ferry.put("2026/02/27/00/backfill.ndjson", event(1), age=60)
        assert ferry.index(full=True).discovery.before_start == 1
        assert ferry.conditions() == {}


def test_a_listing_tells_that_it_moves_also_where_there_is_nothing_to_take(tmp_path):
    """Whoever watches for hung runs hears of every page of a long listing."""
    with Ferry(tmp_path) as ferry:
        for number in range(2 * PAGE + 1):
            ferry.put(f"errors/{number:04}.log", b"")
        ferry.open()
        moves: list[None] = []
        run_once(ferry.ledger, ferry.at_work["events"], ferry.indexer, full=True, listing=lambda: moves.append(None))
        assert len(moves) == 3
