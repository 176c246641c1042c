"""Events as JSON lines of columns."""

import datetime as dt
import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventferry.sink.columns import DEFAULT_COLUMNS, Column
from eventferry.sink.kit.batches import FIELD_NAMES, NUL, NUMBERS, UNICODE, sample_events
from eventferry.sink.rows import Extractor
from eventferry.sink.wrapped import count_values, pack, timestamp_text, wrap

BATCH = "0" * 32


def _wrap(events, columns, **more):
    body = b"".join(event + b"\n" for event in events)
    rows = Extractor(columns).extract(body)
    return list(wrap(body, rows, columns, BATCH, **more))


def test_a_line_holds_what_is_known_and_the_event_as_it_came():
    """Columns first, those without a value left out, then the batch's id, then the event's own bytes."""
    columns = {
        "at": Column(path=("t",), type="timestamp"),
        "who": Column(path=("who",)),
        "n": Column(path=("n",), type="integer"),
        "x": Column(path=("x",), type="number"),
        "yes": Column(path=("yes",), type="boolean"),
        "more": Column(path=("more",), type="json"),
    }
    whole = (
        b'{"t":1714564800000,"who":"a \\"b\\"\\n\\u2028","n":9007199254740993,"x":0.5,"yes":true,"more":{"a": [1.0]}}'
    )
    assert _wrap([whole, b"{}"], columns) == [
        b'{"at":"2024-05-01 12:00:00.000000","who":"a \\"b\\"\\n\xe2\x80\xa8","n":9007199254740993,"x":0.5,"yes":true,'
        b'"more":{"a": [1.0]},"batch_id":"00000000000000000000000000000000","event":' + whole + b"}\n",
        b'{"batch_id":"00000000000000000000000000000000","event":{}}\n',
    ]


@pytest.mark.parametrize("columns", [{}, DEFAULT_COLUMNS], ids=["no columns", "default columns"])
def test_hostile_events_stay_whole_in_both_forms(columns):
    """Each event is one line, and comes back byte for byte from its text."""
    events = [*sample_events(3), *UNICODE, *NUL, *NUMBERS, *FIELD_NAMES]
    plain = _wrap(events, columns)
    assert all(line.endswith(b'"event":' + event + b"}\n") for line, event in zip(plain, events, strict=True))
    texts = _wrap(events, columns, as_text=True)
    assert [json.loads(line)["event"].encode() for line in texts] == events
    assert all(line.count(b"\n") == 1 for line in plain + texts)


@given(st.integers(-62135596800_000_000, 253402300799_999_999))
def test_a_time_is_what_datetime_says(microseconds):
    """From the year 1 to 9999, to the microsecond."""
    moment = dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=microseconds)
    assert timestamp_text(microseconds) == moment.isoformat(" ", "microseconds")


def test_a_packed_body_is_the_same_lines_whatever_its_size():
    """Cut into pieces or not: the lines of one wrap, the same bytes each time, misfits counted."""
    columns = {"n": Column(path=("n",), type="integer"), "odd": Column(path=("event_type",), type="integer")}
    events = sample_events(12_000)
    body = b"".join(event + b"\n" for event in events)
    packed, misfits = pack(body, columns, BATCH, as_text=True)
    assert gzip.decompress(packed).splitlines(keepends=True) == _wrap(events, columns, as_text=True)
    assert pack(body, columns, BATCH, as_text=True)[0] == packed
    assert misfits == {"odd": 12_000}
    assert len(body) > 1_500_000
    assert gzip.decompress(pack(b"", columns, BATCH)[0]) == b""


def test_what_is_left_out_can_be_counted():
    """Values that events have, not events; columns that nothing fills are not listed."""
    columns = {"n": Column(path=("n",), type="integer"), "none": Column(path=("none",))}
    assert count_values(b'{"n":1}\n{"n":"x"}\n{}\n{"n":2}\n', columns) == {"n": 2}
    assert count_values(b"{}\n", {}) == {}
