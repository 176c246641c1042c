"""Builds the body of a `_bulk` request: before each event, as it came, the line that says what to do with it."""

import re
from collections.abc import Iterable, Sequence

from eventferry.sink import Batch
from eventferry.sink.columns import Column
from eventferry.sink.identity import event_ids
from eventferry.sink.options import utc_day
from eventferry.sink.rows import Extractor
from eventferry_sinks.elasticsearch.options import ElasticsearchOptions

TIMESTAMP = "@timestamp"
_DAY = 86_400_000_000  # µs
_EMPTY = re.compile(rb"\{\s*\}")


class BulkBody:
    """What one sink sends. Events are parsed only where a day or a time has to be taken out of them."""

    def __init__(self, options: ElasticsearchOptions) -> None:
        self._options = options
        self._action = options.action.encode()
        self._extractor: Extractor | None = None
        if options.is_dated or options.data_stream:
            own = Column(path=("/" + TIMESTAMP,), type="json")
            self._extractor = Extractor({"time": options.time_column(), "own": own})
        self._indexes: dict[int, bytes] = {}  # day since 1970 → name

    def build(self, batch: Batch) -> bytes:
        """Two lines an event. Its id stands for the place in the file, so a repeat names the same document."""
        lines = [line + b"\n" for line in batch.body[:-1].split(b"\n")]
        ids = "\n".join(event_ids(batch, epoch=False)).encode().split(b"\n")
        heads: Iterable[bytes]
        if self._extractor is None:
            heads = [b'{"%b":{"_id":"%b"}}\n' % (self._action, each) for each in ids]
        else:
            times, own = self._extractor.extract(batch.body).values
            if self._options.data_stream:
                lines = [_stamped(*each) for each in zip(lines, times, own, strict=True)]
                heads = [b'{"create":{"_id":"%b"}}\n' % each for each in ids]
            else:
                heads = self._dated(ids, times)
        both = [b""] * (2 * len(lines))
        both[::2], both[1::2] = heads, lines
        return b"".join(both)

    def _dated(self, ids: Sequence[bytes], times: Sequence[int | None]) -> list[bytes]:
        return [
            b'{"%b":{"_index":"%b","_id":"%b"}}\n' % (self._action, self._index_of(time), each)
            for each, time in zip(ids, times, strict=True)
        ]

    def _index_of(self, time: int | None) -> bytes:
        """By the day of the event; of one without a usable time the first of January 1970, the same at every repeat."""
        day = (time or 0) // _DAY
        name = self._indexes.get(day)
        if name is None:
            if len(self._indexes) > 10_000:
                self._indexes.clear()
            name = (utc_day(day * (_DAY // 1000), self._options.index) or "").encode()
            self._indexes[day] = name
        return name


def _stamped(line: bytes, time: int | None, own: str | None) -> bytes:
    """The event with its time as the field that a data stream demands; one that has it, or no time, as it is."""
    if time is None or own is not None:
        return line
    text = line.lstrip()
    end = b"" if _EMPTY.match(text) else b","
    return b'{"%b":%d%b%b' % (TIMESTAMP.encode(), time // 1000, end, text[1:])
