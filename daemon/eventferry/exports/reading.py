"""Reads planned segments back from their stores: the selected events of each, as canonical NDJSON."""

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress

from eventferry.errors import EventferryError, ObjectChanged, ObjectGone, ObjectReplaced
from eventferry.exports.model import Selection
from eventferry.exports.owners import Mask, judge
from eventferry.exports.planned import Planned, is_during
from eventferry.exports.shape import lines_of
from eventferry.exports.sources import Readable
from eventferry.pipeline.frame import frame
from eventferry.pipeline.reader import SegmentReader
from eventferry.query.evaluate import Matcher, compile_filter


@dataclass(frozen=True, slots=True)
class Selected:
    """What is selected of one segment; nothing may be."""

    planned: Planned
    body: bytes  # canonical NDJSON
    events: int


class Missing(EventferryError):
    """Events that the log knows can no longer be read: their file is gone, or holds other bytes now."""

    def __init__(self, source: str, key: str, events: int, cause: Exception) -> None:
        self.source, self.key, self.events = source, key, events
        # What merely changed may turn out to hold the same bytes once the next poll has seen it.
        self.is_final = isinstance(cause, ObjectGone | ObjectReplaced)
        done = "vanished from its store" if isinstance(cause, ObjectGone) else "was rewritten"
        what = f"{done} after it was indexed: {events:,} events that may be selected are missing"
        # Without its key, which may name others than the requester.
        self.sentence = f"a file of source {source} {what}"
        super().__init__(f"{key} of source {source} {what}")


class SourceGone(EventferryError):
    """The plan was made before a source was taken out of the configuration."""

    def __init__(self) -> None:
        super().__init__("a source of the events is no longer configured; ask for the export again to have the others")


def read(
    plan: Iterable[Planned], sources: Mapping[int, Readable], selection: Selection
) -> Generator[Selected, None, None]:
    """One item per planned segment, in their order; files are read forward, one segment in memory at a time.

    Closing it closes what it holds open. Raises Missing and SourceGone, and StoreError where the same read may succeed
    later.
    """
    readers: dict[int, SegmentReader[Planned]] = {}
    narrowing = _Narrowing(sources, selection)
    remaining = iter(plan)
    try:
        for planned in remaining:
            source = sources.get(planned.source_id)
            if source is None:
                raise SourceGone
            reader = readers.get(source.id)
            if reader is None:
                reader = readers[source.id] = SegmentReader(source, lambda segment: segment.newest)
            try:
                raw = reader.read(planned)
            except (ObjectGone, ObjectChanged) as error:
                raise Missing(source.name, planned.key, _events_of(planned, remaining), error) from error
            body, events = frame(raw, planned.start, planned.flags, planned.holes), planned.events
            if not planned.is_whole:
                body, events = narrowing.narrow(planned, body)
            yield Selected(planned, body, events)
    finally:
        for reader in readers.values():
            reader.close()


def _events_of(lost: Planned, following: Iterable[Planned]) -> int:
    """The events of the segment and of those after it in the same file."""
    events = lost.events
    for planned in following:
        if planned.object_id != lost.object_id:
            break
        events += planned.events
    return events


class _Narrowing:
    """What takes the selected events out of a segment, kept for the next segments that need the same."""

    def __init__(self, sources: Mapping[int, Readable], selection: Selection) -> None:
        self._sources = sources
        self._selection = selection
        self._judge = lru_cache(maxsize=256)(self._judged)
        self._matchers: dict[tuple[int, bool], Matcher | None] = {}

    def narrow(self, planned: Planned, body: bytes) -> tuple[bytes, int]:
        """What is selected of the canonical NDJSON, and how many events that is."""
        lines = lines_of(body)
        count = len(lines)
        taken = self._judge(planned.source_id, planned.key)
        if taken is not True:
            keep = taken(body) if callable(taken) else [False] * count
            lines = list(compress(lines, keep))
        matcher = self._matcher(planned.source_id, is_during(planned, self._selection))
        if matcher is not None:
            lines = [lines[position] for position in matcher.positions(lines)]
        if len(lines) == count:
            return body, count
        return b"\n".join((*lines, b"")) if lines else b"", len(lines)

    def _judged(self, source_id: int, key: str) -> bool | Mask:
        return judge(self._sources[source_id], key, self._selection.scope)

    def _matcher(self, source_id: int, is_during: bool) -> Matcher | None:
        """What the events of a segment are held against, without the time range where it lies within that."""
        wanted = (source_id, is_during)
        if wanted not in self._matchers:
            expression = self._selection.filter if is_during else self._selection.expression
            times = self._sources[source_id].time_fields
            self._matchers[wanted] = None if expression is None else compile_filter(expression, times)
        return self._matchers[wanted]
