"""Connect's filters: an object by path."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventferry.query import And, Compare, Op, QueryError, compile_filter
from eventferry.query.connect import parse_filter


def test_the_filter_of_the_document_is_read() -> None:
    """A scalar is compared for equality, several operators must all hold, an empty filter asks for nothing."""
    assert parse_filter({"product": "apple"}) == Compare(("product",), Op.EQ, "apple")
    assert parse_filter({"user.city": "x", "price": {"gte": 10, "lt": 20.5}}) == And(
        (Compare(("user", "city"), Op.EQ, "x"), Compare(("price",), Op.GTE, 10), Compare(("price",), Op.LT, 20.5))
    )
    assert parse_filter({}) is None
    assert parse_filter({"or": "x"}) == Compare(("or",), Op.EQ, "x")


OPS = {
    "eq": Op.EQ, "neq": Op.NE, "gt": Op.GT, "gte": Op.GTE, "lt": Op.LT, "lte": Op.LTE, "exists": Op.EXISTS, "in": Op.IN,
    "startsWith": Op.STARTS_WITH, "endsWith": Op.ENDS_WITH, "endsWidth": Op.ENDS_WITH, "contains": Op.CONTAINS,
}  # fmt: skip
VALUES = {
    "s": "x", "n": 1.5, "b": False, "S": ["x", "y"], "N": [1, 2.5], "B": [True, False], "M": [1, "x"], "T": [1, True],
    "0": None, "o": {}, "e": [], "d": [None], "D": [[1]], "q": "", "i": float("nan"),
}  # fmt: skip
TAKEN = {
    "eq": "snbq", "neq": "snbq", "gt": "n", "gte": "n", "lt": "n", "lte": "n", "exists": "b", "in": "SNB",
    "startsWith": "s", "endsWith": "s", "endsWidth": "s", "contains": "s",
}  # fmt: skip


@pytest.mark.parametrize("word", OPS)
@pytest.mark.parametrize("kind", VALUES)
def test_an_operator_takes_the_types_that_the_documents_give_it(word: str, kind: str) -> None:
    """Order is among numbers, searching is for texts, a list is of one type; null is nowhere."""
    value = VALUES[kind]
    if kind in TAKEN[word]:
        assert parse_filter({"a": {word: value}}) == Compare(
            ("a",), OPS[word], tuple(value) if isinstance(value, list) else value
        )
    else:
        with pytest.raises(QueryError) as caught:
            parse_filter({"a": {word: value}})
        assert caught.value.problems[0][0] == ("a", word)


@pytest.mark.parametrize(
    ("written", "where", "words"),
    [
        (None, (), "is not a filter"),
        ([{"a": 1}], (), "is not a filter"),
        ({"a": [1, 2]}, ("a",), 'write {"in": [1, 2]}'),
        ({"a": {}}, ("a",), "has no operator"),
        ({"a": None}, ("a",), '{"exists": false}'),
        ({"a..b": 1}, ("a..b",), "empty part"),
        ({"": 1}, ("",), "empty part"),
        ({"or": [{"a": 1}]}, ("or",), "neither or, not nor nesting"),
        ({"$and": [{"a": 1}]}, ("$and",), "neither or, not nor nesting"),
        ({"not": {"a": 1}}, ("not",), "neither or, not nor nesting"),
        ({"a": {"not": {"eq": 1}}}, ("a", "not"), "neither or, not nor nesting"),
        ({"a": {"ne": 1}}, ("a", "ne"), 'did you mean "neq"?'),
        ({"a": {"city": "x"}}, ("a", "city"), "dotted path"),
        ({"a": {"regex": "x"}}, ("a", "regex"), "is no operator"),
        ({"a": {"in": [1, "1"]}}, ("a", "in"), "mixes types"),
    ],
)
def test_a_mistake_names_its_place_and_remedy(written: Any, where: tuple[str, ...], words: str) -> None:
    """Every malformed filter is refused with the place inside it."""
    with pytest.raises(QueryError) as caught:
        parse_filter(written)
    assert caught.value.problems[0][0] == where
    assert words in caught.value.problems[0][1]


def test_ten_thousand_entries_are_refused_at_once() -> None:
    """What is absurd costs no time."""
    began = time.perf_counter()
    with pytest.raises(QueryError, match="at most 1,000"):
        parse_filter({f"p{at}": at for at in range(10_000)})
    assert time.perf_counter() - began < 0.5


words = st.sampled_from(["or", "a", "eq", "neq", "in", "gt", "exists", "contains", "endsWidth"])
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just("\ud800") | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words | st.text(max_size=2), inner, max_size=4),
)


@settings(deadline=None)
@given(junk)
def test_whatever_is_written_is_a_filter_or_refused(written: Any) -> None:
    """No JSON breaks the parser, and what it lets in can be compiled and answered."""
    try:
        expression = parse_filter(written)
    except QueryError as error:
        assert json.dumps(error.problems)
        return
    if expression is not None:
        compile_filter(expression)(b'{"a":1}')
