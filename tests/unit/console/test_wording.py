"""Ranges and times as the pages show them."""

import datetime as dt

import pytest
from freezegun import freeze_time
from hypothesis import given
from hypothesis import strategies as st

from eventferry.console import wording


def ms(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("start", "end", "zone", "shown"),
    [
        (None, None, "UTC", "All events"),
        ("2026-01-02T00:00Z", "2026-01-03T00:00Z", None, "2 Jan 2026 UTC"),
        ("2026-01-02T00:00Z", "2026-01-05T00:00Z", "UTC", "2 – 4 Jan 2026 UTC"),
        ("2026-01-30T00:00Z", "2026-02-02T00:00Z", "UTC", "30 Jan – 1 Feb 2026 UTC"),
        ("2025-12-31T00:00Z", "2026-01-02T00:00Z", "UTC", "31 Dec 2025 – 1 Jan 2026 UTC"),
        ("2026-01-01T23:00Z", "2026-01-02T23:00Z", "Europe/Vienna", "2 Jan 2026 Europe/Vienna"),
        ("2026-01-02T10:00Z", "2026-01-02T11:30Z", "UTC", "2 Jan 2026, 10:00 – 11:30 UTC"),
        (
            "2026-10-25T00:30Z",
            "2026-10-25T01:30Z",
            "Europe/Vienna",
            "25 Oct 2026, 02:30 – 25 Oct 2026, 02:30 Europe/Vienna",
        ),
        ("2026-01-02T10:00:07Z", None, "UTC", "Since 2 Jan 2026, 10:00:07 UTC"),
        (None, "2026-01-02T00:00Z", "UTC", "Before 2 Jan 2026 UTC"),
        ("2026-01-02T00:00Z", "2026-01-03T00:00Z", "<script>", "2 Jan 2026 UTC"),
    ],
)
def test_a_range_is_shown_in_days_where_it_is_days(
    start: str | None, end: str | None, zone: object, shown: str
) -> None:
    found = wording.range_text(start and ms(start), end and ms(end), {"timezone": zone})  # type: ignore[arg-type]
    assert found == shown


@given(
    st.none() | st.integers(), st.none() | st.integers(), st.sampled_from(["Pacific/Kiritimati", "UTC", 5, None, {}])
)
def test_any_range_can_be_shown(start: int | None, end: int | None, zone: object) -> None:
    assert wording.range_text(start, end, {"timezone": zone})


@freeze_time("2026-11-21T12:00:00Z")
def test_times_say_that_they_are_utc_and_how_far_away() -> None:
    assert wording.at(ms("2026-11-21T10:42Z")) == "21 Nov, 10:42 UTC"
    assert wording.at(ms("2025-11-21T10:42Z")) == "21 Nov 2025, 10:42 UTC"
    assert [wording.ahead(ms(each)) for each in ("2026-11-28T11:59Z", "2026-11-21T13:00Z", "2026-11-21T12:00:30Z")] == [
        "in 7 days", "in 1 hour", "in less than a minute",
    ]  # fmt: skip
    assert wording.lasting(dt.timedelta(days=7)) == "7 days"
    assert wording.lasting(dt.timedelta(hours=1)) == "1 hour"
