"""Events as CSV after RFC 4180: a header, a line per event, CRLF, UTF-8 without BOM."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from eventferry.sink.columns import BATCH_ID, EVENT, Column
from eventferry.sink.rows import Rows
from eventferry.sink.wrapped import timestamp_text

_SPECIAL = re.compile('[",\r\n]')


def csv_of(body: bytes, rows: Rows, columns: Mapping[str, Column], batch_id: str) -> bytes:
    """The columns, the raw event and the batch's id. NULL is empty, an empty text is `""`."""
    events = body.decode().replace('"', '""').split("\n")
    events.pop()
    cells = [_cells(column.type, values) for column, values in zip(columns.values(), rows.values, strict=True)]
    header = ",".join([*columns, EVENT, BATCH_ID])
    end = f',"{batch_id}"' if _SPECIAL.search(batch_id) else f",{batch_id}"
    lines = [",".join([*each, f'"{event}"']) + end for *each, event in zip(*cells, events, strict=True)]
    return "\r\n".join([header, *lines, ""]).encode()


def _cells(type: str, values: Sequence[Any]) -> Sequence[str]:
    if type == "timestamp":
        return ["" if value is None else timestamp_text(value) for value in values]
    if type == "boolean":
        return ["" if value is None else "true" if value else "false" for value in values]
    if type in ("integer", "number"):
        return ["" if value is None else repr(value) for value in values]
    return ["" if value is None else _quoted(value) for value in values]


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if not text or _SPECIAL.search(text) else text
