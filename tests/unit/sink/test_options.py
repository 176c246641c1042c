"""Options that sink types share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventferry.sink.options import parse_duration, utc_day


@pytest.mark.parametrize(
    ("text", "seconds"), [(30, 30), (0.5, 0.5), ("500ms", 0.5), ("30s", 30), ("1.5 m", 90), ("2h", 7200), ("1d", 86400)]
)
def test_durations_are_seconds_or_texts_with_a_unit(text, seconds):
    """A bare number is seconds, a text names its unit."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "s", "1 fortnight", "-5s", True, None, [], "1e3s", "٣s " * 2])
def test_what_is_no_duration_is_refused(text):
    """Nothing is guessed."""
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@given(st.one_of(st.none(), st.integers(-(10**30), 10**30)))
def test_any_time_gives_a_day_or_none(ms):
    """A far future or negative time never breaks the name of a folder."""
    day = utc_day(ms)
    assert day is None or len(day) == 10


def test_days_are_utc_and_padded():
    """The day is the same on every machine, and sorts as text."""
    assert utc_day(1714564800000, "%Y/%m/%d") == "2024/05/01"
    assert utc_day(-62135596800000) == "0001-01-01"
    assert utc_day(10**18) is None
