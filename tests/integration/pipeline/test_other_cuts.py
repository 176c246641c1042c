"""A ledger that is lost and built anew: a sink that records the parts of its batches gets each event once."""

import json
import shutil

import duckdb
import pytest
from tests.builders import HOUR, Ferry, events, wait_until

from eventferry import clock

DAY = {"from": "2026-01-02", "to": "2026-01-02"}


@pytest.fixture
def ferry(tmp_path):
    with Ferry(tmp_path) as ferry:
        ferry.sinks["out"] = {
            "type": "duckdb",
            "path": str(tmp_path / "bi.duckdb"),
            "timeout": "20s",
            "retry": {"first": "1ms", "max": "10ms"},
            "batch": {"max_wait": "0s", "max_events": 7},
        }
        for number in range(4):
            lines = events(25, 100 * number).replace(b"\n", b"\r\n" if number == 1 else b"\n")
            holes = b"no event\n\n" + lines if number == 2 else lines
            ferry.put(f"{HOUR}/{number}.ndjson", holes)
        yield ferry


ALL = sorted(100 * file + number for file in range(4) for number in range(25))


def arrived(ferry):
    with duckdb.connect(ferry.sinks["out"]["path"], read_only=True) as file:
        return sorted(json.loads(event)["n"] for (event,) in file.execute("SELECT event FROM events").fetchall())


def deliver(ferry):
    ferry.open()
    ferry.index()
    ferry.deliver()


@pytest.mark.parametrize("limits", [{"max_events": 7}, {"max_events": 10}, {"max_events": 3}, {"max_bytes": "1KiB"}])
def test_a_deleted_ledger_duplicates_and_loses_nothing(ferry, limits, tmp_path):
    """Everything again from nothing but the store, in batches that are cut elsewhere: nothing new, nothing missing."""
    deliver(ferry)
    assert arrived(ferry) == ALL
    ferry.close()
    shutil.rmtree(tmp_path / "state")
    ferry.set_batch(max_events=1000)
    ferry.set_batch(**limits)
    ferry.put(f"{HOUR}/9.ndjson", events(25, 900))
    deliver(ferry)
    assert arrived(ferry) == [*ALL, *range(900, 925)]
    assert ferry.book().delivered == 125


def test_a_ledger_from_a_backup_duplicates_and_loses_nothing(ferry, tmp_path):
    """A backup knows only half of what was delivered; what came later is cut otherwise, and arrives once."""
    deliver(ferry)
    ferry.close()
    shutil.copytree(tmp_path / "state", tmp_path / "backup")
    for number in (5, 6):
        ferry.put(f"{HOUR}/{number}.ndjson", events(25, 100 * number))
        deliver(ferry)
    ferry.close()
    shutil.rmtree(tmp_path / "state")
    shutil.copytree(tmp_path / "backup", tmp_path / "state")
    ferry.set_batch(max_events=9)
    deliver(ferry)
    assert arrived(ferry) == [*ALL, *range(500, 525), *range(600, 625)]


def test_a_lost_ledger_after_a_replay_duplicates_nothing_more(ferry, tmp_path):
    """What was duplicated on purpose stays so; what came after it, in a later epoch of the old ledger, arrives once."""
    deliver(ferry)
    ferry.do("replay", sink="out", mode="again", **DAY)
    ferry.deliver()
    ferry.do("replay", sink="out", mode="missing", **DAY)
    ferry.deliver()
    assert arrived(ferry) == sorted(2 * ALL)
    ferry.put(f"{HOUR}/9.ndjson", events(25, 900))
    deliver(ferry)
    ferry.close()
    shutil.rmtree(tmp_path / "state")
    ferry.set_batch(max_events=11)
    deliver(ferry)
    assert arrived(ferry) == [*sorted(2 * ALL), *range(900, 925)]


def test_a_replay_on_a_new_ledger_duplicates_on_purpose_once_more(ferry, tmp_path):
    """A ledger that counts its replays anew does not take its first one for that of the lost ledger."""
    deliver(ferry)
    ferry.do("replay", sink="out", mode="again", **DAY)
    second = clock.now_ms() // 1000
    ferry.deliver()
    ferry.close()
    shutil.rmtree(tmp_path / "state")
    deliver(ferry)
    assert arrived(ferry) == sorted(2 * ALL)
    wait_until(lambda: clock.now_ms() // 1000 > second)  # two replays in one second would share an epoch
    ferry.do("replay", sink="out", mode="again", **DAY)
    ferry.deliver()
    assert arrived(ferry) == sorted(3 * ALL)


def test_a_repair_brings_back_only_what_the_table_lacks(ferry):
    """Rows that were lost together with what is written down of them come back, the others stay single."""
    deliver(ferry)
    with duckdb.connect(ferry.sinks["out"]["path"]) as file:
        (lost,) = file.execute("SELECT batch_id FROM events LIMIT 1").fetchone()
        for table in ("events", "eventferry_batches", "eventferry_parts"):
            file.execute(f"DELETE FROM {table} WHERE batch_id = ?", [lost])
    assert len(arrived(ferry)) == 93
    ferry.do("replay", sink="out", mode="missing", **DAY)
    ferry.deliver()
    assert arrived(ferry) == ALL


def test_what_a_narrower_filter_left_out_is_sent_by_a_new_ledger(ferry, tmp_path):
    """What was recorded under another filter proves nothing of the rest: rather twice than never."""
    ferry.sinks["out"]["filter"] = [{"field": "n", "lt": 200}]
    deliver(ferry)
    assert set(arrived(ferry)) < set(ALL)
    ferry.close()
    shutil.rmtree(tmp_path / "state")
    del ferry.sinks["out"]["filter"]
    deliver(ferry)
    assert set(arrived(ferry)) == set(ALL)
