"""The form in which filters and transforms are written in the configuration."""

import datetime as dt
from typing import Any

import pytest

from eventferry.query import And, Compare, Not, Op, Or, QueryError, Redaction, parse_filter, parse_transform


def test_all_tables_of_a_list_must_hold() -> None:
    """The documented example means what it says."""
    written = [
        {"field": "event_type", "equals": "pageView"},
        {"field": "attributes.url", "prefix": "https://"},
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
    assert parse_filter({"any": [{"field": "a", "equals": 1}, {"field": "b", "equals": 2}]}) == Or((a, b))
    assert parse_filter({"not": {"field": "a", "equals": 1}}) == Not(a)
    assert parse_filter({"field": "a", "not_in": [1]}) == Not(Compare(("a",), Op.IN, (1,)))
    assert parse_filter([]) is None


@pytest.mark.parametrize(
    ("written", "where", "words"),
    [
        ("pageView", (), "is not a filter"),
        (["x"], (0,), "is not a table"),
        ([{"field": "a"}], (0,), "says nothing"),
        ([{"equals": 1}], (0, "field"), "is missing"),
        ([{"field": 5, "equals": 1}], (0, "field"), "no text"),
        ([{"field": "a..b", "equals": 1}], (0, "field"), "empty key"),
        ([{"field": "a", "equal": 1}], (0, "equal"), "one of equals"),
        ([{"field": "a", "in": "x"}], (0, "in"), "list of values"),
        ([{"field": "a", "in": [{}]}], (0, "in"), "not a text"),
        ([{"field": "a", "exists": "yes"}], (0, "exists"), "neither true nor false"),
        ([{"field": "a", "prefix": 5}], (0, "prefix"), "not a text"),
        ([{"field": "a", "gt": True}], (0, "gt"), "no order"),
        ([{"field": "a", "equals": dt.date(2024, 1, 2)}], (0, "equals"), "is a date"),
        ({"any": []}, ("any",), "list of tables"),
        ({"any": [{"field": "a", "equals": 1}], "x": 1}, (), "stand alone"),
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
