"""Filters on single JSON lines, held against a slow evaluator that decodes everything."""

import datetime as dt
import json
import re
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eventferry.query import And, Compare, During, Expression, Not, Op, Or, compile_filter, select
from eventferry.query.expression import as_data, from_data, join_path, split_path

KEYS = ["a", "b", "a.b", 'q"', "é", "", "f_61", "back\\slash"]
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([1.0, 0.5, -0.0, 2**64, 2**70, 1e300])
    | st.sampled_from(["", "1", "a", "ab", "true", "é", "1e400"])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)
)
objects = st.dictionaries(st.sampled_from(KEYS), values, max_size=5)
paths = st.lists(st.sampled_from(KEYS), min_size=1, max_size=3).map(tuple)


@st.composite
def compares(draw: st.DrawFn) -> Compare:
    op = draw(st.sampled_from(list(Op)))
    path = draw(paths)
    if op is Op.IN:
        return Compare(path, op, tuple(draw(st.lists(scalars, min_size=1, max_size=3))))
    if op is Op.EXISTS:
        return Compare(path, op, draw(st.booleans()))
    if op is Op.REGEX:
        return Compare(path, op, draw(st.sampled_from(["a", "^a$", "b|1", "[aé]b?", "^$", "."])))
    if op in (Op.STARTS_WITH, Op.ENDS_WITH):
        return Compare(path, op, draw(st.sampled_from(["a", "b", "é", "1"])))
    return Compare(path, op, draw(scalars))


expressions: st.SearchStrategy[Expression] = st.recursive(
    compares(),
    lambda inner: (
        inner.map(Not)
        | st.lists(inner, max_size=3).map(lambda terms: And(tuple(terms)))
        | st.lists(inner, max_size=3).map(lambda terms: Or(tuple(terms)))
    ),
    max_leaves=5,
)


def oracle(expression: Expression, event: Any) -> bool:
    """The meaning of an expression, spelled out without any care for speed."""
    if isinstance(expression, Not):
        return not oracle(expression.term, event)
    if isinstance(expression, And):
        return all(oracle(each, event) for each in expression.terms)
    if isinstance(expression, Or):
        return any(oracle(each, event) for each in expression.terms)
    found = event
    for key in expression.path:
        found = found.get(key) if isinstance(found, dict) else None
    return oracle_compare(expression.op, found, expression.value)


def kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float) else type(value).__name__


def same(one: Any, two: Any) -> bool:
    return kind(one) == kind(two) and kind(one) not in ("list", "dict") and one == two


def oracle_compare(op: Op, found: Any, wanted: Any) -> bool:
    members = found if isinstance(found, list) else [found]
    match op:
        case Op.EQ:
            return any(same(each, wanted) for each in members)
        case Op.NE:
            return not oracle_compare(Op.EQ, found, wanted)
        case Op.IN:
            return any(oracle_compare(Op.EQ, found, each) for each in wanted)
        case Op.EXISTS:
            return (found is not None) == wanted
        case Op.CONTAINS if isinstance(found, str):
            return isinstance(wanted, str) and wanted in found
        case Op.CONTAINS:
            return isinstance(found, list) and any(same(each, wanted) for each in found)
        case Op.NOT_CONTAINS:
            return not oracle_compare(Op.CONTAINS, found, wanted)
        case Op.STARTS_WITH:
            return isinstance(found, str) and found.startswith(wanted)
        case Op.ENDS_WITH:
            return isinstance(found, str) and found.endswith(wanted)
        case Op.REGEX:
            return isinstance(found, str) and re.search(wanted, found) is not None
    if kind(found) != kind(wanted) or kind(found) not in ("number", "str"):
        return False
    return {Op.GT: found > wanted, Op.GTE: found >= wanted, Op.LT: found < wanted, Op.LTE: found <= wanted}[op]


@settings(deadline=None)
@given(expressions, objects, st.booleans())
def test_agrees_with_the_slow_evaluator(expression: Expression, event: dict[str, Any], ascii_only: bool) -> None:
    """Decoding only what a filter needs never changes its answer."""
    line = json.dumps(event, ensure_ascii=ascii_only).encode()
    assert compile_filter(expression)(line) is oracle(expression, event)


@settings(deadline=None)
@given(expressions)
def test_an_expression_survives_being_written_down(expression: Expression) -> None:
    """A stored filter means what it meant when it was stored."""
    assert from_data(json.loads(json.dumps(as_data(expression)))) == expression


@pytest.mark.parametrize(
    ("line", "op", "value", "expected"),
    [
        (b'{"x":1}', Op.EQ, "1", False),
        (b'{"x":true}', Op.EQ, 1, False),
        (b'{"x":1}', Op.EQ, True, False),
        (b'{"x":1.0}', Op.EQ, 1, True),
        (b'{"x":null}', Op.EQ, None, True),
        (b"{}", Op.EQ, None, True),
        (b"{}", Op.NE, "a", True),
        (b'{"x":["a","b"]}', Op.EQ, "b", True),
        (b'{"x":["ab"]}', Op.CONTAINS, "a", False),
        (b'{"x":1,"x":2}', Op.EQ, 2, True),
        (b'{"x":1e400}', Op.GT, 5, True),
        (b'{"x":5,"other":1e400}', Op.EQ, 5, True),
        (b'{"x":' + b"9" * 5000 + b"}", Op.GT, 5, True),
        (b'{"x":36893488147419103233}', Op.EQ, 36893488147419103232, False),
        (b'{"\\u0078":"\\u0061"}', Op.EQ, "a", True),
        (b'{"x":"2024-01-02T00:00:00Z"}', Op.GTE, "2024-01-02", True),
        (b'{"x":true}', Op.GTE, True, False),
    ],
)
def test_types_are_strict_and_legal_oddities_are_read(line: bytes, op: Op, value: Any, expected: bool) -> None:
    """1 is not "1", true is not 1, missing is null, and every legal number can be compared."""
    assert compile_filter(Compare(("x",), op, value))(line) is expected
    assert compile_filter(Compare(("x",), op, value))(line + b"\n") is expected


def test_a_path_may_end_where_another_goes_on() -> None:
    """Asking for a field and for something inside it works in one filter."""
    both = compile_filter(And((Compare(("a",), Op.EXISTS, True), Compare(("a", "b"), Op.EQ, 1))))
    assert both(b'{"a":{"b":1,"c":2}}')
    assert not both(b'{"a":{"b":2}}')
    assert not both(b'{"a":1}')


@settings(deadline=None)
@given(st.lists(st.text(), min_size=1).map(tuple))
@example(("a.b", "c/d", "~1"))
@example(("/a",))
def test_a_path_reads_back_from_its_dotted_form(path: tuple[str, ...]) -> None:
    """A key may hold dots, slashes and tildes."""
    assert split_path(join_path(path)) == path


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b"])
def test_a_path_without_a_key_is_refused(text: str) -> None:
    """Nothing is guessed from a malformed path."""
    with pytest.raises(ValueError, match="empty key"):
        split_path(text)


TIMES = ("at", "deep.at", "deep.er.at")
START = 1_700_000_000_000
clock_texts = st.datetimes(dt.datetime(1969, 12, 31), dt.datetime(1970, 1, 2)) | st.datetimes(
    dt.datetime(2023, 11, 14), dt.datetime(2023, 11, 16)
)
usable_times = (
    st.integers(START - 5, START + 5)
    | st.integers(-2, 2)
    | clock_texts.map(lambda moment: moment.isoformat(timespec="milliseconds") + "Z")
    | clock_texts.map(lambda moment: moment.isoformat(timespec="seconds") + "+02:00")
    | clock_texts.map(lambda moment: moment.isoformat(timespec="seconds"))
)
odd_times = st.sampled_from(["", "yesterday", "2023-02-30T00:00:00.000Z", "1700000000000", True, [], {}, 1e300, 2**70])
any_times = st.none() | usable_times | odd_times
timed_events = st.fixed_dictionaries(
    {},
    optional={
        "at": any_times,
        "deep": st.sampled_from([None, "x", 1, {}])
        | st.fixed_dictionaries({"at": any_times}, optional={"er": st.fixed_dictionaries({"at": any_times})}),
        "a": scalars,
    },
)
alike_events = st.one_of(
    [
        st.integers(START - 5, START + 5),
        clock_texts.map(lambda moment: moment.isoformat(timespec="milliseconds") + "Z"),
    ]
).map(lambda time: {"deep": {"at": time}})
bounds = (
    st.none() | st.integers(START - 4, START + 4) | st.sampled_from([0, 1, START - 86_400_000, 253_402_300_800_000])
)
spans = st.builds(During, bounds, bounds)


def oracle_time(value: Any) -> int | None:
    """Epoch milliseconds, spelled out; None where there is no usable time."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value) if 0 <= value < 253_402_300_800_000 else None
    match = (
        re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{3})?(Z|\+02:00)?", value)
        if isinstance(value, str)
        else None
    )
    if not match:
        return None
    try:
        moment = dt.datetime.strptime(match[1], "%Y-%m-%dT%H:%M:%S")
    except ValueError:
        return None
    since = moment - dt.datetime(1970, 1, 1)
    ms = (since.days * 86_400 + since.seconds) * 1000 + int((match[2] or ".000")[1:])
    ms -= 7_200_000 if match[3] == "+02:00" else 0
    return ms if ms >= 0 else None


def oracle_during(during: During, event: Any) -> bool:
    for field in TIMES:
        value = event
        for key in field.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        ms = oracle_time(value)
        if ms is not None:
            after = during.start_ms is None or during.start_ms <= ms
            return after and (during.end_ms is None or ms < during.end_ms)
    return False


@settings(deadline=None)
@given(spans, st.lists(timed_events, max_size=6) | st.lists(alike_events, min_size=1, max_size=6))
def test_the_events_of_a_time_are_those_of_the_slow_evaluator(during: During, events: list[Any]) -> None:
    """The first field with a usable time says when an event was, read alone, in lists and in whole bodies."""
    expected = [position for position, event in enumerate(events) if oracle_during(during, event)]
    lines = [json.dumps(event).encode() for event in events]
    body = b"".join(line + b"\n" for line in lines)
    for expression in (during, And((during, Compare(("a",), Op.NE, "never"))), Not(Not(during))):
        matches = compile_filter(expression, TIMES)
        assert [position for position, line in enumerate(lines) if matches(line)] == expected
        assert matches.positions(lines) == expected
        assert select(body, matches) == (b"".join(lines[position] + b"\n" for position in expected), expected)


@settings(deadline=None)
@given(expressions, st.lists(objects, max_size=6))
def test_a_body_is_narrowed_to_what_matches_line_by_line(expression: Expression, events: list[Any]) -> None:
    """Judging a whole body gives what judging each of its lines gives, its bytes untouched."""
    lines = [json.dumps(event).encode() for event in events]
    matches = compile_filter(expression)
    kept = [position for position, event in enumerate(events) if oracle(expression, event)]
    expected = b"".join(lines[position] + b"\n" for position in kept)
    assert select(b"".join(line + b"\n" for line in lines), matches) == (expected, kept)


def test_without_time_fields_no_event_happened_during_any_time() -> None:
    """A source that does not say where the time is has events without times."""
    assert not compile_filter(During(None, None))(b'{"at":1}')
    assert compile_filter(Not(During(None, None)))(b'{"at":1}')


def test_a_body_with_numbers_that_no_machine_holds_is_judged_as_well() -> None:
    """One odd line does not change the judgement of the others."""
    body = b'{"x":1e400,"at":1}\n{"x":4,"at":2}\n{"x":9}\n'
    assert select(body, compile_filter(Compare(("x",), Op.GT, 5))) == (b'{"x":1e400,"at":1}\n{"x":9}\n', [0, 2])
    assert select(body, compile_filter(During(1, 2), ("at", "x"))) == (b'{"x":1e400,"at":1}\n', [0])


def test_a_filter_of_a_thousand_deep_paths_is_compiled_quickly() -> None:
    """The largest filter that is let in costs neither seconds nor memory, and still means the same."""
    terms = tuple(Compare((*(f"k{at}" for _ in range(49)), "x"), Op.EXISTS, False) for at in range(1000))
    began = time.perf_counter()
    matches = compile_filter(And((*terms, Compare(("a", "b"), Op.EQ, 1))))
    assert matches(b'{"a":{"b":1}}')
    assert not matches(b'{"a":{"b":2}}')
    assert time.perf_counter() - began < 2
