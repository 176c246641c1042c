"""What goes into COPY is what the events say, whatever stands in them."""

import json
import re
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from eventferry.sink.columns import Column
from eventferry_sinks.postgres import encoding
from eventferry_sinks.postgres.encoding import Encoder

COLUMNS = {
    "t": Column(path=("t",)),
    "n": Column(path=("n",), type="integer"),
    "f": Column(path=("f",), type="number"),
    "b": Column(path=("b",), type="boolean"),
    "at": Column(path=("at",), type="timestamp"),
    "j": Column(path=("j",), type="json"),
}
UNESCAPED = {"\\t": "\t", "\\n": "\n", "\\r": "\r", "\\\\": "\\"}


def rows_of(text):
    """What the server reads: fields between tabs, `\\N` for NULL, backslashes undone."""
    assert text.endswith(b"\n")
    for line in text.decode().removesuffix("\n").split("\n"):
        yield [
            None if field == "\\N" else re.sub(r"\\.", lambda found: UNESCAPED[found[0]], field)
            for field in line.split("\t")
        ]


def encode(lines, columns=COLUMNS, discarded=()):
    encoder = Encoder(columns, discarded)
    rows = list(rows_of(b"".join(encoder.blocks(b"".join(line + b"\n" for line in lines), "id"))))
    assert all(len(row) == len(encoder.names) for row in rows)
    return encoder, [dict(zip(encoder.names, row, strict=True)) for row in rows]


texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]) | st.sampled_from("\\\t\n\r\x00N."))


@given(st.lists(st.none() | texts, min_size=1, max_size=30), st.integers(1, 400))
def test_texts_and_events_come_through(values, block):
    """Every text and every event is read as it was, over any borders of blocks; a text with a NUL is a misfit."""
    lines = [json.dumps({"t": value}, ensure_ascii=False, indent=None).encode() for value in values]
    was, encoding.BLOCK = encoding.BLOCK, block
    try:
        encoder, rows = encode(lines)
    finally:
        encoding.BLOCK = was
    assert [row["event"].encode() for row in rows] == lines
    assert [row["t"] for row in rows] == [None if value and "\x00" in value else value for value in values]
    assert encoder.misfits == Counter({"t": n} if (n := sum("\x00" in (value or "") for value in values)) else {})


def test_spaces_between_tokens_stay():
    """Tabs and carriage returns, which JSON allows there, are part of the event."""
    line = b'{\t"t" :\r"a\\tb"\t}\r'
    _, (row,) = encode([line])
    assert (row["event"], row["t"]) == (line.decode(), "a\tb")


def test_values_are_written_as_the_server_reads_them():
    """Numbers, booleans, times to the microsecond in all years, JSON as it stands; the rest is NULL and counted."""
    encoder, rows = encode(
        [
            b'{"n":-9223372036854775808,"f":1e22,"b":true,"at":1714564800123,"j":{"a": [1, 2.50]}}',
            b'{"n":"7","f":0.1,"b":false,"at":"2024-05-01T14:00:00.000001+02:00","j":"\\u00e9\\n"}',
            b'{"n":0.5,"f":"x","b":"maybe","at":"0001-01-01","j":null}',
            b"{}",
        ]
    )
    found = [[row[name] for name in ("n", "f", "b", "at", "j")] for row in rows]
    assert found[0] == ["-9223372036854775808", "1e+22", "True", "2024-05-01 12:00:00.123000", '{"a": [1, 2.50]}']
    assert found[1][:4] == ["7", "0.1", "False", "2024-05-01 12:00:00.000001"]
    assert json.loads(found[1][4]) == "é\n"
    assert found[2] == [None, None, None, "0001-01-01 00:00:00.000000", None]
    assert found[3] == [None] * 5
    assert encoder.misfits == {"n": 1, "f": 1, "b": 1}


def test_discarded_columns_are_counted():
    """What the table lacks is left out, and its values are counted, anew for every batch."""
    encoder, rows = encode([b'{"t":"a","n":1}', b'{"t":"b"}', b'{"n":2}'], discarded=("t",))
    assert "t" not in rows[0]
    assert encoder.left_out == {"t": 2}
    list(encoder.blocks(b"{}\n", "id"))
    assert not +encoder.left_out


def test_without_columns():
    """The batch's id and the event are enough."""
    _, rows = encode([b"{}", b'{"a":1}'], columns={})
    assert rows == [{"batch_id": "id", "event": "{}"}, {"batch_id": "id", "event": '{"a":1}'}]
