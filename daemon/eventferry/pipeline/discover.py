"""Discover: list the store and take the object versions that no run has taken before."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import sqlalchemy as sa

from eventferry import clock
from eventferry.ledger import Ledger, objects, sources
from eventferry.ledger.objects import NewObject
from eventferry.pipeline.source import Source, start_ms
from eventferry.store import Store, StoreObject
from eventferry.store.layout import KeyInfo, skip_scan

# Membership is asked of the ledger in pages of this many keys.
PAGE = 500

Listed = tuple[StoreObject, KeyInfo]
Entry = tuple[StoreObject, KeyInfo | None]  # None: its key matches no pattern


@dataclass(slots=True)
class Discovery:
    """What one listing found."""

    listed: int = 0
    foreign: int = 0  # keys that match no pattern
    too_young: int = 0  # not settled yet
    before_start: int = 0
    found: list[NewObject] = field(default_factory=list)
    late: int = 0  # dated before the floor that pruning raised, but written after it: never taken
    limited: bool = False  # more new objects wait than `limit` allowed
    moved: dict[str, tuple[int, str]] = field(default_factory=dict)


def discover(
    ledger: Ledger,
    source: Source,
    store: Store,
    *,
    limit: int,
    full: bool,
    progress: Callable[[], None] = lambda: None,
) -> Discovery:
    """Take up to `limit` new object versions, oldest keys first; `full` ignores the listing cursors.

    One transaction records them and moves the cursors. Raises StoreError; then nothing is recorded.
    `progress` is called again and again while the listing moves.
    """
    discovery = Discovery()
    with ledger.read() as tx:
        cursors, floor = sources.partition_cursors(tx, source.id), _Floor.of(tx, source)
    listing = skip_scan(lambda after: store.list(after), source.layout, _floors(source, {} if full else cursors))
    for page in _pages(_candidates(source, _moving(listing, progress), discovery, floor)):
        with ledger.read() as tx:
            unknown = objects.unknown_of(tx, source.id, [(item.key, item.version) for item, _ in page])
        if not _take(source, page, unknown, discovery, limit):
            break
    discovery.late = _count_unknown(ledger, source, floor.late)
    with ledger.write() as tx:
        objects.take(tx, source.id, discovery.found)
        sources.move_partition_cursors(tx, source.id, discovery.moved)
        if full and not discovery.limited:
            sources.note_relisted(tx, source.id, discovery.foreign)
    return discovery


@dataclass(slots=True)
class _Floor:
    """The date before which nothing is taken, and the versions below it that no pruned run can have taken."""

    ms: int
    start_ms: int  # what is dated before it is not wanted
    written_ms: int  # what pruning has forgotten was written before it
    late: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def of(cls, tx: sa.Connection, source: Source) -> "_Floor":
        ms = sources.floor_of(tx, source.id)
        return cls(ms, start_ms(source.settings.start), max(ms, sources.created_of(tx, source.id)))


def _moving(listing: Iterable[Entry], progress: Callable[[], None]) -> Iterator[Entry]:
    """The listing as it is; tells of each page, also of one with nothing to take."""
    for number, entry in enumerate(listing):
        if number % PAGE == 0:
            progress()
        yield entry


def _count_unknown(ledger: Ledger, source: Source, versions: list[tuple[str, str]]) -> int:
    """How many of these were never taken."""
    count = 0
    for first in range(0, len(versions), PAGE):
        with ledger.read() as tx:
            count += len(objects.unknown_of(tx, source.id, versions[first : first + PAGE]))
    return count


def _floors(source: Source, cursors: dict[str, tuple[int, str]]) -> Callable[[str], str | None]:
    """For each partition the key text at which listing begins: its cursor less the look-back."""

    def floor(partition: str) -> str | None:
        if partition not in cursors:
            return None
        dated_ms, key = cursors[partition]
        return source.layout.floor(key, clock.from_ms(dated_ms) - source.settings.look_back)

    return floor


def _candidates(source: Source, listing: Iterable[Entry], discovery: Discovery, floor: _Floor) -> Iterator[Listed]:
    """Settled objects that match the pattern and the selection and are not before the start."""
    for item, info in _marked(source, listing):
        discovery.listed += 1
        if info is None:
            discovery.foreign += 1
        elif not source.selection.takes(item.key):
            continue
        elif _is_before_start(source, item, info, floor.ms):
            discovery.before_start += 1
            if _is_late(item, info, floor):
                floor.late.append((item.key, item.version))
        elif not _is_settled(source, item):
            discovery.too_young += 1
        else:
            yield item, info


@dataclass(slots=True)
class _Folder:
    """The files right in one folder, kept until all of it was listed: those below it may lie between them."""

    prefix: str
    has_marker: bool = False
    items: list[tuple[StoreObject, KeyInfo | None]] = field(default_factory=list)

    def marked(self) -> list[tuple[StoreObject, KeyInfo | None]]:
        return self.items if self.has_marker else []


def _marked(
    source: Source, listing: Iterable[tuple[StoreObject, KeyInfo | None]]
) -> Iterator[tuple[StoreObject, KeyInfo | None]]:
    """With a marker configured: only objects of folders that hold the marker."""
    marker = source.settings.marker
    if not marker:
        yield from listing
        return
    around: list[_Folder] = []  # the folders around the current key, the innermost one last
    for item, info in listing:
        name = item.key.rpartition("/")[2]
        prefix = item.key.removesuffix(name)
        while around and not prefix.startswith(around[-1].prefix):
            yield from around.pop().marked()
        if not around or around[-1].prefix != prefix:
            around.append(_Folder(prefix))
        if name == marker:
            around[-1].has_marker = True
        else:
            around[-1].items.append((item, info))
    while around:
        yield from around.pop().marked()


def _is_settled(source: Source, item: StoreObject) -> bool:
    """Older than `settle` by the store's clock, or equal in two looks that far apart (a store ahead of our clock)."""
    if source.settings.marker:
        return True
    settle_ms = int(source.settings.settle.total_seconds() * 1000)
    now = clock.now_ms()
    if now - item.modified_ms >= settle_ms:
        source.looks.pop((item.key, item.version), None)
        return True
    first = source.looks.setdefault((item.key, item.version), now)
    return now - first >= settle_ms


def _is_before_start(source: Source, item: StoreObject, info: KeyInfo, floor_ms: int) -> bool:
    """Whether the source's floor excludes the object: by its own age after start = "latest", else by the key's date."""
    if info.date is None or source.settings.start == "latest":
        return item.modified_ms < floor_ms
    return clock.to_ms(info.date) < floor_ms


def _is_late(item: StoreObject, info: KeyInfo, floor: _Floor) -> bool:
    """Whether the object is wanted by its date and was written when the floor already lay above that date."""
    is_wanted = info.date is not None and clock.to_ms(info.date) >= floor.start_ms
    return is_wanted and item.modified_ms > floor.written_ms


def _take(source: Source, page: list[Listed], unknown: set[tuple[str, str]], discovery: Discovery, limit: int) -> bool:
    """Add a page's new objects; False once the limit is reached with more waiting."""
    for item, info in page:
        if (item.key, item.version) in unknown:
            if len(discovery.found) >= limit:
                discovery.limited = True
                return False
            dated_ms = None if info.date is None else clock.to_ms(info.date)
            discovery.found.append(NewObject(item.key, item.version, item.size, item.modified_ms, dated_ms))
        # Only keys up to the last one taken move the cursor: what the limit left behind stays ahead of it.
        if info.date is not None:
            place = (clock.to_ms(info.date), item.key)
            discovery.moved[info.partition] = max(discovery.moved.get(info.partition, place), place)
    return True


def _pages(candidates: Iterable[Listed]) -> Iterator[list[Listed]]:
    iterator = iter(candidates)
    while page := list(itertools.islice(iterator, PAGE)):
        yield page
