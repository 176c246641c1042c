"""Canonical framing: the events of a raw byte range, no BOM, no CR at a line's end, one newline after every event.

Framing composes: for ranges cut between lines, frame(a + b) == frame(a) + frame(b).
"""

import io
from collections.abc import Iterator, Sequence

BOM = b"\xef\xbb\xbf"

CR = 1  # some event of the range ends in \r\n
STARTS_WITH_BOM = 2  # the object's first line is an event after a byte order mark
UNTERMINATED = 4  # the object's last line is an event without a newline
HOLES = 8  # some lines of the range are no events

Hole = tuple[int, int]


def frame(raw: bytes, start: int, flags: int, holes: Sequence[Hole] = ()) -> bytes:
    """The events of `raw`, which lies at byte `start` of its object; the same object where nothing is to be done."""
    if not flags:
        return raw
    body = _without(raw, start, holes) if flags & HOLES else raw
    if flags & STARTS_WITH_BOM and start == 0:
        body = body.removeprefix(BOM)
    if flags & UNTERMINATED and body and not body.endswith(b"\n"):
        body += b"\n"
    return _without_cr(body) if flags & CR else body


def event_ranges(start: int, end: int, holes: Sequence[Hole]) -> Iterator[Hole]:
    """The non-empty ranges of [start, end) between the holes."""
    for hole_start, hole_end in holes:
        if hole_end <= start:
            continue
        if hole_start >= end:
            break
        if hole_start > start:
            yield start, hole_start
        start = hole_end
    if start < end:
        yield start, end


def _without(raw: bytes, start: int, holes: Sequence[Hole]) -> bytes:
    ranges = list(event_ranges(start, start + len(raw), holes))
    if ranges == [(start, start + len(raw))]:
        return raw
    return b"".join([raw[low - start : high - start] for low, high in ranges])


def _without_cr(body: bytes) -> bytes:
    body = body.replace(b"\r\n", b"\n")
    if b"\r\n" not in body:
        return body
    # Several \r before one newline: line by line, because repeated replacing would be quadratic.
    return b"".join([line.rstrip(b"\r\n") + b"\n" for line in io.BytesIO(body)])
