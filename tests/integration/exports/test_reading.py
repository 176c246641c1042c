"""What is selected of real stores: the same events, in the order of the log, as a slow and independent reader finds."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.builders import Ferry, event, events, numbers

from eventferry import clock
from eventferry.exports.distinct import distinct
from eventferry.exports.latest import latest
from eventferry.exports.model import Selection
from eventferry.exports.plan import plan, readables
from eventferry.exports.planned import Planned, read_plan, totals_of, write_plan
from eventferry.exports.reading import Missing, read
from eventferry.exports.scan_cache import ScanCache, prune_scans
from eventferry.exports.surveying import count, survey
from eventferry.ledger import log
from eventferry.query.expression import Compare, Op
from eventferry.query.scope import Scope

START = 1_767_323_000_000
EVERYTHING = Selection()


@pytest.fixture
def ferry(tmp_path) -> Iterator[Ferry]:
    with Ferry(tmp_path, sinks=()) as ferry:
        yield ferry


def head(ferry: Ferry) -> int:
    with ferry.ledger.read() as tx:
        return log.head(tx)


def planned(
    ferry: Ferry,
    selection: Selection = EVERYTHING,
    as_of: int | None = None,
    page: int = 2,
    as_of_ms: int = 1 << 62,  # after everything that the ledger knows
) -> list[Planned]:
    sources = readables(ferry.ledger, ferry.config.sources)
    return list(plan(ferry.ledger, sources, selection, head(ferry) if as_of is None else as_of, as_of_ms, page))


def selected(ferry: Ferry, selection: Selection = EVERYTHING, as_of: int | None = None) -> list[bytes]:
    sources = readables(ferry.ledger, ferry.config.sources)
    found = read(planned(ferry, selection, as_of), sources, selection)
    bodies = [(each.body, each.events) for each in found]
    assert all(body.count(b"\n") == number for body, number in bodies)
    return b"".join(body for body, _ in bodies).splitlines(keepends=True)


def test_the_log_is_read_back_in_its_order_up_to_as_of(ferry):
    ferry.put("2026/01/02/03/a.gz", events(50))
    ferry.open().index()
    as_of = head(ferry)
    ferry.put("2026/01/02/03/b.gz", events(50, start=50))
    ferry.index()
    assert numbers(selected(ferry)) == list(range(100))
    assert numbers(selected(ferry, as_of=as_of)) == list(range(50))


def test_sources_are_read_in_the_order_of_the_log_and_only_those_that_are_asked_for(tmp_path):
    with Ferry(tmp_path, sinks=(), sources=("one", "two", "three")) as ferry:
        ferry.open()
        for number in range(6):
            source = ("one", "two", "three")[number % 3]
            ferry.put(f"2026/01/02/03/{number}.gz", event(number), source)
            ferry.index(source)
        assert numbers(selected(ferry)) == list(range(6))
        assert numbers(selected(ferry, Selection(Scope(collections=("one", "three"))))) == [0, 2, 3, 5]
        known = readables(ferry.ledger, [each for each in ferry.config.sources if each.name != "two"])
        found = read(plan(ferry.ledger, known, Selection(), 4, 1 << 62, 1), known, Selection())
        assert numbers(each.body for each in found) == [0, 2, 3]


def test_only_segments_that_may_hold_the_range_are_planned(ferry):
    for number in range(6):
        ferry.put(f"2026/01/02/03/{number}.gz", events(10, start=number * 10))
    ferry.put("2026/01/02/03/z.gz", b'{"n":1000}\n{"n":1001}\n')
    ferry.open().index()
    selection = Selection(start_ms=START + 15, end_ms=START + 40)
    assert [(each.key[-4:], each.is_whole) for each in planned(ferry, selection)] == [
        ("1.gz", False), ("2.gz", True), ("3.gz", True),
    ]  # fmt: skip
    assert numbers(selected(ferry, selection)) == list(range(15, 40))
    assert numbers(selected(ferry))[-2:] == [1000, 1001]


def test_an_event_without_a_time_is_in_no_range(ferry):
    ferry.put("2026/01/02/03/a.gz", event(1) + b'{"n":2}\n' + event(3))
    ferry.open().index()
    selection = Selection(start_ms=0, end_ms=START * 2)
    assert [each.is_whole for each in planned(ferry, selection)] == [False]
    assert numbers(selected(ferry, selection)) == [1, 3]


PATTERN = r"^(?P<tenant>[a-z]*)/(?P<date>\d{4}/\d{2}/\d{2})/"


def test_owners_come_from_keys_then_fields_then_defaults(ferry):
    ferry.sources["events"] |= {"key_pattern": PATTERN, "project_field": "who.project"}
    ferry.put("acme/2026/01/02/a.gz", event(1, who={"project": 7}) + event(2) + event(3, who={"project": ["x"]}))
    ferry.put("globex/2026/01/02/b.gz", event(4, who={"project": "7"}) + event(5, who={"project": True}))
    ferry.open().index()
    assert {each.key[0] for each in planned(ferry, Selection(Scope(tenants=("acme",))))} == {"a"}
    assert all(each.is_whole for each in planned(ferry, Selection(Scope(tenants=("acme",)))))
    for scope, wanted in (
        (Scope(tenants=("acme",)), [1, 2, 3]),
        (Scope(projects=("7",)), [1, 4]),
        (Scope(projects=("default",)), [2, 3]),
        (Scope(tenants=("globex",), projects=("true",)), [5]),
        (Scope(collections=("events",), projects=("7", "default")), [1, 2, 3, 4]),
        (Scope(collections=("other",)), []),
        (Scope(tenants=()), []),
    ):
        assert numbers(selected(ferry, Selection(scope))) == wanted, scope


def test_tenant_and_project_may_be_one_field(ferry):
    """A source with one name for both is read like any other."""
    ferry.sources["events"] |= {"tenant_field": "org", "project_field": "org"}
    ferry.put("2026/01/02/03/a.gz", event(1, org="acme") + event(2, org="zeta") + event(3))
    ferry.open().index()
    assert numbers(selected(ferry, Selection(Scope(("acme",), ("acme",))))) == [1]
    assert numbers(selected(ferry, Selection(Scope(("acme",), ("zeta",))))) == []


def test_true_and_one_are_not_confused_between_two_selections(ferry):
    ferry.put("2026/01/02/03/a.gz", event(1, a=1) + event(2, a=True))
    ferry.open().index()
    assert numbers(selected(ferry, Selection(filter=Compare(("a",), Op.EQ, 1)))) == [1]
    assert numbers(selected(ferry, Selection(filter=Compare(("a",), Op.EQ, True)))) == [2]


def test_what_was_rewritten_is_read_once_as_it_is_now(ferry):
    ferry.sources["events"]["on_change"] = "deliver"
    ferry.put("2026/01/02/03/a.gz", events(10))
    ferry.put("2026/01/02/03/b.gz", events(10, start=10))
    ferry.open().index()
    before = head(ferry)
    ferry.put("2026/01/02/03/a.gz", events(5, start=100))
    ferry.index(full=True)
    assert numbers(selected(ferry)) == [*range(10, 20), *range(100, 105)]
    with pytest.raises(Missing, match=r"a\.gz of source events was rewritten .* 10 events"):
        selected(ferry, as_of=before)


def test_what_was_emptied_counts_as_gone_only_for_reads_that_were_asked_for_after_that(ferry):
    """An empty version has no position: an export from before it misses events, and says so."""
    ferry.sources["events"]["on_change"] = "deliver"
    ferry.put("2026/01/02/03/a.gz", events(10))
    ferry.put("2026/01/02/03/b.gz", events(10, start=10))
    ferry.open().index()
    before, before_ms = head(ferry), clock.now_ms()
    ferry.put("2026/01/02/03/a.gz", b"")
    ferry.index(full=True)
    assert head(ferry) == before
    assert numbers(selected(ferry)) == list(range(10, 20))
    [emptied, kept] = planned(ferry, as_of_ms=before_ms)
    assert (emptied.key[-4:], kept.key[-4:]) == ("a.gz", "b.gz")
    sources = readables(ferry.ledger, ferry.config.sources)
    with pytest.raises(Missing, match=r"a\.gz of source events was rewritten .* 10 events"):
        list(read([emptied, kept], sources, EVERYTHING))


def test_what_was_appended_to_is_read_from_the_newest_version(ferry):
    path = ferry.put("2026/01/02/03/a.json", events(10))
    ferry.open().index()
    path.write_bytes(events(20))
    os.utime(path, (path.stat().st_mtime - 1000,) * 2)
    ferry.index(full=True)
    found = planned(ferry)
    assert [each.newest for each in found] == [found[-1].version, None]
    assert numbers(selected(ferry)) == list(range(20))


def test_what_was_touched_is_read_once_the_ledger_knows_it(ferry):
    path = ferry.put("2026/01/02/03/a.gz", events(10))
    ferry.open().index()
    os.utime(path, (path.stat().st_mtime - 1000,) * 2)
    with pytest.raises(Missing) as caught:
        selected(ferry)
    assert not caught.value.is_final
    ferry.index(full=True)
    assert numbers(selected(ferry)) == list(range(10))


def test_a_vanished_file_is_named_with_the_events_that_are_missing(ferry):
    ferry.put("2026/01/02/03/a.json", b"".join(event(n, pad="x" * 1000) for n in range(9000)))
    ferry.put("2026/01/02/03/b.json", events(10))
    ferry.open().index()
    assert len(planned(ferry)) == 4
    (ferry.home / "events/2026/01/02/03/a.json").unlink()
    with pytest.raises(Missing, match=r"03/a\.json of source events vanished .* 9,000 events") as caught:
        selected(ferry)
    assert caught.value.is_final


def test_the_plan_is_kept_in_a_file_as_it_is(ferry, tmp_path):
    ferry.put("2026/01/02/03/a.gz", event(1) + b"bad\n\n" + event(2) + b'{"n":3}')
    ferry.open().index()
    found = planned(ferry)
    totals = write_plan(tmp_path / "plan", found)
    assert list(read_plan(tmp_path / "plan")) == found
    assert totals == totals_of(found)
    assert (totals.events, totals.whole_events) == (3, 3)
    assert numbers(selected(ferry)) == [1, 2, 3]


def test_a_closed_read_holds_no_file_open(ferry):
    ferry.put("2026/01/02/03/a.json", b"".join(event(n, pad="x" * 1000) for n in range(9000)))
    ferry.open().index()
    before = set(os.listdir("/proc/self/fd"))
    reading = read(planned(ferry), readables(ferry.ledger, ferry.config.sources), Selection())
    next(reading)
    assert set(os.listdir("/proc/self/fd")) - before
    reading.close()
    assert not set(os.listdir("/proc/self/fd")) - before


@pytest.mark.parametrize("number", [0, 1, 7, 25, 60, 1000])
@pytest.mark.parametrize("bounds", [(None, None), (START + 3, START + 17)])
def test_the_latest_are_the_newest_by_time_and_then_by_place(ferry, number, bounds):
    lines = [json.dumps({"event_timestamp": START + n * 7 % 20, "n": n}).encode() + b"\n" for n in range(60)]
    lines[11] = b'{"n":11}\n'
    for part in range(6):
        ferry.put(f"2026/01/02/03/{part}.gz", b"".join(lines[part * 10 : part * 10 + 10]))
    ferry.open().index()
    selection = Selection(start_ms=bounds[0], end_ms=bounds[1])
    found = latest(lambda: planned(ferry, selection), readables(ferry.ledger, ferry.config.sources), selection, number)
    timed = [(json.loads(line).get("event_timestamp", -1), n) for n, line in enumerate(lines)]
    low, high = bounds[0] or -1, bounds[1] or START * 2
    wanted = sorted(each for each in timed if low <= each[0] < high)[-number:] if number else []
    assert numbers(b"".join(found).splitlines()) == [n for _, n in wanted]


# -- against an independent reader ------------------------------------------------------------------------------------

CHOICES: dict[str, list[Any]] = {
    "type": ["a", "b", None, 1, True, ["a", "b"]],
    "n": [0, 1, 2.5, 10, "1"],
}


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A store of mixed events, and all of them in the order of the log."""
    home = tmp_path_factory.mktemp("many")
    kept: list[dict[str, Any]] = []
    with Ferry(home, sinks=()) as ferry:
        for number in range(20):
            here = [
                {
                    "event_timestamp": None if at % 17 == 0 else START + number * 1000 + at * 37 % 1500,
                    "type": CHOICES["type"][(number + at) % 6],
                    "o": {"n": CHOICES["n"][at % 5]},
                    "id": number * 100 + at,
                }
                for at in range(60)
            ]
            kept += here
            lines = [json.dumps(each).encode() for each in here]
            ferry.put(f"2026/01/02/03/{number:02}.gz", (b"\r\n" if number % 3 else b"\n\nbad\n").join(lines))
        ferry.open().index()
        yield ferry, kept


def equal(found: Any, wanted: Any) -> bool:
    if isinstance(found, list):
        return any(equal(each, wanted) for each in found)
    alike = (
        isinstance(found, bool) == isinstance(wanted, bool)
        and isinstance(found, str) == isinstance(wanted, str)
        and (found is None) == (wanted is None)
    )
    return alike and found == wanted


@given(
    field=st.sampled_from(["type", "n"]),
    choice=st.integers(0, 4),
    bounds=st.tuples(st.integers(-500, 25_000), st.integers(-500, 25_000)),
    open_ends=st.tuples(st.booleans(), st.booleans()),
    filtered=st.booleans(),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_selected_is_what_a_slow_reader_selects(many, field, choice, bounds, open_ends, filtered):
    ferry, kept = many
    value = CHOICES[field][choice]
    value = value[0] if isinstance(value, list) else value
    path = ("type",) if field == "type" else ("o", "n")
    low, high = (START + each for each in sorted(bounds))
    start, end = None if open_ends[0] else low, None if open_ends[1] else high
    selection = Selection(filter=Compare(path, Op.EQ, value) if filtered else None, start_ms=start, end_ms=end)

    def is_wanted(each: dict[str, Any]) -> bool:
        at = each["event_timestamp"]
        in_range = (start is None and end is None) or (
            at is not None and (start is None or at >= start) and (end is None or at < end)
        )
        return in_range and (not filtered or equal(each["type"] if field == "type" else each["o"]["n"], value))

    wanted = [each["id"] for each in kept if is_wanted(each)]
    assert [json.loads(line)["id"] for line in selected(ferry, selection)] == wanted
    sources = readables(ferry.ledger, ferry.config.sources)
    assert count(planned(ferry, selection), sources, selection) == len(wanted)


# -- surveys ----------------------------------------------------------------------------------------------------------


def test_a_survey_is_kept_by_content_and_found_again_without_the_store(many, tmp_path):
    ferry, kept = many
    sources, cache = readables(ferry.ledger, ferry.config.sources), ScanCache(tmp_path)
    some = Selection(start_ms=START, end_ms=START + 5_500)
    for selection in (Selection(), some):
        first = survey(planned(ferry, selection), sources, selection, cache)
        number = count(planned(ferry, selection), sources, selection, cache)
        assert first.events == number
        away = ferry.home / "events"
        away.rename(ferry.home / "away")
        try:
            assert survey(planned(ferry, selection), sources, selection, cache) == first
            assert count(planned(ferry, selection), sources, selection, cache) == number
        finally:
            (ferry.home / "away").rename(away)
    assert dict(survey(planned(ferry), sources, Selection(), cache).rows())["event_timestamp"] == {
        "integer": sum(each["event_timestamp"] is not None for each in kept),
        "null": sum(each["event_timestamp"] is None for each in kept),
    }


def test_a_broken_finding_is_made_anew_and_old_ones_are_pruned(tmp_path):
    cache = ScanCache(tmp_path)
    for key in ("aa1", "bb2"):
        cache.put(key, [1])
    (tmp_path / "aa/aa1.json").write_text("[1")
    assert (cache.get("aa1"), cache.get("bb2"), cache.get("cc3")) == (None, [1], None)
    os.utime(tmp_path / "aa/aa1.json", (0, 0))
    assert prune_scans(tmp_path) == 1
    assert prune_scans(tmp_path, max_bytes=2) == 1
    assert not list(tmp_path.glob("*/*"))


def test_unique_values_are_strict_about_types_and_look_into_arrays():
    values = [1, "1", True, 1.0, ["x", 1, None, {"a": 1}], None, {"b": 2}, "x", 0.5, False, "é", 10**30]
    body = b"".join(json.dumps({"v": each}, ensure_ascii=False).encode() + b"\n" for each in values)
    found = distinct([body, b"", b'{"w":1}\n'], ("v",), 100)
    assert found.is_complete
    assert found.values == ("false", "true", "0.5", "1", str(10**30), '"1"', '"x"', '"é"')
    assert json.loads(found.as_json()) == [False, True, 0.5, 1, 10**30, "1", "x", "é"]
    cut = distinct([body], ("v",), 3)
    assert (cut.is_complete, len(cut.values)) == (False, 3)


def test_workers_read_without_the_ledger_and_the_configuration():
    code = (
        "import sys, eventferry.exports.task\n"
        "heavy = {'sqlalchemy', 'pydantic', 'pyarrow', 'fastapi', 'duckdb', 'eventferry.config', 'eventferry.ledger'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
