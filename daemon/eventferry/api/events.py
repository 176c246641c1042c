"""Selected events as an answer: streamed, with their number and whether they are all, as far as that is known."""

import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain, islice

from fastapi import Request

from eventferry import clock
from eventferry.access.keys import Key
from eventferry.api.abandoning import stop_when
from eventferry.api.parts import Parts
from eventferry.api.streaming import Stream
from eventferry.exports import surveying, visibility
from eventferry.exports.columns import columns_of, needs_survey
from eventferry.exports.formats import make_encoder
from eventferry.exports.model import Output, Selection
from eventferry.exports.plan import plan
from eventferry.exports.planned import Planned
from eventferry.exports.reading import read
from eventferry.exports.scan_cache import FOLDER, ScanCache
from eventferry.exports.sources import Readable
from eventferry.ledger import completeness, log

MEDIA_TYPES = {"json": "application/json", "ndjson": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}

DAY_MS = 86_400_000
# Of a longer plan the beginning is enough: no request for one answer covers so much and needs its number.
_PLAN = 20_000
# Raw bytes that are read to count what the segments do not say; the edges of a day are mostly less.
_COUNTED = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Read:
    """A read of selected events, planned: `total` where the segments say it, `is_complete` as the log is now."""

    parts: Parts
    sources: Mapping[int, Readable]
    selection: Selection
    planned: Iterator[Planned]
    total: int | None
    is_complete: bool

    def bodies(self) -> Generator[bytes]:
        """Canonical NDJSON of the selected events, one piece per segment, possibly empty. Once only."""
        with closing(read(self.planned, self.sources, self.selection)) as found:
            for each in found:
                yield each.body

    @property
    def headers(self) -> dict[str, str]:
        """X-Complete, and X-Total where it is known."""
        found = {"X-Complete": "true" if self.is_complete else "false"}
        return found if self.total is None else {**found, "X-Total": str(self.total)}


def start_read(parts: Parts, key: Key, selection: Selection) -> Read:
    """Plan the read of what the key may see of the selection, up to the log's head."""
    mine = replace(
        selection,
        scope=selection.scope.narrowed(key.realm),
        filter=visibility.both(selection.filter, key.filter),
    )
    sources = parts.sources()
    is_complete = is_wholly_indexed(parts, mine)  # before the head is read: what comes between is not missed then
    with parts.ledger.read() as tx:
        head = log.head(tx)
    planned = plan(parts.ledger, sources, mine, head, clock.now_ms())
    first = list(islice(planned, _PLAN))
    total = None
    if len(first) < _PLAN and sum(each.size for each in first if not each.is_whole) <= _COUNTED:
        total = surveying.count(first, sources, mine, cache_of(parts))
    return Read(parts, sources, mine, chain(first, planned), total, is_complete)


def is_wholly_indexed(parts: Parts, selection: Selection) -> bool:
    """Whether the log holds every event of the range that its source's store is known to hold.

    Not before the range is over and settled, nor before a run began after that, nor while a file dated within waits.
    """
    sources, now = parts.sources(), clock.now_ms()
    settings = {each.name: each for each in parts.config.sources}
    start = None if selection.start_ms is None else selection.start_ms // DAY_MS * DAY_MS
    end = now if selection.end_ms is None else selection.end_ms
    with parts.ledger.read() as tx:
        for source in sources.values():
            if not settings[source.name].enabled:
                continue  # nobody looks for more
            over = end + int(settings[source.name].settle.total_seconds() * 1000)
            if now < over or completeness.looked_ms(tx, source.id) < over:
                return False
        return not completeness.has_waiting_files(tx, list(sources), start, end)


def stream_events(request: Request, found: Read, output: Output, headers: Mapping[str, str] | None = None) -> Stream:
    """The events in the output's format; packed on the wire where the client accepts it.

    CSV without fields looks at all events first, for its columns. `headers` replace those of the native API.
    """
    gone = threading.Event()
    return Stream(
        pieces_of(found, output, gone),
        MEDIA_TYPES[output.format],
        headers=found.headers if headers is None else headers,
        gzip_for=request,
        gone=gone,
    )


def pieces_of(found: Read, output: Output, gone: threading.Event) -> Generator[bytes]:
    """The events in the output's format. Raises Missing, and StoreError where the same read may succeed later."""
    survey = None
    if needs_survey(output):
        planned = list(found.planned)
        survey = surveying.survey(planned, found.sources, found.selection, cache_of(found.parts), stop_when(gone))
        found = replace(found, planned=iter(planned))
    encoder = make_encoder(output, columns_of(output, survey))
    begin = encoder.begin()
    with closing(found.bodies()) as bodies:
        for body in bodies:  # the beginning goes with the first segment: a store that fails is told as an error
            yield begin + encoder.feed(body)
            begin = b""
    yield begin + encoder.end()


def cache_of(parts: Parts) -> ScanCache:
    """Where findings of scans are kept, together with those of the daemon."""
    return ScanCache(parts.config.state_dir.joinpath(*FOLDER))
