"""Writes a batch as JSONEachRow, piece by piece: the values of the columns, the batch's id, the event as it came."""

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

import msgspec

from eventferry.sink import Batch, BatchRejected
from eventferry.sink.columns import BATCH_ID, EVENT, Column
from eventferry.sink.rows import Extractor
from eventferry.sink.wrapped import pieces

_AT_ONCE = 256 * 1024  # bytes of events that become one piece
_EPOCH = dt.datetime(1970, 1, 1)
_SECOND = 1_000_000  # in the microseconds of an Extractor
_THOUSANDTHS = tuple(f".{number:03d}Z" for number in range(1000))  # most times are milliseconds

Count = Callable[[str, str, int], None]


class Writer:
    """Makes the lines of an INSERT for `written` (column → its type in the table); other columns are left out."""

    def __init__(self, columns: Mapping[str, Column], written: Mapping[str, str], count: Count) -> None:
        self._names = list(columns)
        self._columns = columns
        self._written = written
        self._count = count
        self._extractor = Extractor(columns)
        self._encoder = msgspec.json.Encoder()
        places = [(f"f{number}", name) for number, name in enumerate([*written, BATCH_ID, EVENT])]
        # What has no value is left out of its line, and gets the column's own default, which is NULL by default.
        self._line = msgspec.defstruct(
            "Line", [(place, Any, None) for place, _ in places], rename=dict(places), omit_defaults=True, gc=False
        )

    def lines(self, batch: Batch) -> Iterator[bytes]:
        """The lines of a batch in pieces of some hundred KiB. Counts what did not fit and what was left out."""
        for some in pieces(batch.body, _AT_ONCE):
            values = self._values(some)
            try:
                events = some[:-1].decode().split("\n")
            except UnicodeDecodeError:
                raise BatchRejected("an event is not UTF-8") from None
            # The event is a string: as an object the server would parse it, and forget how it was written.
            yield self._encoder.encode_lines(list(map(self._line, *values, repeat(batch.id), events)))

    def _values(self, body: bytes) -> Iterator[Sequence[Any]]:
        rows = self._extractor.extract(body)
        misfits = rows.misfits
        kept = {}
        for name, values in zip(self._names, rows.values, strict=True):
            if name not in self._written:
                self._note("values.discarded", name, sum(value is not None for value in values))
            elif self._columns[name].type == "timestamp":
                kept[name], beyond = moments(values, self._written[name])
                misfits[name] += beyond
            else:
                kept[name] = values
        for name in self._written:
            self._note("values.misfitted", name, misfits[name])
        return iter([kept[name] for name in self._written])

    def _note(self, what: str, of: str, number: int) -> None:
        if number:
            self._count(what, of, number)


def moments(values: Sequence[int | None], type: str) -> tuple[list[str | None], int]:
    """Epoch microseconds as texts that mean the same in every time zone, and how many lie beyond what `type` holds."""
    least, most = span(type)
    whole = not type.startswith("DateTime64")
    end = "Z" if whole else ""
    seconds: dict[int, str] = {}  # events of one batch share most of them
    texts: list[str | None] = []
    beyond = 0
    for value in values:
        if value is None or not least <= value < most:
            beyond += value is not None
            texts.append(None)
            continue
        second, rest = divmod(value, _SECOND)
        text = seconds.get(second)
        if text is None:
            text = seconds[second] = (_EPOCH + dt.timedelta(seconds=second)).isoformat(" ", "seconds") + end
        if whole:
            texts.append(text)
        elif rest % 1000:
            texts.append(f"{text}.{rest:06d}Z")
        else:
            texts.append(text + _THOUSANDTHS[rest // 1000])
    return texts, beyond


def span(type: str) -> tuple[int, int]:
    """The first moment that a type of ClickHouse holds and the first one beyond it, in epoch microseconds."""
    if not type.startswith("DateTime64"):
        return 0, 2**32 * _SECOND
    scale = re.match(r"DateTime64\((\d)", type)
    last = dt.datetime(2262, 1, 1) if scale and int(scale[1]) > 8 else dt.datetime(2300, 1, 1)
    return _microseconds(dt.datetime(1900, 1, 1)), _microseconds(last)


def _microseconds(moment: dt.datetime) -> int:
    return (moment - _EPOCH) // dt.timedelta(microseconds=1)
