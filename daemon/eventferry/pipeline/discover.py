"""Discover: list the store and take the object versions that no run has taken before."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from eventferry import clock
from eventferry.ledger import Ledger, objects, sources
from eventferry.ledger.objects import NewObject
from eventferry.pipeline.source import Source
from eventferry.store import Store, StoreObject
from eventferry.store.layout import KeyInfo, skip_scan

# Membership is asked of the ledger in pages of this many keys.
PAGE = 500

Listed = tuple[StoreObject, KeyInfo]


@dataclass(slots=True)
class Discovery:
    """What one listing found."""

    listed: int = 0
    foreign: int = 0  # keys that match no pattern
    too_young: int = 0  # not settled yet
    before_start: int = 0
    found: list[NewObject] = field(default_factory=list)
    limited: bool = False  # more new objects wait than `limit` allowed
    moved: dict[str, tuple[int, str]] = field(default_factory=dict)


def discover(ledger: Ledger, source: Source, store: Store, *, limit: int, full: bool) -> Discovery:
    """Take up to `limit` new object versions, oldest keys first; `full` ignores the listing cursors.

    One transaction records them and moves the cursors. Raises StoreError; then nothing is recorded.
    """
    discovery = Discovery()
    with ledger.read() as tx:
        cursors, floor_ms = sources.partition_cursors(tx, source.id), sources.floor_of(tx, source.id)
    listing = skip_scan(lambda after: store.list(after), source.layout, _floors(source, {} if full else cursors))
    for page in _pages(_candidates(source, listing, discovery, floor_ms)):
        with ledger.read() as tx:
            unknown = objects.unknown_of(tx, source.id, [(item.key, item.version) for item, _ in page])
        if not _take(source, page, unknown, discovery, limit):
            break
    with ledger.write() as tx:
        objects.take(tx, source.id, discovery.found)
        sources.move_partition_cursors(tx, source.id, discovery.moved)
        if full and not discovery.limited:
            sources.note_relisted(tx, source.id, discovery.foreign)
    return discovery


def _floors(source: Source, cursors: dict[str, tuple[int, str]]) -> Callable[[str], str | None]:
    """For each partition the key text at which listing begins: its cursor less the look-back."""

    def floor(partition: str) -> str | None:
        if partition not in cursors:
            return None
        dated_ms, key = cursors[partition]
        return source.layout.floor(key, clock.from_ms(dated_ms) - source.settings.look_back)

    return floor


def _candidates(
    source: Source, listing: Iterable[tuple[StoreObject, KeyInfo | None]], discovery: Discovery, floor_ms: int
) -> Iterator[Listed]:
    """Settled objects that match the pattern and the selection and are not before the start."""
    for item, info in _marked(source, listing):
        discovery.listed += 1
        if info is None:
            discovery.foreign += 1
        elif not source.selection.takes(item.key):
            continue
        elif _is_before_start(source, item, info, floor_ms):
            discovery.before_start += 1
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
    return settle_ms > 0 and now - first >= settle_ms


def _is_before_start(source: Source, item: StoreObject, info: KeyInfo, floor_ms: int) -> bool:
    """Whether the source's floor excludes the object: by its own age after start = "latest", else by the key's date."""
    if info.date is None or source.settings.start == "latest":
        return item.modified_ms < floor_ms
    return clock.to_ms(info.date) < floor_ms


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
