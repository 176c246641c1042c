"""Events as the bytes of an object: NDJSON as it came, CSV, or Parquet; the same events give the same bytes."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, Protocol

from eventferry.sink import SinkMisconfigured
from eventferry.sink.arrow import table_from
from eventferry.sink.columns import BATCH_ID, EVENT, Column
from eventferry.sink.libraries import load
from eventferry.sink.packing import ENDINGS, compress
from eventferry.sink.rows import Rows
from eventferry_sinks.object_store.delimited import csv_of

_ROW_GROUP = 64 * 1024 * 1024  # bytes of NDJSON


class Format(Protocol):
    """Makes the content of objects."""

    suffix: str
    has_columns: bool

    def encode(self, body: bytes, rows: Rows, columns: Mapping[str, Column], batch_id: str) -> bytes:
        """The events of `body`, whose values of `columns` are `rows`."""


class Ndjson:
    """The events as they came."""

    has_columns = False

    def __init__(self, compression: str) -> None:
        self.suffix = f".ndjson{ENDINGS[compression]}"
        self._compression = compression

    def encode(self, body: bytes, rows: Rows, columns: Mapping[str, Column], batch_id: str) -> bytes:
        return compress(body, self._compression)


class Csv:
    """A header, then a line per event."""

    has_columns = True

    def __init__(self, compression: str) -> None:
        self.suffix = f".csv{ENDINGS[compression]}"
        self._compression = compression

    def encode(self, body: bytes, rows: Rows, columns: Mapping[str, Column], batch_id: str) -> bytes:
        return compress(csv_of(body, rows, columns, batch_id), self._compression)


class Parquet:
    """Typed columns. Each codec overwrites the other's file: the suffix is the same."""

    suffix = ".parquet"
    has_columns = True

    def __init__(self, compression: str) -> None:
        load("pyarrow", "eventferry[parquet]")
        self._codec = compression

    def encode(self, body: bytes, rows: Rows, columns: Mapping[str, Column], batch_id: str) -> bytes:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = table_from(body, rows, columns, batch_id)
        texts = [name for name, column in columns.items() if column.type in ("text", "json")]
        file = pa.BufferOutputStream()
        pq.write_table(
            table,
            file,
            compression=self._codec,
            row_group_size=max(1, table.num_rows * _ROW_GROUP // max(_ROW_GROUP, len(body))),
            # Raw events are all different: a dictionary of them, and the least and the greatest, are work for nothing.
            use_dictionary=[*texts, BATCH_ID],
            write_statistics=[name for name in table.column_names if name != EVENT],
        )
        content: bytes = file.getvalue().to_pybytes()
        return content


def make_format(format: str, compression: str) -> Format:
    """The format of that name. Raises SinkMisconfigured where its library is missing."""
    kinds: dict[str, Any] = {"ndjson": Ndjson, "csv": Csv, "parquet": Parquet}
    try:
        made: Format = kinds[format](compression)
    except SinkMisconfigured as error:
        raise SinkMisconfigured(f'format = "{format}": {error}') from None
    return made


def pick(body: bytes, rows: Rows, positions: Sequence[int]) -> tuple[bytes, Rows]:
    """The events at these positions, in this order."""
    lines = body.split(b"\n")
    if len(positions) == 1:
        (at,) = positions
        return lines[at] + b"\n", Rows([[values[at]] for values in rows.values])
    take = itemgetter(*positions)
    return b"\n".join((*take(lines), b"")), Rows([list(take(values)) for values in rows.values])
