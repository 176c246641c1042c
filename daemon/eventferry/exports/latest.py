"""The newest events of a selection, by their times, with no more memory than they need themselves."""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing

from eventferry.errors import EventferryError
from eventferry.exports.model import Selection
from eventferry.exports.planned import Planned
from eventferry.exports.reading import read
from eventferry.exports.shape import lines_of
from eventferry.exports.sources import Readable
from eventferry.pipeline.times import time_decoder

MAX_BYTES = 256 * 1024 * 1024
_EACH = 150  # bytes that holding one line costs besides
_PIECE = 1024 * 1024


class TooLarge(EventferryError):
    """The newest events are too many bytes to be held at once."""

    def __init__(self, number: int) -> None:
        super().__init__(
            f"the newest {number:,} events come to more than {MAX_BYTES // 1024**2} MiB; ask for fewer of them, or for "
            "a shorter time range"
        )


def latest(
    plan: Callable[[], Iterable[Planned]],
    sources: Mapping[int, Readable],
    selection: Selection,
    number: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[bytes]:
    """Canonical NDJSON, in pieces, of the newest `number` events, the newest last.

    Of events of the same time the later one in the log is the newer one; events without a usable time are the oldest.
    `plan` gives the plan anew at each call. Raises TooLarge, and what read raises.
    """
    if number < 1:
        return iter(())
    since = _certain_since(plan(), number)
    heap: list[tuple[int, int, bytes]] = []
    size = count = 0
    wanted = _wanted(plan(), since, progress)
    with closing(read(wanted, sources, selection)) as found:
        for selected in found:
            time_of = _timer(sources[selected.planned.source_id].time_fields)
            for line in lines_of(selected.body):
                count += 1
                size += len(line) + _EACH
                item = (time_of(line), count, line)
                if len(heap) < number:
                    heapq.heappush(heap, item)
                else:
                    size -= len(heapq.heappushpop(heap, item)[2]) + _EACH
                if size > MAX_BYTES:
                    raise TooLarge(number)
            progress(selected.planned.size)
    return _pieces([line for *_, line in sorted(heap)])


def _wanted(plan: Iterable[Planned], since: int | None, progress: Callable[[int], None]) -> Iterator[Planned]:
    for planned in plan:
        if since is None or (planned.time_max is not None and planned.time_max >= since):
            yield planned
        else:
            progress(planned.size)


def _certain_since(plan: Iterable[Planned], number: int) -> int | None:
    """A time since which at least `number` events are selected for certain; None where the plan knows none."""
    heap: list[tuple[int, int]] = []  # (earliest time, timed events) of whole segments, as few as are enough
    events = 0
    for planned in plan:
        if not planned.is_whole or planned.time_min is None:
            continue
        timed = planned.events - planned.untimed
        heapq.heappush(heap, (planned.time_min, timed))
        events += timed
        while events - heap[0][1] >= number:
            events -= heapq.heappop(heap)[1]
    return heap[0][0] if events >= number and heap else None


def _timer(time_fields: tuple[str, ...]) -> Callable[[bytes], int]:
    """The time of a line, -1 where it has none that is usable."""
    decoder = time_decoder(time_fields)

    def time_of(line: bytes) -> int:
        try:
            span = decoder.span([decoder.decode(line)])
        except ValueError:
            ms = decoder.of_odd_line(line)
        else:
            ms = span.low
        return -1 if ms is None else ms

    return time_of


def _pieces(lines: list[bytes]) -> Iterator[bytes]:
    piece: list[bytes] = []
    size = 0
    for line in lines:
        piece.append(line)
        size += len(line) + 1
        if size >= _PIECE:
            yield b"\n".join((*piece, b""))
            piece, size = [], 0
    if piece:
        yield b"\n".join((*piece, b""))
