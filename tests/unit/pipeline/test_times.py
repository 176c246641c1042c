"""What counts as an event's time, alone and for whole chunks."""

import datetime as dt
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventferry.moments import to_epoch_ms
from eventferry.pipeline.times import DEFAULT_TIMES, Span, TimeDecoder, time_decoder

LAST = 253_402_300_799_999


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        (1_700_000_000_123, 1_700_000_000_123),
        (0, 0),
        (LAST, LAST),
        (1_700_000_000_123.9, 1_700_000_000_123),
        ("2023-11-14T22:13:20.123Z", 1_700_000_000_123),
        ("2023-11-14T22:13:20.123456Z", 1_700_000_000_123),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000),
        ("2023-11-14T23:13:20+01:00", 1_700_000_000_000),
        ("2023-11-14T22:13:20", 1_700_000_000_000),
        ("2023-11-14 22:13:20", 1_700_000_000_000),
        ("20231114T221320Z", 1_700_000_000_000),
        ("1970-01-01T00:00:00Z", 0),
        ("9999-12-31T23:59:59.999Z", LAST),
    ],
)
def test_a_usable_time_becomes_epoch_milliseconds(value: object, ms: int) -> None:
    """Numbers are epoch milliseconds; strings are ISO-8601, without an offset in UTC."""
    assert to_epoch_ms(value) == ms


@pytest.mark.parametrize(
    "value",
    [
        None, True, [], {}, [1], -1, LAST + 1, 10**30, -0.5, 1e300, float("nan"), float("inf"), "", "yesterday",
        "1700000000123", "2012121812345", "2023-13-01T00:00:00Z", "2023-02-30T00:00:00Z", "1969-12-31T23:59:59Z",
        "9999-12-31T23:59:59-10:00", "0001-01-01T00:00:00+10:00", "2023-11-14T22:13:20Z ", "\ud800", "２０２３-11-14",
    ],
)  # fmt: skip
def test_anything_else_is_unusable(value: object) -> None:
    """A time outside the years 1970 to 9999, or of another kind, is none; nothing raises."""
    assert to_epoch_ms(value) is None


def slow_span(times: list[object]) -> Span:
    found = [ms for ms in map(to_epoch_ms, times) if ms is not None]
    return Span(len(times) - len(found), min(found, default=None), max(found, default=None))


def iso(moment: dt.datetime) -> str:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000).isoformat(timespec="milliseconds") + "Z"


moments = st.datetimes(dt.datetime(1960, 1, 1), dt.datetime(9999, 12, 31)).map(iso)
ints = st.integers(-10, LAST + 10)
odd: st.SearchStrategy[object] = (
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5) | st.just([1])
)


@given(st.lists(ints) | st.lists(moments) | st.lists(ints | moments | odd))
def test_a_chunk_has_the_span_of_its_events(times: list[object]) -> None:
    """The quick way over a whole chunk finds what reading every time alone finds."""
    decoder = time_decoder(DEFAULT_TIMES)
    lines = [json.dumps({"event_timestamp": time}).encode() for time in times]
    assert decoder.span([decoder.decode(line) for line in lines]) == slow_span(times)


def test_the_first_usable_path_is_the_time() -> None:
    """Paths are tried in order, event by event; an unusable one gives way to the next."""
    decoder = time_decoder(DEFAULT_TIMES)
    events = [
        {"event_timestamp": 5, "timestamp": 1},
        {"event_timestamp": "odd", "timestamp": 6},
        {"keen": {"timestamp": 7}},
        {"keen": 1},
        {"keen": None, "timestamp": None},
    ]
    assert decoder.span([decoder.decode(json.dumps(event).encode()) for event in events]) == Span(2, 5, 7)


@pytest.mark.parametrize("path", ["timestamp", "keen.timestamp", "a.b.c", "@time", "event-time", "class", "a.0", "ö.ü"])
def test_any_dotted_path_can_be_the_time(path: str) -> None:
    """Names that are no identifiers, and nested ones, are found."""
    decoder = TimeDecoder(("missing", path))
    event: object = 1_700_000_000_000
    for name in reversed(path.split(".")):
        event = {name: event}
    lines = [json.dumps(event, ensure_ascii=False).encode()] * 3
    assert decoder.span(list(map(decoder.decode, lines))) == Span(0, 1_700_000_000_000, 1_700_000_000_000)
    assert decoder.of_odd_line(lines[0]) == 1_700_000_000_000


def test_a_path_may_lie_below_another_one() -> None:
    """`time` and `time.ms` can both be asked for."""
    decoder = TimeDecoder(("time", "time.ms"))
    lines = [b'{"time":5}', b'{"time":{"ms":6}}', b"{}"]
    assert decoder.span(list(map(decoder.decode, lines))) == Span(1, 5, 6)


def test_no_path_means_no_times() -> None:
    """Without a time field every event is untimed."""
    decoder = TimeDecoder(())
    assert decoder.span([decoder.decode(b'{"a":1}')] * 2) == Span(2, None, None)


def test_strings_of_one_shape_that_are_no_times_are_untimed() -> None:
    """Sorting as text is trusted only where the smallest and the largest are times."""
    decoder = TimeDecoder(("t",))
    texts = ["2023-11-14T22:13:20Z", "2023-99-14T22:13:20Z"]
    assert decoder.span([decoder.decode(b'{"t":"%s"}' % text.encode()) for text in texts]).untimed == 1


def test_an_odd_line_has_its_next_usable_time() -> None:
    """A number that is no time hides neither the event nor a good second path."""
    decoder = time_decoder(DEFAULT_TIMES)
    assert decoder.of_odd_line(b'{"event_timestamp":1e400,"timestamp":7}') == 7
    assert decoder.of_odd_line(b'{"event_timestamp":' + b"1" * 5000 + b',"keen":{"timestamp":8}}') == 8
    assert decoder.of_odd_line(b'{"event_timestamp":1e400}') is None


def test_a_time_with_a_nul_in_it_is_none():
    """What follows a NUL is not looked at by Python's own parser, so such a text is no time."""
    assert to_epoch_ms("2026-01-01T00:00:00Z\0junk") is None
