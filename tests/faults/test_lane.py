"""The kill lane itself: bugs of order that were put in on purpose must be found, or its silence means nothing."""

import time
from pathlib import Path

import pytest
from tests.contract.receiver import receiving
from tests.faults.journal import Journal
from tests.faults.lane import KINDS, STANDBY, Lane, plan_kinds, sinks_of
from tests.faults.stage import COMMAND, Stage, seed

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600)]

ALTERED = Path(__file__).with_name("altered.py")
ROUND, MOST = 10, 100


@pytest.mark.parametrize("bug", ["ack_first", "random_id", "cursor_first"])
def test_a_seeded_bug_of_order_is_found(bug, tmp_path, capsys):
    """Within 100 kills the independent count shows what each wrong order of writing does."""
    number, began = seed(), time.monotonic()
    kinds = plan_kinds(Stage(tmp_path, number).random, sum(KINDS.values()))
    for first in range(0, MOST, ROUND):
        found = kill_and_count(tmp_path / str(first), bug, number + first, kinds[first : first + ROUND])
        if wrong := {sink: what for sink, what in found.items() if sink != "source" and is_wrong(what)}:
            with capsys.disabled():
                seconds = time.monotonic() - began
                print(f"\nfaults: {bug} found within {first + ROUND} kills, seed {number}, {seconds:.0f} s: {wrong}")
            return
    pytest.fail(f"{bug} was not found by {MOST} kills, seed {number}")


def test_the_lane_finds_nothing_where_nothing_is_wrong(tmp_path):
    """The same kills of the daemon as it is leave nothing to find: the lane raises no false alarm."""
    kinds = plan_kinds(Stage(tmp_path, seed()).random, sum(KINDS.values()))[:ROUND]
    found = kill_and_count(tmp_path / "control", "nothing", seed(), kinds)
    assert not any(is_wrong(found[sink]) for sink in ("file", "duckdb", "http")), found


def kill_and_count(folder, bug, number, kinds):
    folder.mkdir()
    stage, journal = Stage(folder, number), Journal(folder / "received")
    try:
        with receiving(journal.take) as receiver:
            stage.configure(sinks_of(stage, receiver.url), ledger=STANDBY)
            lane = Lane(stage, journal, [COMMAND[0], str(ALTERED), bug])
            lane.run(kinds)
            lane.settle()
        return stage.count()
    finally:
        stage.close()


def is_wrong(what):
    return any(what[key] for key in ("missing", "duplicates", "foreign", "disorder")) or what.get("other_content")
