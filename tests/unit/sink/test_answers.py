"""What an HTTP answer means for a batch."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventferry.sink import BatchRejected, BatchTooLarge, SinkError, SinkMisconfigured, SinkUnavailable
from eventferry.sink.answers import LONGEST_WAIT, classify, retry_after

NOW = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)


def _classify(status, headers=None, words="", expect=(200, 201, 202, 204)):
    return classify(status, headers or {}, words, expect=expect, who="https://example.org/in", now=NOW)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *[(status, type(None)) for status in (200, 201, 202, 204)],
        *[(status, SinkMisconfigured) for status in (203, 206, 207, 301, 302, 303, 304, 307, 308)],
        *[(status, SinkMisconfigured) for status in (401, 403, 404, 405, 407, 410)],
        *[(status, BatchRejected) for status in (400, 402, 406, 411, 415, 418, 422, 451)],
        (413, BatchTooLarge),
        *[(status, SinkUnavailable) for status in (408, 409, 423, 425, 429, 500, 501, 502, 503, 504, 507, 599)],
    ],
)
def test_every_status_has_one_meaning(status, kind):
    """The table of statuses is the contract with every receiver."""
    assert type(_classify(status)) is kind


@given(st.integers(100, 999))
def test_no_status_is_success_by_accident(status):
    """Only an expected status is a success; every other one is an error that names it."""
    meaning = _classify(status, expect=(200,))
    if status == 200:
        assert meaning is None
    else:
        assert isinstance(meaning, SinkError)
        assert str(status) in str(meaning)


@pytest.mark.parametrize(("status", "untouched"), [(429, True), (503, False), (500, False), (408, False), (409, False)])
def test_only_429_took_nothing(status, untouched):
    """Any other answer may come after the batch took effect."""
    meaning = _classify(status, {"Retry-After": "7"})
    assert (meaning.untouched, meaning.retry_after) == (untouched, 7.0)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 5 ", 5.0),
        ("Wed, 01 May 2024 12:00:30 GMT", 30.0),
        ("Wednesday, 01-May-24 12:00:30 GMT", 30.0),
        ("Wed, 01 May 2024 14:00:30 +0200", 30.0),
        ("Wed, 01 May 2024 11:59:59 GMT", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("٣", None),
        ("99999999999", LONGEST_WAIT),
        ("Wed, 01 May 9999 12:00:30 GMT", LONGEST_WAIT),
    ],
)
def test_retry_after_is_understood_or_ignored(value, seconds):
    """Seconds and dates count, the past and garbage do not, and nobody makes the daemon wait for more than a day."""
    assert retry_after(value, NOW) == seconds


@given(st.text(max_size=40))
def test_no_retry_after_breaks_anything(value):
    """Whatever the header holds, the answer is None or a wait within the bounds."""
    wait = retry_after(value, NOW)
    assert wait is None or 0 <= wait <= LONGEST_WAIT


def test_a_redirect_names_its_target_without_its_query():
    """The remedy is the final URL; what may be a token in it is not shown."""
    text = str(_classify(302, {"Location": "https://u:p@other.example/login?token=geheim#x"}))
    assert "https://other.example/login" in text
    assert "geheim" not in text
    assert "u:p" not in text
