"""Makes an Arrow table of events: the configured columns, the raw event and the batch's id."""

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING

from eventferry.sink.columns import BATCH_ID, EVENT, Column
from eventferry.sink.errors import BatchRejected, BatchTooLarge
from eventferry.sink.rows import Extractor, Rows

if TYPE_CHECKING:
    import pyarrow as pa

_CHUNK = 4 * 1024 * 1024  # bytes of body whose lines are separate objects at one time
_LARGEST = 2**31 - 1  # bytes that a column of Arrow's `string` holds in one piece


def schema_of(columns: Mapping[str, Column]) -> "pa.Schema":
    """The fields of such a table. Texts and JSON are `string`, times `timestamp[us, tz=UTC]`, all of them nullable."""
    import pyarrow as pa

    types = {
        "text": pa.string(),
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
        "timestamp": pa.timestamp("us", "UTC"),
        "json": pa.string(),
    }
    fields = [pa.field(name, types[column.type]) for name, column in columns.items()]
    return pa.schema([*fields, pa.field(EVENT, pa.string()), pa.field(BATCH_ID, pa.string())])


def table_of(
    body: bytes, columns: Mapping[str, Column], batch_id: str, extractor: Extractor
) -> tuple["pa.Table", Counter[str]]:
    """The events of `body` (NDJSON) as a table of `columns`, `event` and `batch_id`, in their order.

    `extractor` is one for the same columns. The counter says how many values of a column did not fit; they are NULL
    there. Raises BatchRejected where the body is not UTF-8, BatchTooLarge from 2 GiB on.
    """
    rows = extractor.extract(body)
    return table_from(body, rows, columns, batch_id), rows.misfits


def table_from(body: bytes, rows: Rows, columns: Mapping[str, Column], batch_id: str) -> "pa.Table":
    """The same with the columns' values taken out before."""
    import pyarrow as pa

    if len(body) > _LARGEST:
        raise BatchTooLarge(f"the batch has {len(body)} bytes; a column of texts takes {_LARGEST}")
    schema = schema_of(columns)
    values = [pa.array(each, field.type) for each, field in zip(rows.values, schema, strict=False)]
    events = _events(body)
    return pa.table([*values, events, pa.repeat(pa.scalar(batch_id), len(events))], schema=schema)


def _events(body: bytes) -> "pa.ChunkedArray":
    """The lines as texts, without a Python object for each of them where that is possible."""
    import pyarrow as pa
    import pyarrow.csv

    # A CSV of one column, whose separator is a byte that no JSON text holds; a CR would end a line of it.
    if body and b"\r" not in body and b"\x01" not in body:
        try:
            table: pa.Table = pyarrow.csv.read_csv(
                pa.BufferReader(body),
                read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=_CHUNK, column_names=[EVENT]),
                parse_options=pyarrow.csv.ParseOptions(delimiter="\x01", quote_char=False, double_quote=False),
                convert_options=pyarrow.csv.ConvertOptions(column_types={EVENT: pa.string()}),
            )
        except pa.ArrowInvalid:  # an event longer than a block, or not UTF-8
            return pa.chunked_array(list(_split(body)), pa.string())
        return table.column(0)
    return pa.chunked_array(list(_split(body)), pa.string())


def _split(body: bytes) -> Iterator["pa.StringArray"]:
    """The same for any body, as arrays over one copy of its bytes."""
    import pyarrow as pa

    start = 0
    while start < len(body):
        end = body.find(b"\n", min(start + _CHUNK, len(body)) - 1) + 1 or len(body)
        chunk = body[start:end]
        lines = chunk.split(b"\n")
        lines.pop()
        ends = pa.py_buffer(array("i", accumulate(map(len, lines), initial=0)))
        events = pa.StringArray.from_buffers(len(lines), ends, pa.py_buffer(chunk.replace(b"\n", b"")))
        try:
            events.validate(full=True)
        except pa.ArrowInvalid:
            raise BatchRejected("an event is not UTF-8") from None
        yield events
        start = end
