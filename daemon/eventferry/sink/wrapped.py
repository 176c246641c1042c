"""Puts events as objects of columns, one JSON line each: for destinations that load JSON lines into tables."""

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import repeat
from typing import Any

import msgspec
from isal import isal_zlib

from eventferry.sink.columns import BATCH_ID, EVENT, Column, Type
from eventferry.sink.rows import Extractor, Rows, pieces
from eventferry.sink.tables import values_in

_GZIP = 31  # window bits which ask zlib for a gzip header; its time is 0, so equal events stay equal bytes
_EPOCH = dt.datetime(1970, 1, 1)
_encoder = msgspec.json.Encoder()


def wrap(
    body: bytes, rows: Rows, columns: Mapping[str, Column], batch_id: str, *, as_text: bool = False
) -> Iterable[bytes]:
    """For each event `{"<column>":…,"batch_id":"…","event":<its bytes>}` with a newline. Columns without a value are
    left out; timestamps are `2024-05-01 12:00:00.000000`, UTC. `as_text` makes the event a JSON string of its bytes."""
    lists = [
        list(_members(name, columns[name].type, values)) for name, values in zip(columns, rows.values, strict=True)
    ]
    # Whole columns are encoded at once: a dict and a call per event would take five times as long.
    known: Iterable[bytes] = map(b"".join, zip(*lists, strict=True)) if lists else repeat(b"")
    events = body[:-1].split(b"\n")
    if as_text:
        events = _encoded([event.decode() for event in events])
    tail = b'"%b":%b,"%b":' % (BATCH_ID.encode(), _encoder.encode(batch_id), EVENT.encode())
    for event, members in zip(events, known, strict=bool(lists)):
        yield b"{%b%b%b}\n" % (members, tail, event)


def pack(
    body: bytes,
    columns: Mapping[str, Column],
    batch_id: str,
    *,
    as_text: bool = False,
    adjust: Callable[[Rows], None] = lambda rows: None,
) -> tuple[bytes, Counter[str]]:
    """`wrap` of a whole body, gzipped, and how many values did not fit their column.

    Takes little memory beside the result, however large the body. `adjust` may change values before they are written.
    """
    extractor = Extractor(columns)
    packer = isal_zlib.compressobj(1, isal_zlib.DEFLATED, _GZIP)
    packed: list[bytes] = []
    misfits: Counter[str] = Counter()
    for some in pieces(body):
        rows = extractor.extract(some)
        misfits += rows.misfits
        adjust(rows)
        packed.append(packer.compress(b"".join(wrap(some, rows, columns, batch_id, as_text=as_text))))
    packed.append(packer.flush())
    return b"".join(packed), misfits


def count_values(body: bytes, columns: Mapping[str, Column]) -> Counter[str]:
    """How many values the events have for each of `columns`: what is lost where these columns are left out."""
    extractor, found = Extractor(columns), Counter[str]()
    for some in pieces(body) if columns else ():
        found += values_in(extractor.extract(some), columns, columns)
    return +found


def _members(name: str, type: Type, values: list[Any]) -> Iterator[bytes]:
    """For each value `"name":value,`; nothing where there is none."""
    lead = _encoder.encode(name) + b":"
    if type == "timestamp":
        for value in values:
            yield b"" if value is None else b'%b"%b",' % (lead, timestamp_text(value).encode())
    elif type == "json":
        for value in values:
            yield b"" if value is None else b"%b%b," % (lead, value.encode())
    else:
        for value, text in zip(values, _encoded(values), strict=True):
            yield b"" if value is None else b"%b%b," % (lead, text)


def _encoded(values: list[Any]) -> list[bytes]:
    """The values as JSON: strings, numbers, booleans, whose JSON holds no newline."""
    return _encoder.encode_lines(values).split(b"\n")[: len(values)]


def timestamp_text(microseconds: int) -> str:
    """`2024-05-01 12:00:00.000000` of epoch microseconds, UTC, as databases read it."""
    minute, rest = divmod(microseconds, 60_000_000)
    second, fraction = divmod(rest, 1_000_000)
    return f"{_minute_text(minute)}{second:02d}.{fraction:06d}"


@lru_cache(maxsize=4096)
def _minute_text(minute: int) -> str:
    return (_EPOCH + dt.timedelta(minutes=minute)).isoformat(" ", "minutes") + ":"
