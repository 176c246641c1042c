"""Cuts NDJSON between lines at the speed of C, and says where an event of a raw range lies."""

from collections.abc import Sequence

from eventferry.pipeline.frame import Hole, event_ranges

_FIRST_BLOCK, _BLOCK = 4 * 1024, 64 * 1024


def newline_after(body: bytes | memoryview, start: int, count: int) -> int:
    """The offset just past the `count`-th newline at or after `start`. Raises ValueError where there are fewer."""
    end, found = _advance(body, start, len(body), count)
    if found < count:
        raise ValueError(f"only {found} of {count} newlines after byte {start}")
    return end


def cut(body: bytes | memoryview, max_events: int, max_bytes: int, events_known: int | None = None) -> tuple[int, int]:
    """The largest prefix of whole lines within both limits, at least one line: (its end, its events).

    `body` is framed: every event ends in a newline. `events_known` is the number of events in all of it, where the
    caller has it; then a body within both limits is not looked at.
    """
    if events_known is not None and events_known <= max_events and len(body) <= max_bytes:
        return len(body), events_known
    limit = len(body) if len(body) <= max_bytes else _line_end_before(body, max_bytes)
    if limit == 0 and len(body):
        limit = newline_after(body, 0, 1)
    return _advance(body, 0, limit, max(1, max_events))


def count_events(raw: bytes, start: int, holes: Sequence[Hole] = ()) -> int:
    """The events of a raw range of whole lines that lies at byte `start` of its object."""
    end = start + len(raw)
    events = sum(raw.count(b"\n", low - start, high - start) for low, high in event_ranges(start, end, holes))
    return events + _unterminated(raw, start, holes)


def offset_after(raw: bytes, start: int, holes: Sequence[Hole], events: int) -> int:
    """The byte of the object just past the first `events` events of a raw range: where a batch of them ends.

    Where nothing but holes follows, this is the end of the range. Raises ValueError where there are fewer events.
    """
    end = start + len(raw)
    offset, left = start, events
    for low, high in event_ranges(start, end, holes):
        if left == 0:
            return offset
        at, found = _advance(raw, low - start, high - start, left)
        offset, left = start + at, left - found
    if left > _unterminated(raw, start, holes):
        raise ValueError(f"only {events - left} of {events} events in bytes {start} to {end}")
    ranges = event_ranges(offset, end, holes)
    return offset if left == 0 and next(ranges, None) is not None else end


def line_of(raw: bytes, start: int, first_line: int, holes: Sequence[Hole], position: int) -> int:
    """The line number of the event at `position` (0-based) of a raw range whose first line is `first_line`."""
    offset = offset_after(raw, start, holes, position)
    event = next(event_ranges(offset, start + len(raw), holes), None)
    if event is None:
        raise ValueError(f"no event {position} in bytes {start} to {start + len(raw)}")
    return first_line + raw.count(b"\n", 0, event[0] - start)


def _unterminated(raw: bytes, start: int, holes: Sequence[Hole]) -> int:
    last = start + len(raw) - 1
    return int(bool(raw) and not raw.endswith(b"\n") and any(event_ranges(last, last + 1, holes)))


def _advance(body: bytes | memoryview, start: int, end: int, count: int) -> tuple[int, int]:
    """Past the `count`-th newline of [start, end): (offset, newlines passed); all of the range where it has fewer.

    Work is linear in the bytes passed: growing blocks are counted whole, and only the last one is halved.
    """
    passed, size = 0, _FIRST_BLOCK
    while start < end and passed < count:
        block = bytes(body[start : min(start + size, end)])
        newlines = block.count(b"\n")
        if passed + newlines >= count:
            return start + _past(block, count - passed), count
        passed += newlines
        start, size = start + len(block), min(2 * size, _BLOCK)
    return start, passed


def _past(block: bytes, count: int) -> int:
    """The offset just past the `count`-th newline of a block that has as many."""
    low, high = 0, len(block)  # the newline sought lies in [low, high)
    while high - low > 256:
        middle = (low + high) // 2
        before = block.count(b"\n", low, middle)
        if before >= count:
            high = middle
        else:
            low, count = middle, count - before
    for _ in range(count):
        low = block.index(b"\n", low, high) + 1
    return low


def _line_end_before(body: bytes | memoryview, limit: int) -> int:
    """The end of the last whole line that ends at or before `limit`; 0 where there is none."""
    high = limit
    while high > 0:
        low = max(0, high - _BLOCK)
        found = bytes(body[low:high]).rfind(b"\n")
        if found >= 0:
            return low + found + 1
        high = low
    return 0
