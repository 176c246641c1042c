"""Events as Parquet: typed columns, zstd inside, row groups of bounded size; the same events give the same bytes."""

import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from eventferry import installing
from eventferry.errors import EventferryError
from eventferry.exports.columns import Column
from eventferry.exports.shape import Shape

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP = 64 * 1024 * 1024  # bytes of NDJSON
_JSON = {b"eventferry.type": b"json"}  # on each column of JSON text
_JSON_COLUMNS = b"eventferry.json_columns"  # in the file's metadata: their names, as a JSON array


class ParquetMissing(EventferryError):
    """The extra that writes Parquet is not installed; its text is the operator's, `sentence` the requester's."""

    sentence = "this installation cannot write Parquet, which needs eventferry[parquet]; ask for another format"

    def __init__(self) -> None:
        super().__init__(f"Parquet needs pyarrow: {installing.command('eventferry[parquet]')}")


class Parquet:
    """A table with these columns; the names of those that hold JSON text are in its metadata."""

    def __init__(self, columns: Sequence[Column]) -> None:
        try:
            import pyarrow.parquet as pq
        except ImportError as error:
            raise ParquetMissing from error
        texts = [column.path for column in columns if column.type == "json"]
        self._shape = Shape([column.path for column in columns], texts, floats=True)
        self._schema = _schema_of(columns)
        self._sink = _Sink()
        self._writer = pq.ParquetWriter(self._sink, self._schema, compression="zstd", compression_level=3)
        self._batches: list[pa.RecordBatch] = []
        self._size = 0

    def begin(self) -> bytes:
        return self._sink.taken()

    def feed(self, body: bytes) -> bytes:
        import pyarrow as pa

        for _, columns in self._shape.batches(body):
            arrays = [pa.array(values, each.type) for values, each in zip(columns, self._schema, strict=True)]
            self._batches.append(pa.record_batch(arrays, schema=self._schema))
        self._size += len(body)
        if self._size >= ROW_GROUP:
            self._write()
        return self._sink.taken()

    def end(self) -> bytes:
        self._write()
        self._writer.close()
        return self._sink.taken()

    def _write(self) -> None:
        import pyarrow as pa

        if self._batches:
            table = pa.Table.from_batches(self._batches, self._schema)
            self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self._batches, self._size = [], 0


class _Sink(io.RawIOBase):
    """Takes what the writer writes until it is fetched."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._parts.append(bytes(data))
        self._at += len(data)
        return len(data)

    def tell(self) -> int:
        return self._at

    def taken(self) -> bytes:
        data, self._parts = b"".join(self._parts), []
        return data


def _schema_of(columns: Sequence[Column]) -> "pa.Schema":
    import pyarrow as pa

    scalars = {
        "string": pa.string(), "json": pa.string(), "int64": pa.int64(), "double": pa.float64(), "bool": pa.bool_()
    }  # fmt: skip
    fields = []
    for column in columns:
        inner = column.type.removeprefix("list<").removesuffix(">")
        kind = scalars[inner] if inner == column.type else pa.list_(scalars[inner])
        fields.append(pa.field(column.name, kind, metadata=_JSON if column.type == "json" else None))
    texts = [column.name for column in columns if column.type == "json"]
    return pa.schema(fields, metadata={_JSON_COLUMNS: json.dumps(texts).encode()})
