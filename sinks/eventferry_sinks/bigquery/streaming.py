"""Cuts a batch into requests of tabledata.insertAll, each event under an id of its own."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from eventferry.sink import Batch
from eventferry.sink.columns import BATCH_ID, EVENT, Column
from eventferry.sink.rows import Extractor, pieces
from eventferry.sink.wrapped import timestamp_text
from eventferry_sinks.bigquery.table import spell_out

_AT_ONCE = 500  # events in a request, as Google recommends
_BYTES = 2 * 1024 * 1024  # of events in a request, which may have 10 MB with its columns and escapes


@dataclass(frozen=True, slots=True)
class Request:
    """Some of a batch's events: `first` is the position of the first one."""

    first: int
    values: list[dict[str, Any]]
    ids: list[str]
    misfits: Counter[str]


def requests_of(batch: Batch, columns: Mapping[str, Column]) -> Iterator[Request]:
    """The whole batch in its order; a repeat of the batch gives the same ids."""
    extractor, first = Extractor(columns), 0
    for some in pieces(batch.body, _BYTES):
        lines = some[:-1].split(b"\n")
        rows = extractor.extract(some)
        spell_out(rows, columns)
        each = zip(*rows.values, strict=True) if rows.values else ((),) * len(lines)
        values = [
            _known(columns, line_values) | {BATCH_ID: batch.id, EVENT: line.decode()}
            for line, line_values in zip(lines, each, strict=True)
        ]
        misfits = rows.misfits
        for start in range(0, len(values), _AT_ONCE):
            part = values[start : start + _AT_ONCE]
            ids = [f"{batch.id}-{first + start + number}" for number in range(len(part))]
            yield Request(first + start, part, ids, misfits)
            misfits = Counter()
        first += len(values)


def _known(columns: Mapping[str, Column], values: tuple[Any, ...]) -> dict[str, Any]:
    return {
        name: timestamp_text(value) if column.type == "timestamp" else value
        for (name, column), value in zip(columns.items(), values, strict=True)
        if value is not None
    }
