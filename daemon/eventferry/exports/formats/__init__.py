"""How selected events are written: NDJSON, a JSON array, CSV, Parquet."""

from collections.abc import Sequence
from typing import Protocol

from eventferry.exports.columns import Column
from eventferry.exports.model import Output

_COMPRESSED = {"none": "", "gzip": ".gz", "zstd": ".zst"}


class Encoder(Protocol):
    """Writes one file. The bytes of begin, feed and end one after another are the file, before compression."""

    def begin(self) -> bytes: ...

    def feed(self, body: bytes) -> bytes:
        """The bytes for canonical NDJSON; may hold some back until later."""
        ...

    def end(self) -> bytes: ...


def make_encoder(output: Output, columns: Sequence[Column] = ()) -> Encoder:
    """What writes one file of the output; the columns (see columns_of) are for CSV and Parquet only.

    Raises ParquetMissing where that extra is not installed.
    """
    from eventferry.exports.formats.lines import JsonArray, Ndjson

    match output.format:
        case "ndjson":
            return Ndjson(output.fields)
        case "json":
            return JsonArray(output.fields)
        case "csv":
            from eventferry.exports.formats.delimited import Csv

            return Csv(columns, guard=output.formula_guard, shows_objects=bool(output.fields))
        case "parquet":
            from eventferry.exports.formats.parquet import Parquet

            return Parquet(columns)


def extension_of(output: Output) -> str:
    """How the names of its files end: .csv.gz; Parquet is compressed inside."""
    return f".{output.format}{'' if output.format == 'parquet' else _COMPRESSED[output.compression]}"


def can_resume(output: Output) -> bool:
    """Whether a file can be gone on with in the middle."""
    return output.format != "parquet"
