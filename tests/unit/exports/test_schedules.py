"""Schedules: each planned time fires once, over restarts, clock changes and edits; of missed times only the latest."""

import datetime as dt
from collections.abc import Iterator
from zoneinfo import ZoneInfo

import freezegun
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.desks import ANA, ask, begin, desk_at, look

from eventferry import clock
from eventferry.exports import ending, requests
from eventferry.exports.schedules import fire_due, latest_planned
from eventferry.ledger import alerts
from eventferry.query import Compare, Op, Scope

NIGHTLY = {"name": "nightly", "cron": "15 0 * * *", "timezone": "Europe/Berlin", "timeframe": "yesterday"}
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def time() -> Iterator[freezegun.api.FrozenDateTimeFactory]:
    with freezegun.freeze_time("2026-03-10 12:00:00") as time:
        yield time


def desk_of(home, **schedule):
    return desk_at(home, exports={"schedules": [{**NIGHTLY, **schedule}]})


def ranges(desk) -> list[tuple[str, str]]:
    """The time ranges of all exports in Berlin, oldest first."""
    found = [requests.selection_of(row) for row in requests.list_page(desk, ANA, limit=100).rows[::-1]]
    return [
        tuple(clock.from_ms(ms).astimezone(BERLIN).strftime("%m-%d %H:%M") for ms in (each.start_ms, each.end_ms))
        for each in found
    ]


def test_a_schedule_fires_at_its_next_planned_time_and_once(tmp_path, time):
    """Not for times before it was configured; its timeframe is meant at the planned time, in its time zone."""
    with desk_of(tmp_path) as desk:
        assert fire_due(desk) == []
        time.move_to("2026-03-10 23:14:59")
        assert fire_due(desk) == []
        time.move_to("2026-03-10 23:15:00")
        assert fire_due(desk) == ["nightly"]
        assert fire_due(desk) == []
        time.move_to("2026-03-11 12:00:00")
        assert fire_due(desk) == []
        assert ranges(desk) == [("03-10 00:00", "03-11 00:00")]


def test_a_restart_neither_repeats_nor_forgets(tmp_path, time):
    """What came while the daemon was down is made when it is up, as it would have been at its time."""
    for moment in ("2026-03-10 12:00", "2026-03-10 23:20", "2026-03-10 23:30", "2026-03-12 22:00", "2026-03-12 23:00"):
        time.move_to(moment)
        with desk_of(tmp_path) as desk:
            fire_due(desk)
            found = ranges(desk)
    assert found == [("03-10 00:00", "03-11 00:00"), ("03-11 00:00", "03-12 00:00")]


def test_of_many_missed_times_only_the_latest_fires(tmp_path, time):
    """A month of silence is not followed by thirty letters."""
    with desk_of(tmp_path, cron="*/5 * * * *", timeframe="previous_1_hours") as desk:
        fire_due(desk)
        time.move_to("2026-04-20 10:03:00")
        assert fire_due(desk) == ["nightly"]
        assert fire_due(desk) == []
        assert ranges(desk) == [("04-20 11:00", "04-20 12:00")]


def test_a_changed_rhythm_begins_anew(tmp_path, time):
    """Who moves the time from the night to the morning at noon gets no letter at noon."""
    with desk_of(tmp_path) as desk:
        fire_due(desk)
    with desk_of(tmp_path, cron="0 6 * * *") as desk:
        time.move_to("2026-03-11 12:00")
        assert fire_due(desk) == []
        time.move_to("2026-03-12 05:00")
        assert fire_due(desk) == ["nightly"]


def test_a_schedule_that_was_switched_off_does_not_catch_up(tmp_path, time):
    """And what was wrong with it is no longer followed."""
    with desk_of(tmp_path) as desk:
        fire_due(desk)
        time.move_to("2026-03-11 12:00")
        fire_due(desk)
        row = requests.list_page(desk, ANA).rows[0]
        begin(desk, row)
        ending.fail(desk, row.id, "the store is gone")
        with desk.ledger.read() as tx:
            assert [each.subject for each in alerts.open_conditions(tx)] == ["The scheduled export nightly failed"]
    with desk_of(tmp_path, enabled=False) as desk:
        assert fire_due(desk) == []
        with desk.ledger.read() as tx:
            assert alerts.open_conditions(tx) == []
    time.move_to("2026-03-20 12:00")
    with desk_of(tmp_path) as desk:
        assert fire_due(desk) == []


def test_the_next_success_ends_what_was_wrong(tmp_path, time):
    """An alert opens with the failure and closes by itself."""
    with desk_of(tmp_path) as desk:
        fire_due(desk)
        for day, end in ((11, "fail"), (12, "complete")):
            time.move_to(f"2026-03-{day} 12:00")
            assert fire_due(desk) == ["nightly"]
            row = requests.list_page(desk, ANA).rows[0]
            begin(desk, row)
            if end == "fail":
                ending.fail(desk, row.id, "the store is gone")
            else:
                assert ending.complete(desk, row.id, [])
        with desk.ledger.read() as tx:
            assert alerts.open_conditions(tx) == []
            [condition] = alerts.changed_conditions(tx, 0)
            assert (condition.cause, condition.event) == ("export.failed:nightly", "export.failed")


def test_a_schedule_asks_for_what_its_table_says(tmp_path, time):
    """Filter, names, fields and form; the letter goes to its addresses."""
    more = {
        "filter": [{"field": "type", "eq": "view"}], "tenants": ["acme"], "fields": ["a.b", "c"], "format": "csv",
        "compression": "gzip", "timeframe": {"start": "2026-01-01T00:00:00Z", "end": "2026-02-01T00:00:00Z"},
        "webhook": "https://hooks.example.com/x",
    }  # fmt: skip
    with desk_of(tmp_path, **more) as desk:
        fire_due(desk)
        time.move_to("2026-03-11 12:00")
        fire_due(desk)
        [row] = requests.list_page(desk, ANA).rows
        selection = requests.selection_of(row)
        assert (selection.scope, selection.filter) == (Scope(tenants=("acme",)), Compare(("type",), Op.EQ, "view"))
        assert selection.end_ms - selection.start_ms == 31 * 86_400_000
        assert row.output["fields"] == [["a", "b"], ["c"]]
        assert (row.output["compression"], row.output["formula_guard"]) == ("gzip", True)
        assert row.notify == {"email": [], "webhook": "https://hooks.example.com/x"}
        assert (row.dialect, row.schedule, row.name, row.key_id) == ("schedule", "nightly", "nightly", None)


def test_a_schedule_that_cannot_be_made_is_told_of_once_a_time(tmp_path, time):
    """Not every few seconds."""
    with desk_of(tmp_path, webhook="http://10.0.0.1/") as desk:
        fire_due(desk)
        time.move_to("2026-03-11 12:00")
        assert fire_due(desk) == fire_due(desk) == []
        with desk.ledger.read() as tx:
            [condition] = alerts.open_conditions(tx)
        assert (condition.subject, condition.count) == ("The scheduled export nightly cannot be made", 1)
        assert "10.0.0.1" in condition.detail
        assert requests.list_page(desk, ANA).rows == []


def test_a_clock_that_ran_ahead_silences_nothing_for_good(tmp_path, time):
    """After a firing in a false future the schedule goes on from the true present."""
    with desk_of(tmp_path) as desk:
        time.move_to("2036-01-01 00:00")
        fire_due(desk)
        time.move_to("2026-03-10 12:00")
        assert fire_due(desk) == []
        time.move_to("2026-03-11 12:00")
        assert fire_due(desk) == ["nightly"]


at = st.datetimes(dt.datetime(2026, 1, 1), dt.datetime(2027, 12, 31)).map(lambda each: each.replace(tzinfo=dt.UTC))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["15 0 * * *", "*/7 * * * *", "0 3 1 * *", "30 2 * * sun", "0 0 1 1 *", "0 0 29 2 *"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]),
    at,
    st.integers(0, 36 * 3600),
)
def test_the_latest_planned_time_is_the_last_minute_that_the_cron_names(cron, zone, until, seconds):
    """Against a search minute by minute."""
    after = until - dt.timedelta(seconds=seconds)
    slow = [moment for moment in minutes(after, until) if names(cron, moment.astimezone(ZoneInfo(zone)))]
    found = latest_planned(cron, zone, after, until)
    if "30 2" in cron and zone != "UTC":  # an hour that some day has twice, or not at all
        assert found is None or after < found <= until
        return
    assert found == (slow[-1] if slow else None)


def minutes(after: dt.datetime, until: dt.datetime) -> list[dt.datetime]:
    first = after.replace(second=0, microsecond=0) + dt.timedelta(minutes=1)
    return [
        first + dt.timedelta(minutes=count) for count in range(max(0, int((until - first).total_seconds() // 60) + 1))
    ]


def names(cron: str, moment: dt.datetime) -> bool:
    shown = (moment.minute, moment.hour, moment.day, moment.month, moment.strftime("%a").lower())
    return all(
        field == "*" or (moment.minute % 7 == 0 if field == "*/7" else str(value) == field)
        for field, value in zip(cron.split(), shown, strict=True)
    )


def test_a_time_far_back_is_found(time):
    """Yearly ones, and those of leap days."""
    now = dt.datetime(2027, 6, 1, tzinfo=dt.UTC)
    long_ago = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
    assert latest_planned("0 0 1 7 *", "UTC", long_ago, now) == dt.datetime(2026, 7, 1, tzinfo=dt.UTC)
    assert latest_planned("0 0 29 2 *", "UTC", long_ago, now) == dt.datetime(2024, 2, 29, tzinfo=dt.UTC)


def test_exports_of_people_are_not_a_schedules_matter(tmp_path, time):
    """A failed one opens no alert."""
    with desk_of(tmp_path) as desk:
        row = begin(desk, ask(desk))
        ending.fail(desk, row.id, "no")
        with desk.ledger.read() as tx:
            assert alerts.open_conditions(tx) == []
        assert look(desk, row).state == "failed"


@pytest.mark.parametrize(
    ("cron", "planned"),
    [
        ("30 2 * * *", ["00:30"]),
        ("30 * * * *", ["23:30", "00:30", "01:30", "02:30"]),
        ("0 3 * * *", ["02:00"]),
    ],
)
def test_a_night_that_has_an_hour_twice_ends_and_fires_nightly_exports_once(cron, planned):
    """What is for every hour fires in both; looking for the next time never comes back to the same one."""
    last = dt.datetime(2026, 10, 24, 23, 0, tzinfo=dt.UTC)
    fired = []
    for minutes in range(1, 240):
        now = dt.datetime(2026, 10, 24, 23, 0, tzinfo=dt.UTC) + dt.timedelta(minutes=minutes)
        found = latest_planned(cron, "Europe/Berlin", last, now)
        if found is not None:
            fired.append(found.strftime("%H:%M"))
            last = found
    assert fired == planned
