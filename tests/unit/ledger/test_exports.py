"""Exports in the ledger: whose turn it is, progress that only grows, ends that are for good, what is forgotten."""

from collections.abc import Iterator

import freezegun
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.desks import ANA, ask, begin, desk_at, finish, key, look

from eventferry.exports import requests
from eventferry.exports.desk import Desk
from eventferry.ledger import export_counts, export_notices, exports
from eventferry.ledger.exports import FileRow
from eventferry.ledger.prune import prune

NOON = "2026-03-01 12:00:00"


@pytest.fixture
def desk(tmp_path) -> Iterator[Desk]:
    with desk_at(tmp_path) as desk:
        yield desk


@pytest.fixture(scope="module")
def shared_desk(tmp_path_factory) -> Iterator[Desk]:
    with desk_at(tmp_path_factory.mktemp("shared")) as desk:
        yield desk


def next_one(desk: Desk, running_per_key: int = 2) -> str | None:
    """Begin the next export; its name."""
    with desk.ledger.write() as tx:
        row = exports.next_queued(tx, running_per_key)
        if row is not None:
            exports.start(tx, row.id)
    return None if row is None else row.name


def test_turns_are_fair_among_keys_and_oldest_first_within_one(desk):
    """Who has asked for a hundred does not keep others waiting; a key never has more at work than it may."""
    for number in range(4):
        ask(desk, name=f"ana{number}")
    for name in ("bob", "eve"):
        ask(desk, key(name), name=name)
    assert [next_one(desk) for _ in range(5)] == ["ana0", "bob", "eve", "ana1", None]


def test_a_key_with_many_waiting_does_not_keep_others_from_the_only_worker(desk):
    """Nobody is at work when a turn comes, and still the keys take turns."""
    for number in range(3):
        ask(desk, name=f"ana{number}")
    for name in ("bob", "eve"):
        ask(desk, key(name), name=name)
    turns: list[str | None] = []
    begun = []
    for _ in range(5):
        with desk.ledger.write() as tx:
            row = exports.next_queued(tx, 2, turns)
            assert row is not None
            exports.start(tx, row.id)
            exports.cancel(tx, row.id)
        turns = [*(each for each in turns if each != row.key_id), row.key_id]
        begun.append(row.name)
    assert begun == ["ana0", "bob", "eve", "ana1", "ana2"]


def test_what_was_put_off_by_a_wrong_clock_is_due(desk):
    """A clock that was years ahead does not put an export or its letter off for years."""
    with freezegun.freeze_time(NOON):
        row = begin(desk, ask(desk, name="late"))
        with desk.ledger.write() as tx:
            exports.put_back(tx, row.id, next_ms=row.created_ms + 366 * 86_400_000)
            export_notices.insert(tx, row.id, [("email", "ana@example.org")])
            [notice] = export_notices.due(tx, row.created_ms, 1)
            export_notices.note_failed(tx, notice.id, "no", row.created_ms + 366 * 86_400_000)
            assert export_notices.due(tx, row.created_ms, 1)
        assert next_one(desk) == "late"


def test_exports_of_thousands_of_owners_are_listed(desk):
    """Each collection that somebody asks for is an owner of its own."""
    ask(desk, name="mine")
    with desk.ledger.read() as tx:
        whose = {(f"nobody {number}", None) for number in range(3000)} | exports.owners(tx)
        assert [each.name for each in exports.page(tx, whose, limit=5)] == ["mine"]


def test_a_tag_is_found_as_it_is_written_and_whole(desk):
    """Neither in another case nor as a part of another one."""
    for tags in (("Prod",), ("prod",), ("a", "prod"), ("prod%",), ('x"prod',), ("pro", "d")):
        ask(desk, name="/".join(tags), tags=tags)
    with desk.ledger.read() as tx:
        assert [each.name for each in exports.page(tx, None, limit=9, tag="prod")] == ["a/prod", "prod"]
        assert [each.name for each in exports.page(tx, None, limit=9, tag='x"prod')] == ['x"prod']


def test_exports_of_schedules_are_those_of_one_key(desk):
    """They share its limit."""
    for number in range(3):
        ask(desk, None, name=f"nightly{number}", dialect="schedule")
    assert [next_one(desk) for _ in range(3)] == ["nightly0", "nightly1", None]


def test_what_was_put_off_waits_for_its_time(desk):
    """Nothing else does."""
    with freezegun.freeze_time(NOON) as time:
        first, second = ask(desk, name="first"), ask(desk, name="second")
        begin(desk, first)
        with desk.ledger.write() as tx:
            exports.put_back(tx, first.id, next_ms=first.created_ms + 5000)
        assert next_one(desk) == second.name
        assert next_one(desk) is None
        time.tick(5)
        assert next_one(desk) == "first"
        assert look(desk, first).attempts == 2
        assert look(desk, first).started_ms == first.created_ms


said = st.tuples(st.integers(0, 10**6), st.integers(0, 10**9), st.integers(0, 100))


@settings(deadline=None)
@given(told=st.lists(said, max_size=12))
def test_progress_only_grows_and_is_a_hundred_only_at_the_end(shared_desk, told):
    """Whatever workers say, in whatever order, also after an attempt that began anew."""
    row = begin(shared_desk, ask(shared_desk, None))
    before = (0, 0, 0)
    for events, size, percent in told:
        with shared_desk.ledger.write() as tx:
            exports.note_progress(tx, row.id, events=events, bytes_=size, percent=percent)
        now = look(shared_desk, row)
        shown = (now.events, now.bytes, now.percent)
        assert all(new >= old for new, old in zip(shown, before, strict=True))
        assert now.percent <= 99
        before = shown
    assert finish(shared_desk, row).percent == 100


def test_an_end_is_for_good(desk):
    """A worker's late word changes nothing about an export that was cancelled."""
    row = begin(desk, ask(desk))
    with desk.ledger.write() as tx:
        exports.cancel(tx, row.id)
        exports.complete(tx, row.id, [FileRow("a", 1, 1, 1, "x")], keep_ms=1)
        exports.fail(tx, row.id, "no")
        exports.note_progress(tx, row.id, events=5, bytes_=5, percent=5)
    now = look(desk, row)
    assert (now.state, now.percent, now.events, now.reason) == ("cancelled", 0, 0, None)
    with desk.ledger.read() as tx:
        assert exports.files(tx, row.id) == []


def test_the_figures_count_what_waits_runs_failed_and_is_held(desk):
    """Of deleted exports nothing is held."""
    with freezegun.freeze_time(NOON):
        ask(desk)
        begin(desk, ask(desk))
        failed = begin(desk, ask(desk))
        with desk.ledger.write() as tx:
            exports.fail(tx, failed.id, "no")
        finish(desk, ask(desk), a=b"12345")
        requests.delete(desk, ANA, finish(desk, ask(desk), a=b"123").id)
        with desk.ledger.read() as tx:
            assert export_counts.counts(tx, failed.created_ms) == export_counts.Counts(
                queued=1, running=1, failed=1, bytes=5
            )
            assert export_counts.counts(tx, failed.created_ms + 1).failed == 0


def test_pruning_forgets_ended_exports_with_their_files_and_notices(desk):
    """Not those that wait, run or have files; and not before the retention is over."""
    with freezegun.freeze_time(NOON) as time:
        old = [finish(desk, ask(desk)), finish(desk, ask(desk)), begin(desk, ask(desk)), begin(desk, ask(desk))]
        kept = [ask(desk), begin(desk, ask(desk)), finish(desk, ask(desk))]
        with desk.ledger.write() as tx:
            exports.expire(tx, old[0].id)
            exports.fail(tx, old[2].id, "no")
            exports.cancel(tx, old[3].id)
            export_notices.insert(tx, old[2].id, [("email", "a@example.com")])
        requests.delete(desk, ANA, old[1].id)
        assert prune(desk.ledger, kept[0].created_ms)["exports"] == 0
        time.tick(1)
        young = ask(desk)
        requests.cancel(desk, ANA, young.id)
        assert prune(desk.ledger, young.created_ms)["exports"] == 4
    with desk.ledger.read() as tx:
        assert all(exports.get(tx, each.id) is None for each in old)
        assert all(exports.get(tx, each.id) is not None for each in [*kept, young])
        assert export_notices.of_export(tx, old[2].id) == []
