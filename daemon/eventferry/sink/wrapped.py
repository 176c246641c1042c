"""Puts events as objects of columns, one JSON line each: for destinations that load JSON lines into tables."""

import datetime as dt
from collections.abc import Iterable, Mapping
from itertools import repeat

import msgspec

from eventferry.sink.columns import BATCH_ID, EVENT, Column
from eventferry.sink.rows import Rows

_EPOCH = dt.datetime(1970, 1, 1)


def wrap(body: bytes, rows: Rows, columns: Mapping[str, Column], batch_id: str) -> Iterable[bytes]:
    """For each event `{"<column>":…,"batch_id":"…","event":<its bytes>}` with a newline. Columns without a value are
    left out; timestamps are `2024-05-01 12:00:00.000000`, UTC."""
    names = list(columns)
    lists = [
        [None if value is None else timestamp_text(value) for value in values]
        if columns[name].type == "timestamp"
        else values
        for name, values in zip(names, rows.values, strict=True)
    ]
    raw = [columns[name].type == "json" for name in names]
    each = zip(*lists, strict=True) if lists else repeat(())
    for line, values in zip(body[:-1].split(b"\n"), each, strict=bool(lists)):
        known = {
            name: msgspec.Raw(value.encode()) if is_json else value
            for name, value, is_json in zip(names, values, raw, strict=True)
            if value is not None
        }
        known[BATCH_ID] = batch_id
        yield b'%b,"%b":%b}\n' % (msgspec.json.encode(known)[:-1], EVENT.encode(), line)


def timestamp_text(microseconds: int) -> str:
    """`2024-05-01 12:00:00.000000` of epoch microseconds, UTC, as databases read it."""
    return (_EPOCH + dt.timedelta(microseconds=microseconds)).isoformat(" ", "microseconds")
