"""Writes a batch as JSONEachRow, piece by piece: the values of the columns, the batch's id, the event as it came."""

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

import msgspec

from eventferry.sink import Batch, BatchRejected
from eventferry.sink.columns import BATCH_ID, EVENT, Column
from eventferry.sink.rows import Extractor, pieces

_EPOCH = dt.datetime(1970, 1, 1)
_KEPT = 10_000  # seconds whose texts are in memory
_SECOND = 1_000_000  # in the microseconds of an Extractor
_THOUSANDTHS = {number * 1000: f".{number:03d}Z" for number in range(1000)}  # most times are milliseconds

Count = Callable[[str, str, int], None]


class Writer:
    """Makes the lines of an INSERT for `written` (column → its type in the table); other columns are left out."""

    def __init__(self, columns: Mapping[str, Column], written: Mapping[str, str], count: Count) -> None:
        self._names = list(columns)
        self._written = written
        self._count = count
        self._extractor = Extractor(columns)
        self._moments = {
            name: Moments(type)
            for name, type in written.items()
            if name in columns and columns[name].type == "timestamp"
        }
        self._encoder = msgspec.json.Encoder()
        places = [(f"f{number}", name) for number, name in enumerate([*written, BATCH_ID, EVENT])]
        # What has no value is left out of its line, and gets the column's own default, which is NULL by default.
        self._line = msgspec.defstruct(
            "Line", [(place, Any, None) for place, _ in places], rename=dict(places), omit_defaults=True, gc=False
        )

    def lines(self, batch: Batch) -> Iterator[bytes]:
        """The lines of a batch in pieces of some hundred KiB. Counts what did not fit and what was left out."""
        for some in pieces(batch.body):
            values = self._values(some)
            try:
                events = some.decode().split("\n")[:-1]
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
            elif name in self._moments:
                kept[name], beyond = self._moments[name].texts(values)
                misfits[name] += beyond
            else:
                kept[name] = values
        for name in self._written:
            self._note("values.misfitted", name, misfits[name])
        return iter([kept[name] for name in self._written])

    def _note(self, what: str, of: str, number: int) -> None:
        if number:
            self._count(what, of, number)


class Moments(dict[int, str | None]):
    """Writes epoch microseconds for a column of `type` as texts that mean the same in every time zone.

    The texts of some thousand seconds are kept, since neighbours share them: None beyond what the type holds.
    """

    def __init__(self, type: str) -> None:
        self._least, self._most = span(type)
        self._whole = not type.startswith("DateTime64")

    def __missing__(self, second: int) -> str | None:
        if len(self) > _KEPT:
            self.clear()
        text = None
        if self._least <= second < self._most:
            text = (_EPOCH + dt.timedelta(seconds=second)).isoformat(" ", "seconds") + ("Z" if self._whole else "")
        self[second] = text
        return text

    def texts(self, values: Sequence[int | None]) -> tuple[list[str | None], int]:
        """The texts of some moments, and how many of them lie beyond what the type holds."""
        if self._whole:
            texts = [value if value is None else self[value // _SECOND] for value in values]
        else:
            texts = [
                (text := self[value // _SECOND])
                and text + (_THOUSANDTHS.get(value % _SECOND) or f".{value % _SECOND:06d}Z")
                if value is not None
                else None
                for value in values
            ]
        return texts, texts.count(None) - values.count(None)


def span(type: str) -> tuple[int, int]:
    """The first second that a type of ClickHouse holds and the first one beyond it, from the epoch."""
    if not type.startswith("DateTime64"):
        return 0, 2**32
    scale = re.match(r"DateTime64\((\d)", type)
    last = dt.datetime(2262, 1, 1) if scale and int(scale[1]) > 8 else dt.datetime(2300, 1, 1)
    return _seconds(dt.datetime(1900, 1, 1)), _seconds(last)


def _seconds(moment: dt.datetime) -> int:
    return (moment - _EPOCH) // dt.timedelta(seconds=1)
