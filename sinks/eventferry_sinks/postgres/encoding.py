"""Turns NDJSON into the text format of COPY, block by block, with no Python per event but what its columns need."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from itertools import repeat
from typing import Any, ClassVar

from eventferry.sink.columns import BATCH_ID, EVENT, Column, Type
from eventferry.sink.rows import Extractor
from eventferry.sink.wrapped import timestamp_text

BLOCK = 64 * 1024  # bytes of events at once: larger ones fall out of the cache, and the server waits longer for them
_NULL = "\\N"
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_SPECIAL = ("\\", "\t", "\r", "\x00")


class Encoder:
    """Makes the rows of a table out of events: the batch's id, the columns, the event as it came."""

    def __init__(self, columns: Mapping[str, Column], discarded: Collection[str] = ()) -> None:
        """`discarded` are columns that the table lacks: their values are counted instead."""
        self._columns = columns
        self._discarded = discarded
        self._extractor = Extractor(columns)
        self._times = _Times()
        self.misfits: Counter[str] = Counter()  # column → values of the last body that did not fit
        self.left_out: Counter[str] = Counter()  # discarded column → its values

    @property
    def names(self) -> list[str]:
        """The table's columns in the order of the rows."""
        return [BATCH_ID, *(name for name in self._columns if name not in self._discarded), EVENT]

    def blocks(self, body: bytes, batch_id: str) -> Iterator[bytes]:
        """The rows for COPY … FROM STDIN (FORMAT text), in blocks of whole rows."""
        self.misfits.clear()
        self.left_out.clear()
        start = 0
        while start < len(body):
            end = body.find(b"\n", min(start + BLOCK, len(body)) - 1) + 1
            yield self._block(body[start:end], batch_id)
            start = end

    def _block(self, block: bytes, batch_id: str) -> bytes:
        rows = self._extractor.extract(block)
        self.misfits += rows.misfits
        lists = []
        for (name, column), values in zip(self._columns.items(), rows.values, strict=True):
            if name in self._discarded:
                self.left_out[name] += len(values) - values.count(None)
            else:
                lists.append(self._texts(name, column.type, values))
        events = _escaped(block).splitlines(keepends=True)  # every CR is escaped by now
        heads = map("\t".join, zip(repeat(batch_id, len(events)), *lists, repeat(""), strict=False))
        parts = [b""] * (2 * len(events))
        parts[::2] = "\n".join(heads).encode().split(b"\n")
        parts[1::2] = events
        return b"".join(parts)

    def _texts(self, name: str, type: Type, values: list[Any]) -> list[str]:
        if type == "text" or type == "json":
            return self._escaped_texts(name, [_NULL if value is None else value for value in values], values)
        if type == "timestamp":
            return self._times.texts(values)
        return [_NULL if value is None else str(value) for value in values]

    def _escaped_texts(self, name: str, texts: list[str], values: list[Any]) -> list[str]:
        present = values if None not in values else [value for value in values if value is not None]
        together = "\n".join(present)
        if together.count("\n") < max(1, len(present)) and not any(each in together for each in _SPECIAL):
            return texts
        unfit = sum("\x00" in value for value in present)
        if unfit:  # no text of PostgreSQL holds a NUL
            self.misfits[name] += unfit
        return [_NULL if value is None or "\x00" in value else value.translate(_ESCAPES) for value in values]


class _Times(dict[int, str]):
    """Writes epoch microseconds; remembers the seconds, which are shared by events that lie together."""

    _MOST = 100_000
    _FRACTIONS: ClassVar = {ms * 1000: f"{ms:03d}" for ms in range(1000)}

    def texts(self, values: list[Any]) -> list[str]:
        if len(self) > self._MOST:
            self.clear()
        fractions = self._FRACTIONS
        try:
            return [
                _NULL if value is None else self[value // 1_000_000] + fractions[value % 1_000_000] for value in values
            ]
        except KeyError:  # finer than a millisecond
            return [_NULL if value is None else timestamp_text(value) for value in values]

    def __missing__(self, second: int) -> str:
        text = self[second] = timestamp_text(second * 1_000_000)[:-6]
        return text


def _escaped(events: bytes) -> bytes:
    """JSON lines with what COPY reads in another way escaped: backslashes, and tabs or CRs between the tokens."""
    escaped = events.replace(b"\\", b"\\\\")
    if b"\t" in escaped:
        escaped = escaped.replace(b"\t", b"\\t")
    if b"\r" in escaped:
        escaped = escaped.replace(b"\r", b"\\r")
    return escaped
