"""Rows of conditions as filters, and filters in words."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventferry.console import conditions
from eventferry.console.conditions import OPERATORS, Row
from eventferry.query import QueryError, parse_filter

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["field", "eq", "or", "not", "exists", "x"]), inner, max_size=3)
    ),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("row", "term"),
    [
        (Row("a.b", "eq", "pageView"), {"field": "a.b", "eq": "pageView"}),
        (Row("n", "eq", "42"), {"field": "n", "eq": 42}),
        (Row("n", "eq", "-0.5"), {"field": "n", "eq": -0.5}),
        (Row("n", "eq", "007"), {"field": "n", "eq": "007"}),
        (Row("n", "eq", "1e999"), {"field": "n", "eq": "1e999"}),
        (Row("n", "eq", "٣"), {"field": "n", "eq": "٣"}),
        (Row("n", "eq", "True"), {"field": "n", "eq": True}),
        (Row("id", "eq", "42", "text"), {"field": "id", "eq": "42"}),
        (Row("id", "starts_with", "42"), {"field": "id", "starts_with": "42"}),
        (Row("id", "in", "1, x ,true,"), {"field": "id", "in": [1, "x", True]}),
        (Row("id", "not_in", "1,2", "text"), {"field": "id", "not_in": ["1", "2"]}),
        (Row("id", "exists", "ignored"), {"field": "id", "exists": True}),
        (Row("id", "missing"), {"field": "id", "exists": False}),
    ],
)
def test_a_row_becomes_a_term_with_a_typed_value(row: Row, term: dict[str, Any]) -> None:
    assert conditions.as_filter([Row(), row], "all") == [term]
    assert parse_filter([term]) is not None


def test_any_of_several_rows_is_an_or() -> None:
    rows = [Row("a", "eq", "1"), Row(), Row("b", "eq", "2")]
    assert conditions.as_filter(rows, "any") == [{"or": [{"field": "a", "eq": 1}, {"field": "b", "eq": 2}]}]
    assert conditions.as_filter([], "any") == []


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (Row("", "eq", "1"), "condition 1 has a value but no field"),
        (Row("n", "gt", "many", "number"), "'many' is not a number"),
        (Row("n", "eq", "maybe", "boolean"), "neither true nor false"),
        (Row("n", "in", " , "), "one value or more"),
        (Row("n", "like", "x"), "'like' is not an operator"),
    ],
)
def test_what_a_row_lacks_is_said(row: Row, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        conditions.as_filter([row], "all")


@given(
    st.text(max_size=20), st.sampled_from(sorted(OPERATORS)), st.text(max_size=20), st.sampled_from(["auto", "text"])
)
def test_whatever_is_typed_is_a_filter_or_a_sentence(field: str, op: str, value: str, kind: str) -> None:
    try:
        parse_filter(conditions.as_filter([Row(field, op, value, kind)], "all"))
    except (ValueError, QueryError) as error:
        assert str(error)


@given(JSON)
def test_any_stored_filter_can_be_described(data: object) -> None:
    assert isinstance(conditions.describe(data), str)


def test_plain_filters_are_described_in_words() -> None:
    filter_ = [{"field": "event_type", "eq": "pageView"}, {"field": "n", "gte": 5}, {"field": "x", "exists": False}]
    assert conditions.describe(filter_) == "event_type is pageView, n is at least 5, x is missing"
    assert conditions.describe([{"or": filter_[:2]}]) == "event_type is pageView or n is at least 5"


@pytest.mark.parametrize("text", ["[", "NaN", "[1,]", "[" * 100_000, '{"a": 1e9999x}'])
def test_what_is_no_json_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not JSON|nested too deeply"):
        conditions.parse_json(text)
