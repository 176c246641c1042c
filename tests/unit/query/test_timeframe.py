"""Timeframes of every form, held against an oracle that walks the clocks of a zone step by step."""

import datetime as dt
import json
import re
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from freezegun import freeze_time
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eventferry import clock
from eventferry.query import QueryError
from eventferry.query.timeframe import (
    Range,
    describe,
    parse_connect,
    parse_instant,
    parse_keen2,
    parse_keen3,
    parse_native,
)

UTC = dt.UTC
MINUTE = dt.timedelta(minutes=1)
DAY = dt.timedelta(days=1)
ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Beirut",
    "Africa/Cairo", "Asia/Kathmandu", "Pacific/Apia", "America/St_Johns", "Atlantic/Azores", "America/Havana",
]  # fmt: skip
UNITS = ["minute", "hour", "day", "week", "month", "quarter", "year"]


def at(text: str, zone: str = "UTC") -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


def ms(moment: dt.datetime) -> int:
    return round(moment.timestamp() * 1000)


def wall(moment: dt.datetime, zone: ZoneInfo) -> dt.datetime:
    return moment.astimezone(zone).replace(tzinfo=None)


def first_of_day(day: dt.date, zone: ZoneInfo) -> dt.datetime:
    """The first minute whose clocks show that day's midnight or later, found by watching the clock."""
    midnight = dt.datetime.combine(day, dt.time())
    moment = midnight.replace(tzinfo=UTC) - dt.timedelta(hours=16)
    while wall(moment, zone) < midnight:
        moment += MINUTE
    return moment


def begins(day: dt.date, unit: str) -> bool:
    return {
        "day": True,
        "week": day.strftime("%A") == "Sunday",
        "month": day.day == 1,
        "quarter": day.day == 1 and day.month in (1, 4, 7, 10),
        "year": (day.day, day.month) == (1, 1),
    }[unit]


def oracle_begin(unit: str, ago: int, now: dt.datetime, zone: ZoneInfo) -> dt.datetime:
    """Where the period began that was `ago` before the present one, by walking back minute by minute or day by day."""
    if unit in ("minute", "hour"):
        offset = now.astimezone(zone).utcoffset() or dt.timedelta()
        moment = now.replace(second=0, microsecond=0)
        while unit == "hour" and (moment + offset).minute:
            moment -= MINUTE
        for _ in range(ago * (60 if unit == "hour" else 1)):
            moment -= MINUTE
        return moment
    day = wall(now, zone).date()
    while not begins(day, unit):
        day -= DAY
    for _ in range(ago):
        day -= DAY
        while not begins(day, unit):
            day -= DAY
    return first_of_day(day, zone)


def shifts(zone: str) -> list[dt.datetime]:
    """The hours of the years 2007 to 2024 in which the clocks of the zone are set."""
    found, moment, step = [], dt.datetime(2007, 1, 1, tzinfo=UTC), dt.timedelta(hours=1)
    tz = ZoneInfo(zone)
    while moment.year < 2025:
        if (moment + DAY).astimezone(tz).utcoffset() == moment.astimezone(tz).utcoffset():
            moment += DAY
            continue
        while (moment + step).astimezone(tz).utcoffset() == moment.astimezone(tz).utcoffset():
            moment += step
        found.append(moment)
        moment += step
    return found


SHIFTS = {zone: shifts(zone) for zone in ZONES}


@st.composite
def moments(draw: st.DrawFn) -> tuple[str, dt.datetime]:
    """A zone and a moment, mostly near where its clocks are set or its year ends."""
    zone = draw(st.sampled_from(ZONES))
    ends = [dt.datetime(year, 1, 1, tzinfo=UTC) for year in (2008, 2012, 2024)]
    near = draw(st.sampled_from(SHIFTS[zone] + ends))
    return zone, near + dt.timedelta(seconds=draw(st.integers(-2 * 86_400, 2 * 86_400)))


@settings(deadline=None, max_examples=300)
@given(moments(), st.sampled_from(UNITS), st.integers(1, 3), st.booleans())
def test_relative_timeframes_are_what_the_clocks_of_the_zone_show(
    moment: tuple[str, dt.datetime], unit: str, count: int, current: bool
) -> None:
    """Walking the clock of the zone finds the same instants, also on days of 23 or 25 hours and at ends of years."""
    name, now = moment
    zone = ZoneInfo(name)
    if current:
        expected = Range(ms(oracle_begin(unit, count - 1, now, zone)), ms(now))
        spellings: list[Any] = [f"this_{count}_{unit}s", {"current": {unit + "s": count}}]
    else:
        expected = Range(ms(oracle_begin(unit, count, now, zone)), ms(oracle_begin(unit, 0, now, zone)))
        spellings = [f"last_{count}_{unit}s", f"previous_{count}_{unit}s", {"previous": {unit + "s": count}}]
    for written in spellings:
        assert parse_native(written, name, now) == expected, describe(expected)


@settings(deadline=None, max_examples=100)
@given(moments())
@example(("Pacific/Apia", at("2011-12-30T12:00")))  # a day that the zone left out
def test_a_plain_day_lasts_from_its_first_to_the_next_days_first_instant(moment: tuple[str, dt.datetime]) -> None:
    """A native day is 23, 25 or no hours long where clocks are set."""
    name, now = moment
    zone = ZoneInfo(name)
    day = now.date()
    expected = Range(ms(first_of_day(day, zone)), ms(first_of_day(day + DAY, zone)))
    assert parse_native(day.isoformat(), name, dt.datetime(2024, 1, 1, tzinfo=UTC)) == expected


@pytest.mark.parametrize(
    ("zone", "day", "expected"),
    [
        ("Europe/Berlin", "2024-03-31", "2024-03-30T23:00:00.000Z/2024-03-31T22:00:00.000Z"),  # 23 hours
        ("Europe/Berlin", "2024-10-27", "2024-10-26T22:00:00.000Z/2024-10-27T23:00:00.000Z"),  # 25 hours
        ("America/New_York", "2024-03-10", "2024-03-10T05:00:00.000Z/2024-03-11T04:00:00.000Z"),
        ("Australia/Lord_Howe", "2024-10-06", "2024-10-05T13:30:00.000Z/2024-10-06T13:00:00.000Z"),  # 23 and a half
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00.000Z/2018-11-05T02:00:00.000Z"),  # without midnight
        ("Asia/Beirut", "2024-03-31", "2024-03-30T22:00:00.000Z/2024-03-31T21:00:00.000Z"),  # without midnight
        ("Africa/Cairo", "2024-04-26", "2024-04-25T22:00:00.000Z/2024-04-26T21:00:00.000Z"),  # without midnight
        ("America/Havana", "2024-11-03", "2024-11-03T04:00:00.000Z/2024-11-04T05:00:00.000Z"),  # midnight twice
        ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00:00.000Z/2011-12-30T10:00:00.000Z"),  # left out whole
    ],
)
def test_days_on_which_clocks_are_set_are_known_by_hand(zone: str, day: str, expected: str) -> None:
    """These were looked up, not computed."""
    assert describe(parse_native(day, zone, at("2025-01-01T00:00"))) == expected


NOW = at("2024-01-01T19:15:30.250")  # a Monday


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("last_7_hours", "2024-01-01T12:00:00.000Z/2024-01-01T19:00:00.000Z"),
        ("last_hour", "2024-01-01T18:00:00.000Z/2024-01-01T19:00:00.000Z"),
        ("last_3_days", "2023-12-29T00:00:00.000Z/2024-01-01T00:00:00.000Z"),
        ("last_day", "2023-12-31T00:00:00.000Z/2024-01-01T00:00:00.000Z"),
        ("yesterday", "2023-12-31T00:00:00.000Z/2024-01-01T00:00:00.000Z"),
        ("last_2_weeks", "2023-12-17T00:00:00.000Z/2023-12-31T00:00:00.000Z"),
        ("last_1_week", "2023-12-24T00:00:00.000Z/2023-12-31T00:00:00.000Z"),
        ("this_hour", "2024-01-01T19:00:00.000Z/2024-01-01T19:15:30.250Z"),
        ("this_day", "2024-01-01T00:00:00.000Z/2024-01-01T19:15:30.250Z"),
        ("today", "2024-01-01T00:00:00.000Z/2024-01-01T19:15:30.250Z"),
        ("this_week", "2023-12-31T00:00:00.000Z/2024-01-01T19:15:30.250Z"),
        ({"start": "2012-08-13T19:00Z", "end": "2012-08-14"}, "2012-08-13T19:00:00.000Z/2012-08-14T00:00:00.000Z"),
        (None, "../.."),
    ],
)
def test_the_words_of_keen_2_mean_the_same_everywhere(written: Any, expected: str) -> None:
    """Keen 2.0's words, in UTC, are words of Keen 3.0 and of the native form, too."""
    for found in (parse_keen2(written, NOW), parse_keen3(written, None, NOW), parse_native(written, None, NOW)):
        assert describe(found) == expected


@pytest.mark.parametrize(
    "word", ["last_3_months", "this_2_days", "previous_day", "this_month", "2024-01-01", "last_N_days"]
)
def test_what_keen_2_does_not_know_is_refused(word: str) -> None:
    """A dialect has its own words only."""
    with pytest.raises(QueryError):
        parse_keen2(word, NOW)


@pytest.mark.parametrize(
    ("written", "zone", "expected"),
    [
        ("this_3_days", -28_800, "2023-12-30T08:00:00.000Z/2024-01-01T19:15:30.250Z"),
        ("previous_1_months", "-28800", "2023-12-01T08:00:00.000Z/2024-01-01T08:00:00.000Z"),
        ("previous_year", "US/Pacific", "2023-01-01T08:00:00.000Z/2024-01-01T08:00:00.000Z"),
        ("this_5_minutes", None, "2024-01-01T19:11:00.000Z/2024-01-01T19:15:30.250Z"),
        ("previous_2_minutes", 19_800, "2024-01-01T19:13:00.000Z/2024-01-01T19:15:00.000Z"),
        ("this_hour", 19_800, "2024-01-01T18:30:00.000Z/2024-01-01T19:15:30.250Z"),
        ({"start": "2024-01-01T00:00", "end": "2024-01-02"}, 3600, "2024-01-01T00:00:00.000Z/2024-01-02T00:00:00.000Z"),
    ],
)
def test_the_words_of_keen_3_are_in_its_timezone(written: Any, zone: Any, expected: str) -> None:
    """An offset is in seconds; what has no offset in an absolute timeframe is UTC."""
    assert describe(parse_keen3(written, zone, NOW)) == expected


CONNECT = {
    "minute": "2024-01-01T19:15:00.000Z", "hour": "2024-01-01T19:00:00.000Z", "week": "2023-12-31T00:00:00.000Z",
    "month": "2024-01-01T00:00:00.000Z", "quarter": "2024-01-01T00:00:00.000Z", "year": "2024-01-01T00:00:00.000Z",
}  # fmt: skip


@pytest.mark.parametrize("unit", CONNECT)
def test_connects_words_end_now_or_at_the_begin_of_the_present_period(unit: str) -> None:
    """this_… ends now; last_… is the complete period before."""
    this, last = parse_connect(f"this_{unit}", None, NOW), parse_connect(f"last_{unit}", None, NOW)
    assert describe(this) == f"{CONNECT[unit]}/2024-01-01T19:15:30.250Z"
    assert last.end_ms == this.start_ms
    assert last == parse_native({"previous": {unit + "s": 1}}, None, NOW)


@pytest.mark.parametrize(
    ("written", "zone", "expected"),
    [
        ("today", 10, "2024-01-01T14:00:00.000Z/2024-01-01T19:15:30.250Z"),
        ("yesterday", -3, "2023-12-31T03:00:00.000Z/2024-01-01T03:00:00.000Z"),
        ("today", 9.5, "2024-01-01T14:30:00.000Z/2024-01-01T19:15:30.250Z"),
        ("today", "Australia/Brisbane", "2024-01-01T14:00:00.000Z/2024-01-01T19:15:30.250Z"),
        ({"current": {"days": 3}}, None, "2023-12-30T00:00:00.000Z/2024-01-01T19:15:30.250Z"),
        ({"previous": {"quarters": 2}}, None, "2023-07-01T00:00:00.000Z/2024-01-01T00:00:00.000Z"),
        ({"start": "2024-01-01T00:00:00Z"}, None, "2024-01-01T00:00:00.000Z/.."),
        ({"end": "2024-01-01T00:00:00Z"}, None, "../2024-01-01T00:00:00.000Z"),
        (None, None, "../.."),
    ],
)
def test_connects_forms_and_timezones(written: Any, zone: Any, expected: str) -> None:
    """An offset is in hours; either end of an absolute timeframe may be open."""
    assert describe(parse_connect(written, zone, NOW)) == expected


@pytest.mark.parametrize("written", [None, {"start": "2024-01-01"}, {"end": "2024-01-01"}])
def test_a_timezone_goes_with_relative_timeframes_of_connect_only(written: Any) -> None:
    """As its document says."""
    with pytest.raises(QueryError, match="relative timeframe only"):
        parse_connect(written, "Europe/Berlin", NOW)


@pytest.mark.parametrize("word", ["this_day", "last_day", "last_7_days", "previous_week", "2024-01-01", {"this": {}}])
def test_what_connect_does_not_know_is_refused(word: Any) -> None:
    """A dialect has its own words only."""
    with pytest.raises(QueryError):
        parse_connect(word, None, NOW)


@freeze_time("2023-12-31T23:59:59.999Z")
def test_the_last_millisecond_of_a_year_belongs_to_it() -> None:
    """At the edge, today and this_year are still the old ones."""
    now = clock.now()
    assert describe(parse_native("today", None, now)) == "2023-12-31T00:00:00.000Z/2023-12-31T23:59:59.999Z"
    assert describe(parse_native("this_quarter", None, now)) == "2023-10-01T00:00:00.000Z/2023-12-31T23:59:59.999Z"
    assert describe(parse_native("this_year", "Asia/Tokyo", now)) == "2023-12-31T15:00:00.000Z/2023-12-31T23:59:59.999Z"


@freeze_time("2024-01-01T00:00:00Z")
def test_at_the_first_instant_of_a_day_today_is_empty() -> None:
    """Nothing of the day has passed, and yesterday is complete."""
    today, yesterday = parse_native("today", None, clock.now()), parse_native("yesterday", None, clock.now())
    assert today.start_ms == today.end_ms == yesterday.end_ms
    assert describe(yesterday) == "2023-12-31T00:00:00.000Z/2024-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2012-08-13T19:00Z", "2012-08-13T19:00:00+00:00"),
        ("2012-08-13t19:00:00z", "2012-08-13T19:00:00+00:00"),
        ("2012-08-13 19:00:00", "2012-08-13T19:00:00+00:00"),
        ("2012-08-13T19:00:00.5Z", "2012-08-13T19:00:00.500+00:00"),
        ("2012-08-13T19:00:00.123999Z", "2012-08-13T19:00:00.123+00:00"),
        ("2012-08-13T19:00:00-0800", "2012-08-14T03:00:00+00:00"),
        ("2012-08-13T19:00:00+05:30", "2012-08-13T13:30:00+00:00"),
        ("2012-08-13T19:00:00+02", "2012-08-13T17:00:00+00:00"),
        ("2012-08-13", "2012-08-13T00:00:00+00:00"),
        ("1970-01-01", "1970-01-01T00:00:00+00:00"),
        ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999+00:00"),
    ],
)
def test_iso_times_are_read(text: str, iso: str) -> None:
    """Seconds, fractions and offsets are optional; without an offset a time is UTC."""
    assert parse_instant(text, ()) == ms(dt.datetime.fromisoformat(iso))


@pytest.mark.parametrize(
    "text",
    [
        "", "2012", "2012-08", "2012-8-13", "20120813T190000Z", "2012-08-13T", "2012-08-13T19", "2012-02-30",
        "2012-13-01", "2012-08-13T25:00Z", "2012-08-13T19:60Z", "2012-08-13T19:00+25:00", "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "0000-01-01", "0001-01-01T00:00+01:00",
        "2012-08-13Z", "2012-08-13T19:00Z ", "２０１２-08-13", "2012-W33-1", 5, None, [], True,
    ],
)  # fmt: skip
def test_what_is_no_iso_time_or_does_not_exist_is_refused(text: Any) -> None:
    """Nothing is guessed and nothing overflows."""
    with pytest.raises(QueryError):
        parse_instant(text, ("start",))


def test_native_times_without_an_offset_are_in_the_timezone() -> None:
    """Who names a zone means its clocks; an offset that is written wins; what clocks leave out is the instant after."""
    written = {"start": "2024-03-31T02:30:00", "end": "2024-04-01T00:00:00Z"}
    assert describe(parse_native(written, "Europe/Berlin", NOW)) == "2024-03-31T01:00:00.000Z/2024-04-01T00:00:00.000Z"
    twice = {"start": "2024-10-27T02:30:00"}
    assert describe(parse_native(twice, "Europe/Berlin", NOW)) == "2024-10-27T00:30:00.000Z/.."


@pytest.mark.parametrize(
    ("written", "zone", "where", "words"),
    [
        ("todai", None, ("timeframe",), 'did you mean "today"?'),
        ("last_0_days", None, ("timeframe",), "from 1 to 10,000"),
        ("last_10001_minutes", None, ("timeframe",), "from 1 to 10,000"),
        ("last_99999999999999999999_days", None, ("timeframe",), "from 1 to 10,000"),
        ("last_-1_days", None, ("timeframe",), "is no timeframe"),
        ("last_9000_weeks", None, ("timeframe",), "before 1970"),
        ("last_9000_years", None, ("timeframe",), "before 1970"),
        ("this_55_years", None, ("timeframe",), ""),
        ("this_56_years", None, ("timeframe",), "before 1970"),
        ("2024-02-31", None, ("timeframe",), "does not exist"),
        ("1969-12-31", None, ("timeframe",), "1970"),
        ("9999-12-31", None, ("timeframe",), "1970"),
        (5, None, ("timeframe",), "is not a timeframe"),
        ({}, None, ("timeframe",), "is not a timeframe"),
        ({"current": {"days": 1}, "x": 1}, None, ("timeframe",), "is not a timeframe"),
        ({"current": 3}, None, ("timeframe", "current"), "is not a period"),
        ({"current": {"day": 3}}, None, ("timeframe", "current", "day"), "is no unit"),
        ({"previous": {"days": 0}}, None, ("timeframe", "previous", "days"), "from 1 to 10,000"),
        ({"previous": {"days": True}}, None, ("timeframe", "previous", "days"), "whole number"),
        ({"previous": {"days": 1.5}}, None, ("timeframe", "previous", "days"), "whole number"),
        ({"start": "2024-01-02", "end": "2024-01-02"}, None, ("timeframe", "end"), "not after start"),
        ({"start": "2024-01-02", "end": "2024-01-01"}, None, ("timeframe", "end"), "not after start"),
        ({"start": "2024-01-02", "to": "2024-01-01"}, None, ("timeframe", "to"), "not part of"),
        ({"start": "x"}, None, ("timeframe", "start"), "ISO 8601"),
        ("today", "Europe/Berln", ("timezone",), 'did you mean "Europe/Berlin"?'),
        ("today", "../../etc/passwd", ("timezone",), "not a time zone"),
        ("today", "Europe", ("timezone",), "not a time zone"),
        ("today", "tzdata.zi", ("timezone",), "not a time zone"),
        ("today", "", ("timezone",), "not a time zone"),
        ("today", 5, ("timezone",), "not a time zone"),
        ("today", "\ud800", ("timezone",), "not a time zone"),
        ("today", "X" * 10_000, ("timezone",), "not a time zone"),
    ],
)
def test_a_mistake_names_its_place_and_remedy(written: Any, zone: Any, where: tuple[str, ...], words: str) -> None:
    """Every malformed timeframe is refused with the place inside it; the limits are what they say."""
    if not words:
        parse_native(written, zone, NOW)
        return
    with pytest.raises(QueryError) as caught:
        parse_native(written, zone, NOW)
    assert caught.value.problems[0][0] == where
    assert words in caught.value.problems[0][1]
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("data", [{"start": "2024-01-01"}, {"end": "2024-01-01"}])
def test_keen_wants_both_ends(data: Any) -> None:
    """An absolute timeframe of Keen has start and end."""
    with pytest.raises(QueryError, match="is missing"):
        parse_keen2(data, NOW)
    with pytest.raises(QueryError, match="is missing"):
        parse_keen3(data, None, NOW)


@pytest.mark.parametrize("offset", [50_401, -43_201, 10**30, True, 1.5, [], "90000", "+-1"])
def test_offsets_in_seconds_are_within_the_zones_of_the_world(offset: Any) -> None:
    """A day and a half is no time zone."""
    with pytest.raises(QueryError, match=re.escape("time")):
        parse_keen3("today", offset, NOW)


@pytest.mark.parametrize("offset", [14.1, -12.5, 10**400, float("nan"), float("inf"), True, [], "10"])
def test_offsets_in_hours_are_within_the_zones_of_the_world(offset: Any) -> None:
    """They are numbers; a text is a name."""
    with pytest.raises(QueryError):
        parse_connect("today", offset, NOW)


words = st.sampled_from(["today", "last_2_days", "this_week", "2024-01-01", "2024-01-01T00:00Z", "start", "end"])
keys = st.sampled_from(["start", "end", "current", "previous", "days", "years"]) | st.text(max_size=3)
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | words | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
)


@settings(deadline=None)
@given(junk, st.none() | junk | st.sampled_from(["Europe/Berlin", 3600, 9.5]))
def test_whatever_is_written_is_a_range_or_refused(written: Any, zone: Any) -> None:
    """No JSON breaks a parser; a range that comes out is in order and can be shown."""
    for parse in (parse_native, parse_keen3, parse_connect, lambda data, _, now: parse_keen2(data, now)):
        try:
            found = parse(written, zone, NOW)
        except QueryError as error:
            assert json.dumps(error.problems)
            continue
        assert describe(found)
        assert found.start_ms is None or found.end_ms is None or 0 <= found.start_ms <= found.end_ms
