"""Keen's filters, of version 2 as the document has them and of version 3."""

import json
import re
import time
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventferry.query import And, Compare, During, Not, Op, Or, QueryError, compile_filter
from eventferry.query.keen import parse_filters

AT = 1_344_884_400_000  # 2012-08-13T19:00Z
EXAMPLE = {"property_name": "body:amount", "operator": "gt", "property_value": 3.50}


def triple(name: Any, operator: Any, value: Any) -> dict[str, Any]:
    return {"property_name": name, "operator": operator, "property_value": value}


def test_the_filter_of_the_document_is_read() -> None:
    """Its example, with the prefix, is a comparison of the event's own property."""
    assert parse_filters([EXAMPLE], version=2) == Compare(("amount",), Op.GT, 3.5)
    assert parse_filters([], version=2) is None
    assert parse_filters([EXAMPLE, EXAMPLE], version=2) == And((Compare(("amount",), Op.GT, 3.5),) * 2)
    short = {"property_name": "body:amount", "operator": "gt", "value": 3.5}
    assert parse_filters([short], version=2) == Compare(("amount",), Op.GT, 3.5)


@pytest.mark.parametrize(
    ("version", "name", "path"),
    [
        (2, "body:user:email", ("user", "email")),
        (2, "user:email", ("user", "email")),
        (2, "body", ("body",)),
        (2, "body:body:x", ("body", "x")),
        (2, "body:a.b", ("a.b",)),
        (2, "header", ("header",)),
        (3, "user.email", ("user", "email")),
        (3, "body:x", ("body:x",)),
        (3, "keen.id", ("keen", "id")),
    ],
)
def test_paths_have_the_separator_of_their_version(version: Literal[2, 3], name: str, path: tuple[str, ...]) -> None:
    """Colons and the body prefix belong to version 2, dots to version 3."""
    assert parse_filters([triple(name, "eq", 1)], version=version) == Compare(path, Op.EQ, 1)


@pytest.mark.parametrize(("version", "name"), [(2, "header:timestamp"), (3, "keen.timestamp")])
@pytest.mark.parametrize(
    ("operator", "value", "expected"),
    [
        ("eq", "2012-08-13T19:00Z", During(AT, AT + 1)),
        ("ne", "2012-08-13T19:00:00.000Z", Not(During(AT, AT + 1))),
        ("gt", "2012-08-13T21:00+02:00", During(AT + 1, None)),
        ("gte", "2012-08-13T12:00-0700", During(AT, None)),
        ("lt", "2012-08-13T19:00", During(None, AT)),
        ("lte", "2012-08-13T19:00Z", During(None, AT + 1)),
        ("exists", True, During(None, None)),
        ("exists", False, Not(During(None, None))),
        ("in", ["2012-08-13T19:00Z", "2012-08-13T19:00:00.001Z"], Or((During(AT, AT + 1), During(AT + 1, AT + 2)))),
    ],
)
def test_the_timestamp_is_the_time_of_the_event(
    version: Literal[2, 3], name: str, operator: str, value: Any, expected: Any
) -> None:
    """Whatever field a source has its time in, it is compared as a time, not as text."""
    assert parse_filters([triple(name, operator, value)], version=version) == expected


TAKEN = {
    "eq": "snb", "ne": "sn", "lt": "sn", "gt": "sn", "lte": "n", "gte": "n", "exists": "b", "in": "SNBM",
    "contains": "snb", "not_contains": "snb", "regex": "s",
}  # fmt: skip
VALUES = {
    "s": "x", "n": 1.5, "b": True, "S": ["x"], "N": [1, 2.5], "B": [True], "M": [1, "x"], "0": None, "o": {}, "e": [],
    "d": [None], "D": [[1]],
}  # fmt: skip
LATER = ("contains", "not_contains", "regex")


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("operator", TAKEN)
@pytest.mark.parametrize("kind", VALUES)
def test_an_operator_takes_the_types_that_the_documents_give_it(
    version: Literal[2, 3], operator: str, kind: str
) -> None:
    """The table of operators and types is kept to the letter, in each version."""
    written = [triple("a", operator, VALUES[kind])]
    if kind in TAKEN[operator] and not (version == 2 and operator in LATER):
        value = VALUES[kind]
        expected = Compare(("a",), Op(operator), tuple(value) if isinstance(value, list) else value)
        assert parse_filters(written, version=version) == expected
    else:
        with pytest.raises(QueryError) as caught:
            parse_filters(written, version=version)
        at = "operator" if version == 2 and operator in LATER else "property_value"
        assert caught.value.problems[0][0] == (0, at)


@pytest.mark.parametrize(
    ("version", "written", "where", "words"),
    [
        (2, {"property_name": "a"}, (), "not a list"),
        (2, None, (), "not a list"),
        (2, ["a"], (0,), "not a filter"),
        (2, [{**EXAMPLE, "x": 1}], (0, "x"), "not part of a filter"),
        (2, [{**EXAMPLE, "value": 1}], (0, "value"), "twice"),
        (2, [{"property_name": "a", "operator": "eq"}], (0, "property_value"), "missing"),
        (2, [triple(None, "eq", 1)], (0, "property_name"), "missing"),
        (2, [triple(5, "eq", 1)], (0, "property_name"), "body:user:email"),
        (3, [triple(5, "eq", 1)], (0, "property_name"), "user.email"),
        (2, [triple("body:", "eq", 1)], (0, "property_name"), "empty part"),
        (2, [triple("", "eq", 1)], (0, "property_name"), "empty part"),
        (3, [triple("a..b", "eq", 1)], (0, "property_name"), "empty part"),
        (2, [triple("header:ip", "eq", 1)], (0, "property_name"), "'header:ip' is not known"),
        (2, [triple("a", None, 1)], (0, "operator"), "missing"),
        (2, [triple("a", [], 1)], (0, "operator"), "no operator"),
        (2, [triple("a", "neq", 1)], (0, "operator"), 'did you mean "ne"?'),
        (2, [triple("a", "contains", "x")], (0, "operator"), "in this version"),
        (2, [{"operator": "or", "operands": [EXAMPLE]}], (0, "operands"), "not part of a filter"),
        (3, [triple("a", "within", {})], (0, "operator"), "within is not supported"),
        (3, [triple("a", "starts_with", "x")], (0, "operator"), "no operator"),
        (2, [triple("a", "gte", "x")], (0, "property_value"), "gt and lt take texts"),
        (2, [triple("header:timestamp", "gt", "yesterday")], (0, "property_value"), "ISO 8601"),
        (2, [triple("header:timestamp", "gt", 5)], (0, "property_value"), "ISO 8601"),
        (2, [triple("header:timestamp", "exists", 5)], (0, "property_value"), "neither true nor false"),
        (2, [triple("header:timestamp", "in", ["2012-08-13", 5])], (0, "property_value", 1), "ISO 8601"),
        (2, [triple("header:timestamp", "in", 5)], (0, "property_value"), "list of values"),
        (3, [triple("keen.timestamp", "contains", "2012")], (0, "property_value"), "event's time"),
        (3, [{"operator": "or"}], (0,), 'no "or"'),
        (3, [{"operator": "or", "operands": []}], (0,), 'no "or"'),
        (3, [{"operator": "or", "operands": [{}]}], (0, "operands", 0, "operator"), "missing"),
    ],
)
def test_a_mistake_names_its_place_and_remedy(
    version: Literal[2, 3], written: Any, where: tuple[str | int, ...], words: str
) -> None:
    """Every malformed filter is refused with the place inside it."""
    with pytest.raises(QueryError) as caught:
        parse_filters(written, version=version)
    assert caught.value.problems[0][0] == where
    assert words in caught.value.problems[0][1]


def test_alternatives_of_version_3_may_be_nested() -> None:
    """One of the operands is enough; all entries of the list must hold."""
    written = [
        {"operator": "or", "operands": [triple("a", "eq", 1), {"operator": "or", "operands": [triple("b", "eq", 2)]}]},
        triple("c", "contains", "x"),
    ]
    assert parse_filters(written, version=3) == And(
        (Or((Compare(("a",), Op.EQ, 1), Or((Compare(("b",), Op.EQ, 2),)))), Compare(("c",), Op.CONTAINS, "x"))
    )


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ([triple("a", "eq", 1)] * 10_000, "at most 1,000"),
        ([triple("header:timestamp", "in", ["2012-08-13"] * 1001)], "at most 1,000"),
        ([triple("a", "in", [1] * 10_001)], "at most 10,000"),
    ],
)
def test_absurd_lists_are_refused_at_once(filters: Any, words: str) -> None:
    """What is absurd costs no time."""
    began = time.perf_counter()
    with pytest.raises(QueryError, match=re.escape(words)):
        parse_filters(filters, version=2)
    assert time.perf_counter() - began < 0.5


keys = st.sampled_from(["property_name", "operator", "property_value", "value", "operands"])
words = st.sampled_from(
    ["or", "eq", "in", "gte", "exists", "regex", "header:timestamp", "keen.timestamp", "body:a", "a"]
)
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just("\ud800") | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys | st.text(max_size=2), inner, max_size=4),
)
triples = st.builds(triple, words | junk, words | junk, junk)


@settings(deadline=None)
@given(st.lists(triples, max_size=3) | junk, st.sampled_from([2, 3]))
def test_whatever_is_written_is_a_filter_or_refused(written: Any, version: Literal[2, 3]) -> None:
    """No JSON breaks the parser, and what it lets in can be compiled and answered."""
    try:
        expression = parse_filters(written, version=version)
    except QueryError as error:
        assert json.dumps(error.problems)
        return
    if expression is not None:
        compile_filter(expression, ("a",))(b'{"a":1}')
