"""Durations, sizes and cron expressions as people write them."""

import datetime as dt

import pytest
from apscheduler.triggers.cron import CronTrigger
from hypothesis import given, settings
from hypothesis import strategies as st

from eventferry.config.cron import check_cron
from eventferry.config.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10m", 600),
        ("48h", 172800),
        ("7d", 604800),
        ("1h30m", 5400),
        ("0s", 0),
        ("500ms", 0.5),
        ("2w", 1209600),
        ("hourly", 3600),
        ("twicedaily", 43200),
        ("Daily", 86400),
        ("weekly", 604800),
    ],
)
def test_durations_read_as_people_mean_them(text: str, seconds: float) -> None:
    """Units and the words of schedules are understood."""
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize(
    "value", ["", "10", 10, 1.5, True, "10 m", "m", "-1m", "1m1h", "1m1m", "1.5h", "10M", "999999999w", None, [], "１m"]
)
def test_what_is_not_a_duration_is_refused_with_a_remedy(value: object) -> None:
    """A bare number has no unit, and no unit is guessed."""
    with pytest.raises(ValueError, match=r"write|longer than"):
        parse_duration(value)


@settings(deadline=None)
@given(st.integers(0, 10**12))
def test_durations_survive_being_shown(milliseconds: int) -> None:
    """What `config show` prints reads back as the same span."""
    span = dt.timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(span)) == span


@pytest.mark.parametrize(
    ("text", "size"),
    [("8MiB", 8 << 20), ("512KiB", 1 << 19), ("1GB", 10**9), ("1.5KiB", 1536), ("7B", 7), ("1 TiB", 1 << 40)],
)
def test_sizes_read_as_people_mean_them(text: str, size: int) -> None:
    """Binary and decimal units are told apart."""
    assert parse_size(text) == size


@pytest.mark.parametrize("value", ["", "8", 8, True, "8M", "8mb", "-1MB", "1.5B", "9999999TiB", None, "MiB"])
def test_what_is_not_a_size_is_refused(value: object) -> None:
    """No unit is guessed."""
    with pytest.raises(ValueError, match=r"write|more than"):
        parse_size(value)


@settings(deadline=None)
@given(st.integers(0, 1 << 50))
def test_sizes_survive_being_shown(size: int) -> None:
    """What `config show` prints reads back as the same number of bytes."""
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("0 6 * * *", "0 6 * * *"),
        ("0 6 * * 1", "0 6 * * mon"),
        ("0 6 * * 0", "0 6 * * sun"),
        ("0 6 * * 7", "0 6 * * sun"),
        ("0 6 * * MON-fri", "0 6 * * mon,tue,wed,thu,fri"),
        ("*/10 * * * *", "0,10,20,30,40,50 * * * *"),
        ("0 0 1 */12 *", "0 0 1 1 *"),
        ("0 0 29 2 *", "0 0 29 2 *"),
        ("0 0 1,15 jan-mar *", "0 0 1,15 jan-mar *"),
        ("0 0 * * */2", "0 0 * * sun,tue,thu,sat"),
    ],
)
def test_weekdays_mean_what_cron_means(text: str, spelled: str) -> None:
    """Cron's Sunday is 0, the scheduler's Monday is 0: names settle it, and the scheduler takes them."""
    assert check_cron(text) == spelled
    assert CronTrigger.from_crontab(spelled)


@pytest.mark.parametrize(
    "text",
    ["", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "5-1 * * * *", "*/0 * * * *",
     "a * * * *", "0 0 1 * 1", "0 0 31 2 *", "0 0 31 4,6 *", "5/2 * * * *", "@daily"],
)  # fmt: skip
def test_cron_expressions_that_mislead_are_refused(text: str) -> None:
    """Out of range, never due, or meaning another thing to the scheduler than to cron."""
    with pytest.raises(ValueError, match=r".+"):
        check_cron(text)


small = st.integers(0, 60).map(str)
items = st.one_of(st.just("*"), small, st.tuples(small, small).map("-".join), small.map("*/{}".format))


@settings(deadline=None)
@given(st.lists(items, min_size=5, max_size=5).map(" ".join))
def test_whatever_passes_is_taken_by_the_scheduler(text: str) -> None:
    """A cron expression that `check` accepts never fails at start."""
    try:
        spelled = check_cron(text)
    except ValueError:
        return
    assert CronTrigger.from_crontab(spelled)
