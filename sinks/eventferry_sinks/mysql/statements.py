"""Makes multi-row INSERT statements out of NDJSON, as bytes, block by block."""

import datetime as dt
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from eventferry.sink import BatchRejected
from eventferry.sink.columns import BATCH_ID, EVENT, Column, Type
from eventferry.sink.rows import Extractor
from eventferry_sinks.mysql.options import EVENT_ID
from eventferry_sinks.mysql.table import Present, quoted

BLOCK = 512 * 1024  # bytes of events to a statement; longer ones are not faster
_ROOM = 1024  # bytes of a packet that are left free

_EPOCH = dt.datetime(1970, 1, 1)


class Encoder:
    """Makes the rows of a table out of events: the columns, the event as it came, the batch's id.

    Its statements need a session with NO_BACKSLASH_ESCAPES: quotes are doubled, and nothing else changes.
    """

    def __init__(self, table: str, columns: Mapping[str, Column], present: Mapping[str, Present], max_packet: int):
        """`present` are the columns that the table has: the values of others are counted instead. `max_packet` is the
        longest statement that the server takes, in bytes."""
        self._columns = columns
        self._present = present
        self._extractor = Extractor(columns)
        self._max_packet = max_packet
        names = ", ".join(map(quoted, [*(name for name in columns if name in present), EVENT, BATCH_ID]))
        self._head = f"INSERT INTO {quoted(table)} ({names}) VALUES ".encode()  # noqa: S608 - quoted
        # IGNORE would cut and round in silence, this ignores nothing but the repeated key.
        again = f" ON DUPLICATE KEY UPDATE {quoted(EVENT_ID)} = {quoted(EVENT_ID)}" if EVENT_ID in columns else ""
        self._tail = again.encode()
        self.forget_counts()

    def forget_counts(self) -> None:
        self.misfits: Counter[str] = Counter()  # column → values that did not fit
        self.left_out: Counter[str] = Counter()  # column that the table lacks → its values
        self.sent = 0  # bytes

    def statements(self, body: bytes, batch_id: str) -> Iterator[bytes]:
        """The statements for the events of `body`, in order. Raises BatchRejected where an event alone is too long."""
        start = 0
        while start < len(body):
            end = body.find(b"\n", min(start + BLOCK, len(body)) - 1) + 1
            yield from self._cut(self._rows(body[start:end], batch_id))
            start = end

    def _rows(self, block: bytes, batch_id: str) -> list[bytes]:
        """`(…,'event','batch')` for each event."""
        rows = self._extractor.extract(block)
        self.misfits += rows.misfits
        literals: list[Sequence[bytes]] = []
        for (name, column), values in zip(self._columns.items(), rows.values, strict=True):
            if name in self._present:
                literals.append(_LITERALS[column.type](self._shortened(name, column.type, values)))
            elif left := len(values) - values.count(None):
                self.left_out[name] += left
        events = _escaped(block[:-1]).split(b"\n")
        template = b"(" + b"%b," * len(literals) + b"'%b','" + batch_id.encode() + b"')"
        return list(map(template.__mod__, zip(*literals, events, strict=True)))

    def _shortened(self, name: str, kind: Type, values: list[Any]) -> list[Any]:
        """`values` without the texts that are longer than their column: those count as misfits."""
        column = self._present[name]
        if kind not in ("text", "json") or column.length is None:
            return values
        longest = column.length if column.type in ("char", "varchar") else column.length // 4
        if max((len(value) for value in values if value is not None), default=0) <= longest:
            return values
        kept = [value if value is None or _length(value, column) <= column.length else None for value in values]
        if unfit := kept.count(None) - values.count(None):
            self.misfits[name] += unfit
        return kept

    def _cut(self, rows: list[bytes]) -> Iterator[bytes]:
        """Statements that the server takes; mostly there is one."""
        room = self._max_packet - _ROOM - len(self._head) - len(self._tail)
        ends = list(accumulate(len(row) + 1 for row in rows))  # with the comma behind each
        start = base = 0
        while start < len(rows):
            end = max(start + 1, bisect_right(ends, base + room))
            if ends[end - 1] - base > room:
                raise BatchRejected(
                    f"an event of about {len(rows[start]):,} bytes is longer than the server takes: its"
                    f" max_allowed_packet is {self._max_packet:,}"
                )
            yield self._head + b",".join(rows[start:end]) + self._tail
            start, base = end, ends[end - 1]


def _length(value: str, column: Present) -> int:
    return len(value) if column.type in ("char", "varchar") else len(value.encode())


def _escaped(text: bytes) -> bytes:
    return text.replace(b"'", b"''") if b"'" in text else text


def _texts(values: Sequence[Any]) -> Sequence[bytes]:
    return [b"NULL" if value is None else b"'%b'" % value.encode().replace(b"'", b"''") for value in values]


def _integers(values: Sequence[Any]) -> Sequence[bytes]:
    return [b"NULL" if value is None else b"%d" % value for value in values]


def _numbers(values: Sequence[Any]) -> Sequence[bytes]:
    return [b"NULL" if value is None else repr(value).encode() for value in values]


def _booleans(values: Sequence[Any]) -> Sequence[bytes]:
    return list(map({None: b"NULL", True: b"1", False: b"0"}.__getitem__, values))


def _timestamps(values: Sequence[Any]) -> Sequence[bytes]:
    """`'2024-05-01 12:00:00.000000'` of epoch microseconds: the calendar is asked once a minute."""
    minutes = _Minutes()
    return [
        b"NULL"
        if value is None
        else b"'%b%02d.%06d'" % (minutes[value // 60_000_000], value // 1_000_000 % 60, value % 1_000_000)
        for value in values
    ]


class _Minutes(dict[int, bytes]):
    """Minutes since 1970 → `2024-05-01 12:00:`."""

    def __missing__(self, minute: int) -> bytes:
        said = (_EPOCH + dt.timedelta(minutes=minute)).isoformat(" ")[:-2].encode()
        self[minute] = said
        return said


_LITERALS: Mapping[Type, Callable[[Sequence[Any]], Sequence[bytes]]] = {
    "text": _texts,
    "integer": _integers,
    "number": _numbers,
    "boolean": _booleans,
    "timestamp": _timestamps,
    "json": _texts,
}
