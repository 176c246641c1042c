"""The form in which filters and transforms are written in the configuration."""

import datetime as dt
import json
import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventferry.query import (
    And,
    Compare,
    Not,
    Op,
    Or,
    QueryError,
    Redaction,
    compile_filter,
    parse_filter,
    parse_transform,
)
from eventferry.query.expression import as_data, from_data


def test_all_tables_of_a_list_must_hold() -> None:
    """The documented example means what it says."""
    written = [
        {"field": "event_type", "eq": "pageView"},
        {"field": "attributes.url", "starts_with": "https://"},
        {"field": "x", "in": [1, 2]},
        {"field": "y", "exists": True},
    ]
    assert parse_filter(written) == And(
        (
            Compare(("event_type",), Op.EQ, "pageView"),
            Compare(("attributes", "url"), Op.STARTS_WITH, "https://"),
            Compare(("x",), Op.IN, (1, 2)),
            Compare(("y",), Op.EXISTS, True),
        )
    )


def test_one_table_may_hold_several_operators_and_combinations() -> None:
    """Ranges, alternatives and negation need no second language."""
    assert parse_filter({"field": "x", "gte": 1, "lt": 5}) == And(
        (Compare(("x",), Op.GTE, 1), Compare(("x",), Op.LT, 5))
    )
    a, b = Compare(("a",), Op.EQ, 1), Compare(("b",), Op.EQ, 2)
    assert parse_filter({"or": [{"field": "a", "eq": 1}, {"field": "b", "eq": 2}]}) == Or((a, b))
    assert parse_filter({"not": {"field": "a", "eq": 1}}) == Not(a)
    assert parse_filter({"field": "a", "not_in": [1]}) == Not(Compare(("a",), Op.IN, (1,)))
    assert parse_filter([]) is None


@pytest.mark.parametrize(
    ("written", "where", "words"),
    [
        ("pageView", (), "is not a filter"),
        (["x"], (0,), "is not a table"),
        ([{"field": "a"}], (0,), "says nothing"),
        ([{"eq": 1}], (0, "field"), "is missing"),
        ([{"field": 5, "eq": 1}], (0, "field"), "no text"),
        ([{"field": "a..b", "eq": 1}], (0, "field"), "empty key"),
        ([{"field": "a", "equal": 1}], (0, "equal"), "one of eq"),
        ([{"field": "a", "in": "x"}], (0, "in"), "list of values"),
        ([{"field": "a", "in": [{}]}], (0, "in"), "not a text"),
        ([{"field": "a", "exists": "yes"}], (0, "exists"), "neither true nor false"),
        ([{"field": "a", "starts_with": 5}], (0, "starts_with"), "not a text"),
        ([{"field": "a", "gt": True}], (0, "gt"), "no order"),
        ([{"field": "a", "eq": dt.date(2024, 1, 2)}], (0, "eq"), "is a date"),
        ({"or": []}, ("or",), "list of tables"),
        ({"or": [{"field": "a", "eq": 1}], "x": 1}, (), "stand alone"),
    ],
)
def test_a_mistake_names_its_place_and_remedy(written: Any, where: tuple[str | int, ...], words: str) -> None:
    """Every malformed filter is refused with the place inside it."""
    with pytest.raises(QueryError) as caught:
        parse_filter(written)
    assert caught.value.problems[0][0] == where
    assert words in caught.value.problems[0][1]


def test_all_mistakes_of_a_transform_are_told_at_once() -> None:
    """One look is enough to mend a sink's filter, fields, drop and redact."""
    with pytest.raises(QueryError) as caught:
        parse_transform(filter=5, fields="a", drop=[1], redact={"x": "hide"})
    assert [where[0] for where, _ in caught.value.problems] == ["filter", "fields", "drop", "redact"]


@pytest.mark.parametrize(
    "written",
    [
        {"client.id": "hash", "ip": "remove"},
        {"client": {"id": "hash"}, "ip": "remove"},
        [{"field": "client.id", "action": "hash"}, {"field": "ip", "action": "remove"}],
    ],
)
def test_redactions_may_be_a_table_or_a_list(written: Any) -> None:
    """An unquoted dotted key, which TOML reads as a nested table, means the same field."""
    expected = (Redaction(("client", "id"), "hash"), Redaction(("ip",), "remove"))
    assert parse_transform(redact=written).redact == expected


@pytest.mark.parametrize(
    "written",
    ["x", [1], [{"field": "a"}], [{"field": "a", "action": "x"}], [{"field": "a", "action": "hash"}] * 2, {"a": 1}],
)
def test_a_malformed_redaction_is_refused(written: Any) -> None:
    """A redaction that is not understood never passes for none."""
    with pytest.raises(QueryError):
        parse_transform(redact=written)


def test_every_operator_has_its_word() -> None:
    """The words of the documentation are the words of the parser."""
    words = {
        "eq": "x", "ne": 1, "gt": 1, "gte": "a", "lt": 1.5, "lte": 2, "exists": False, "in": [1, None], "contains": "x",
        "not_contains": 5, "starts_with": "x", "ends_with": "x", "regex": "^x",
    }  # fmt: skip
    for word, value in words.items():
        expected = Compare(("a",), Op(word), tuple(value) if isinstance(value, list) else value)
        assert parse_filter({"field": "a", word: value}) == expected
    assert {op.value for op in Op} == set(words)
    assert parse_filter({"and": [{"field": "a", "eq": 1}, {"field": "b", "eq": 2}]}) == And(
        (Compare(("a",), Op.EQ, 1), Compare(("b",), Op.EQ, 2))
    )


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"field": "a", "equals": 1}, "is no operator; write eq"),
        ({"field": "a", "not_equals": 1}, "is no operator; write ne"),
        ({"field": "a", "prefix": "x"}, "is no operator; write starts_with"),
        ({"field": "a", "suffix": "x"}, "is no operator; write ends_with"),
        ({"any": [{"field": "a", "eq": 1}]}, "is no operator; write or"),
        ({"all": [{"field": "a", "eq": 1}]}, "is no operator; write and"),
        ({"field": "a", "start_with": "x"}, 'did you mean "starts_with"?'),
    ],
)
def test_a_word_that_is_close_or_was_renamed_is_led_to_the_right_one(written: Any, words: str) -> None:
    """Who wrote an operator's former name, or nearly its name, is told the name."""
    with pytest.raises(QueryError, match=re.escape(words)):
        parse_filter(written)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"field": "a", "eq": float("nan")}, "no JSON number"),
        ({"field": "a", "in": [1, float("inf")]}, "no JSON number"),
        ({"field": "a", "eq": "\ud800"}, "half a character"),
        ({"field": "a\ud800", "eq": 1}, "half a character"),
        ({"field": ".".join("a" * 51), "eq": 1}, "at most 50"),
        ({"field": "a" * 1001, "eq": 1}, "at most 1,000"),
        ({"field": "a", "in": list(range(10_001))}, "at most 10,000"),
        ({"field": "a", "regex": "("}, "missing )"),
        ({"field": "a", "regex": "a" * 1001}, "at most 1,000"),
        ({"field": "a", "regex": r"(\pL{20}){20}"}, "too large"),
        ({"field": "a", "regex": "\ud800"}, "half a character"),
        ({"field": "a", "regex": ""}, "not a pattern"),
        ({"not": []}, "not a list of tables"),
        ({"or": [[]]}, "not a table"),
        ([{"field": "a", "regex": "x"}] * 21, "at most 20"),
    ],
)
def test_what_no_event_can_satisfy_or_is_too_large_is_refused(written: Any, words: str) -> None:
    """Each limit is named by the message that it causes."""
    with pytest.raises(QueryError, match=re.escape(words)):
        parse_filter(written)


@pytest.mark.parametrize(
    "table", [{"field": "a", "eq": 1}, {"field": "a", "equals": 1}, {"field": "a", "regex": "a"}, {"x" * 9_999: 1}, 5]
)
def test_ten_thousand_filters_are_refused_at_once(table: Any) -> None:
    """What is absurd costs no time, and its answer is short."""
    began = time.perf_counter()
    with pytest.raises(QueryError) as caught:
        parse_filter([table] * 10_000)
    assert time.perf_counter() - began < 0.5
    assert len(str(caught.value)) < 10_000


def test_a_thousand_comparisons_and_fifty_levels_are_let_in() -> None:
    """The limits are what they say."""
    parse_filter([{"field": "a", "eq": 1}] * 1000)
    with pytest.raises(QueryError, match="at most 1,000"):
        parse_filter([{"field": "a", "eq": 1}] * 1001)
    nested: Any = {"field": "a", "eq": 1}
    for _ in range(25):
        nested = {"not": {"or": [nested]}}
    expression = parse_filter(nested)
    assert expression is not None
    assert compile_filter(expression)(b'{"a":2}')
    with pytest.raises(QueryError, match="at most 50 levels"):
        parse_filter({"not": nested})


words = st.sampled_from(["field", "and", "or", "not", "eq", "in", "regex", "exists", "gt", "equals", "any"])
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("\ud800") | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words | st.text(max_size=3), inner, max_size=4),
)


@settings(deadline=None)
@given(junk)
def test_whatever_is_written_is_a_filter_or_refused(written: Any) -> None:
    """No JSON breaks the parser, and what it lets in can be compiled, stored and answered."""
    try:
        expression = parse_filter(written)
    except QueryError as error:
        assert error.problems
        return
    if expression is not None:
        assert from_data(json.loads(json.dumps(as_data(expression)))) == expression
        compile_filter(expression)(b'{"a":1}')


def test_a_value_of_any_depth_or_size_is_shown_short() -> None:
    """A message stays readable, whatever was sent."""
    deep: Any = []
    for _ in range(900):
        deep = [deep]
    for value in (deep, "x" * 1_000_000, 10**5000, list(range(10_000)), {str(at): at for at in range(10_000)}):
        with pytest.raises(QueryError) as caught:
            parse_filter({"field": "a", "exists": value})
        assert len(str(caught.value)) < 500
