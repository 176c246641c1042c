"""What the dialects read out of bodies and URLs: a value, or an error that names the place, whatever is sent."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventferry.api.dialects import connect_request, keen_request
from eventferry.api.dialects.json_text import NotJson, read_json
from eventferry.api.problems import Problem
from eventferry.exports.destination import target_of
from eventferry.exports.egress import Egress

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
EGRESS = Egress()

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
WORDS = st.sampled_from(
    ["filters", "timeframe", "timezone", "email", "email_address", "latest", "property_names", "event_collection",
     "query", "filter", "s3Path", "s3AccessKeyId", "s3SecretAccessKey", "select"]
)  # fmt: skip
BODIES = st.dictionaries(WORDS, JSON | st.sampled_from(["today", "s3://bucket/a/", {"start": "2026"}, []]), max_size=6)


@given(st.text() | st.binary())
def test_any_text_is_json_or_is_told_where_it_is_not(text: str | bytes) -> None:
    """Nothing but NotJson leaves the reader, and what it reads is what it says."""
    try:
        value = read_json(text)
    except NotJson as error:
        assert str(error).startswith("it ")
    else:
        assert json.loads(json.dumps(value)) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1\n "b": 2}', "a comma, or a closing bracket, is missing before this place (line 2, column 2)"),
        ('{"a": <b>}', "a value is missing here (line 1, column 7)"),
        ('{a: 1}', "a name in double quotes is missing here (line 1, column 2)"),
        ("{} {}", "the text goes on after its end (line 1, column 4)"),
        ("", "a value is missing here (line 1, column 1)"),
        (b"\xff", "byte 1 is not UTF-8"),
        ("[" * 100_000, "nested too deeply"),
        ("NaN", "a number that is none"),
        ("9" * 10_000, "a number that is none"),
    ],
)  # fmt: skip
def test_the_fault_is_named_with_its_place(text: str | bytes, said: str) -> None:
    """Line and column are those that an editor shows."""
    with pytest.raises(NotJson) as found:
        read_json(text)
    assert said in str(found.value)


@given(BODIES, st.sampled_from([2, 3]))
def test_any_body_of_keens_is_understood_or_refused(body: dict[str, object], version: int) -> None:
    """Nothing but Problem leaves the parsers."""
    where = keen_request.Where(2 if version == 2 else 3, "p", "c")
    try:
        asked = keen_request.read_object(json.dumps(body).encode(), tuple(body))
        keen_request.selection_of(where, asked, NOW)
        keen_request.email_of(asked)
        keen_request.properties_of(asked)
        keen_request.latest_of(asked, 100)
        keen_request.text_of(asked, "event_collection")
    except Problem as problem:
        assert problem.status == 400 and problem.detail


@given(st.dictionaries(WORDS, st.text(max_size=20) | JSON.map(str), max_size=6))
def test_any_parameters_of_keens_are_understood_or_refused(given_: dict[str, str]) -> None:
    """In a URL everything is text."""
    try:
        asked = keen_request.read_parameters(given_, tuple(given_))
        keen_request.selection_of(keen_request.Where(3, "p", "c"), asked, NOW)
        keen_request.properties_of(asked)
        keen_request.latest_of(asked, 100)
    except Problem as problem:
        assert problem.status == 400 and problem.detail


@given(BODIES)
def test_any_body_of_connects_is_understood_or_refused_without_its_credentials(body: dict[str, object]) -> None:
    """Each fault names a field, and none repeats a secret, of whatever type it is."""
    secret = ["hunter2-hunter2"]
    try:
        asked = connect_request.parse_body(json.dumps({**body, "s3SecretAccessKey": secret}).encode(), EGRESS)
        asked.query.selection("p", "c", NOW)
    except Problem as problem:
        assert problem.status == 422 and problem.mistakes
        assert "hunter2" not in problem.detail
        assert not any("hunter2" in each.problem for each in problem.mistakes)


def test_a_destination_shows_no_credential() -> None:
    """Neither in its text nor in the text of what was asked."""
    body = {"s3Path": "s3://bucket/a b%/", "s3AccessKeyId": "AKID", "s3SecretAccessKey": "hunter2"}
    asked = connect_request.parse_body(json.dumps(body).encode(), EGRESS)
    assert "hunter2" not in repr(asked) and "hunter2" not in repr(asked.destination("x"))
    assert asked.destination("x").url == "s3://bucket/a b%/"


@pytest.mark.parametrize(
    "path",
    [
        "s3://bucket/a b%/ü/",
        "https://bucket.s3.eu-central-1.amazonaws.com/a%20b/",
        "http://127.0.0.1:9000/bucket/a%20b%2525/%C3%BC/",
        "http://127.0.0.1:9000/bucket",
    ],
)
def test_the_daemon_sends_to_the_very_place_that_was_written(path: str) -> None:
    """What the destination keeps is read back as the same bucket, folder, store and region."""
    egress = Egress(["127.0.0.1:9000"])
    body = {"s3Path": path, "s3AccessKeyId": "AKID", "s3SecretAccessKey": "hunter2"}
    asked = connect_request.parse_body(json.dumps(body).encode(), egress)
    assert target_of(asked.destination("x").to_data(), egress) == asked.place
