"""Events as an Arrow table."""

import datetime as dt
import subprocess
import sys

import pyarrow as pa
import pytest

from eventferry.sink import BatchRejected
from eventferry.sink.arrow import _CHUNK, schema_of, table_of
from eventferry.sink.columns import DEFAULT_COLUMNS, Column
from eventferry.sink.kit.batches import FIELD_NAMES, NUL, NUMBERS, UNICODE, sample_events
from eventferry.sink.rows import Extractor

TYPES = ("text", "integer", "number", "boolean", "timestamp", "json")


def _table(events, columns=DEFAULT_COLUMNS):
    return table_of(b"".join(event + b"\n" for event in events), columns, "id", Extractor(columns))


def test_columns_have_the_types_of_the_options():
    """A value of another type is NULL and counted; the raw event and the batch's id are in every row."""
    columns = {kind: Column(path=("v",), type=kind) for kind in TYPES}
    table, misfits = _table([b'{"v":12}', b'{"v":"soon"}', b'{"v":{"a": 1.0}}', b'{"v":true}', b"{}"], columns)
    moment = dt.datetime(1970, 1, 1, 0, 0, 0, 12000, dt.UTC)
    assert table.schema == schema_of(columns)
    assert table.schema.field("timestamp").type == pa.timestamp("us", "UTC")
    assert table.drop(["event", "batch_id"]).to_pydict() == {
        "text": ["12", "soon", '{"a": 1.0}', "true", None],
        "integer": [12, None, None, None, None],
        "number": [12.0, None, None, None, None],
        "boolean": [None, None, None, True, None],
        "timestamp": [moment, None, None, None, None],
        "json": ["12", '"soon"', '{"a": 1.0}', "true", None],
    }
    assert misfits == {"integer": 3, "number": 3, "boolean": 3, "timestamp": 3}
    assert table.column("batch_id").to_pylist() == ["id"] * 5


@pytest.mark.parametrize(
    "events",
    [
        [*UNICODE, *NUL, *NUMBERS, *FIELD_NAMES],
        [b'{"a":"with, commas; and \\t tabs","b":"\\"quoted\\""}', b'{"c":1,\r"d":2}', b'{\r"e":3}'],
        [b'{"a":"' + b"x" * (_CHUNK + 10) + b'"}', b"{}"],
        sample_events(40_000),
        [],
    ],
    ids=["hostile", "carriage returns", "longer than a block", "many", "none"],
)
def test_raw_events_keep_every_byte(events):
    """Whatever an event is, its line comes back as it was, in its place."""
    table, _ = _table(events)
    assert [event.encode() for event in table.column("event").to_pylist()] == events


def test_what_is_not_utf8_is_refused_by_name():
    """No file is written that its readers choke on; the daemon finds the event."""
    with pytest.raises(BatchRejected, match="UTF-8"):
        _table([b"{}", b'{"a":"\xff"}'], {})


def test_the_module_costs_nothing_until_it_is_used():
    """Importing it does not import pyarrow."""
    modules = "eventferry.sink.arrow, eventferry_sinks.object_store.sink"
    code = f"import sys, {modules}; print('pyarrow' in sys.modules, 'boto3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
