"""The columns of events are what a slow reading of their JSON gives, whatever their shape."""

import datetime as dt
import json
import math
import re
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eventferry.sink.columns import Column
from eventferry.sink.rows import Extractor

NOTHING = object()
MISFIT = object()
TYPES = ("text", "integer", "number", "boolean", "timestamp", "json")

# -- events as text, so that spellings, repeated keys and odd white space are among them

KEYS = st.sampled_from(["a", "b", "c", "a.b", "0", "1", "~", "/", "\u00e4", ""])
ODD_NUMBERS = """
    0 -0 -0.0 1e400 -1e400 1E5 1e-400 9223372036854775807 9223372036854775808 -9223372036854775808 -9223372036854775809
    18446744073709551616 123456789012345678901234567890 253402300799999 253402300800000 1714564800000 1.0
    12345678901234567.5
"""
ODD_TEXTS = """
    12 -7 1.5 1e3 nan inf 0x1 true false 2024-05-01T12:00:00Z 2024-05-01 2024-05-01T14:00:00+02:00 20240501
    1714564800000
    2024-05-01T12:00:00.123456 9999-12-31T23:59:59-01:00 0001-01-01T00:00:00+01:00 99999999999999999999
"""
NUMBERS = st.one_of(
    st.sampled_from(ODD_NUMBERS.split()),
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
)
TEXTS = st.one_of(st.sampled_from([*ODD_TEXTS.split(), "", " 1", "1 ", "1\n", "\u0661", "\x00"]), st.text(max_size=8))
SPACES = st.sampled_from(["", "", "", " ", "\r", "\t"])


def _text_of(text, is_ascii):
    return json.dumps(text, ensure_ascii=is_ascii)


def _joined(opening, items, closing, space):
    return opening + space + f"{space},".join(items) + space + closing


LEAVES = st.one_of(st.sampled_from(["null", "true", "false"]), NUMBERS, st.builds(_text_of, TEXTS, st.booleans()))


def _objects(values):
    pairs = st.builds(lambda key, space, value: f"{json.dumps(key)}{space}:{space}{value}", KEYS, SPACES, values)
    return st.builds(_joined, st.just("{"), st.lists(pairs, max_size=5), st.just("}"), SPACES)


def _more(values):
    return st.one_of(
        _objects(values), st.builds(_joined, st.just("["), st.lists(values, max_size=3), st.just("]"), SPACES)
    )


VALUES = st.recursive(LEAVES, _more, max_leaves=8)
EVENTS = st.builds(lambda text, end: text + end, _objects(VALUES), SPACES)
PATHS = st.one_of(
    st.lists(st.sampled_from(["a", "b", "c", "0", "1"]), min_size=1, max_size=3).map(".".join),
    st.lists(st.sampled_from(["a", "a.b", "~0", "~1", "0", ""]), min_size=1, max_size=3).map(
        lambda x: "/" + "/".join(x)
    ),
)
COLUMNS = st.lists(st.tuples(st.lists(PATHS, min_size=1, max_size=3), st.sampled_from(TYPES)), min_size=1, max_size=4)


# -- the slow reading


def _reached(event, path):
    steps = path.split(".")
    if path.startswith("/"):
        steps = [step.replace("~1", "/").replace("~0", "~") for step in path[1:].split("/")]
    for step in steps:
        if isinstance(event, dict):
            event = event.get(step)
        elif isinstance(event, list) and re.fullmatch("[0-9]+", step) and int(step) < len(event):
            event = event[int(step)]
        else:
            return None
    return event


def _fitting(kind, value):
    """The column's value, None or MISFIT, by the type's rule in words of Python's own JSON."""
    if value is None:
        return None
    if kind in ("text", "json"):
        return value  # compared by what it says, below
    if kind == "boolean":
        known = {"true": True, "false": False}
        return value if isinstance(value, bool) else known.get(value, MISFIT) if isinstance(value, str) else MISFIT
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        return MISFIT
    if kind == "number":
        return _as_number(value)
    whole = int(value) if isinstance(value, str) and re.fullmatch("-?[0-9]{1,19}", value) else value
    if isinstance(whole, int):
        if kind == "integer":
            return whole if -(2**63) <= whole < 2**63 else MISFIT
        return whole * 1000 if -62135596800000 <= whole <= 253402300799999 else MISFIT
    return _as_time(value) if kind == "timestamp" and isinstance(value, str) else MISFIT


def _as_number(value):
    if isinstance(value, str):
        if not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", value):
            return MISFIT
        value = Decimal(value)
    try:
        number = float(value)
    except OverflowError:
        return MISFIT
    return number if math.isfinite(number) else MISFIT


def _as_time(text):
    if not re.match("[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        return MISFIT
    try:
        moment = dt.datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
        since = (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
        return since if -62135596800000000 <= since < 253402300800000000 else MISFIT
    except (ValueError, OverflowError):
        return MISFIT


def _expected(event, paths, kind):
    found = [_fitting(kind, _reached(event, path)) for path in paths]
    fits = [each for each in found if each is not None and each is not MISFIT]
    return fits[0] if fits else MISFIT if MISFIT in found else None


def _agrees(kind, value, expected):
    if expected is MISFIT or expected is None or value is None:
        return value is None and (expected is MISFIT or expected is None)
    if kind == "json":
        return isinstance(value, str) and _parsed(value) == expected
    if kind == "text":
        if isinstance(expected, str):
            return value == expected
        spelt = {True: "true", False: "false"}.get(expected) if isinstance(expected, bool) else None
        return value == spelt if spelt else _parsed(value) == expected
    return type(value) is type(expected) and value == expected


def _parsed(text):
    return json.loads(text, parse_float=Decimal)


def _check(events, columns):
    extractor = Extractor({f"c{n}": Column(path=paths, type=kind) for n, (paths, kind) in enumerate(columns)})
    rows = extractor.extract("".join(event + "\n" for event in events).encode())
    for number, (paths, kind) in enumerate(columns):
        expected = [_expected(_parsed(event), paths, kind) for event in events]
        assert len(rows.values[number]) == len(events)
        for value, wanted, event in zip(rows.values[number], expected, events, strict=True):
            assert _agrees(kind, value, wanted), (paths, kind, value, wanted, event)
        assert rows.misfits[f"c{number}"] == sum(each is MISFIT for each in expected), (paths, kind)


@settings(max_examples=200)
@given(st.lists(EVENTS, max_size=6), COLUMNS)
@example(['{"a":1e400}'], [(["a"], "number"), (["a"], "text"), (["a"], "json")])
@example(['{"a":{"b":1},"a":2}'], [(["a.b"], "integer")])
@example(['{"a":{"b":1}}', '{"a":2}'], [(["a.b", "a"], "integer"), (["a"], "json"), (["a.b"], "text")])
@example(['{"a":1.5}', '{"a":-1e400}', '{"a":2.5}'], [(["a"], "number")])
@example(["{}\r", '{"a":"x"\r}'], [(["a"], "text")])
def test_the_fast_reading_is_the_slow_one(events, columns):
    """Every value of every column, and how many did not fit, as json.loads and a rule in plain words have it."""
    _check(events, columns)


@settings(max_examples=15)
@given(st.lists(EVENTS, min_size=1, max_size=4), COLUMNS, st.sampled_from([5_000, 20_000, 300_000]))
def test_bodies_of_many_chunks_are_read_the_same(events, columns, size):
    """Where the body is decoded piece by piece, no event is lost, doubled or moved."""
    filler = f'{{"c":"{"x" * size}"}}'
    _check([each for event in events for each in (event, filler, event)], columns)


@pytest.mark.parametrize("depth", [100, 900, 5_000])
def test_arrays_within_arrays_stop_nothing(depth):
    """What is nested deeper than it can be read fits no column, and its neighbours are untouched."""
    deep = '{"a":' + "[" * depth + "1" + "]" * depth + ',"b":1}'
    extractor = Extractor({"a": Column(path=("a",), type="integer"), "b": Column(path=("b",), type="integer")})
    rows = extractor.extract(f'{{"a":1,"b":2}}\n{deep}\n{{"a":3,"b":4}}\n'.encode())
    assert rows.values[0] == [1, None, 3]
    assert rows.values[1] in ([2, 1, 4], [2, None, 4])


def test_no_columns_and_no_events_are_fine():
    """An empty body has no rows, and a table without columns no values."""
    assert Extractor({}).extract(b"{}\n").values == []
    assert Extractor({"a": Column(path=("a",))}).extract(b"").values == [[]]


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-00:01"])
def test_a_moment_that_an_offset_takes_out_of_the_calendar_does_not_fit(time):
    """Its digits are a date, but in UTC it lies before year 1 or after 9999, which no database and no text can hold."""
    columns = {"at": Column(path=("at",), type="timestamp")}
    rows = Extractor(columns).extract(b'{"at":"%b"}\n{"at":"9999-12-31T23:59:59.999999Z"}\n' % time.encode())
    assert rows.values == [[None, 253402300799999999]]
    assert rows.misfits == {"at": 1}
