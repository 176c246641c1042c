"""A source at work: its configuration with its identity in the ledger."""

import datetime as dt
from dataclasses import dataclass, field

from eventferry import clock
from eventferry.config import SourceConfig
from eventferry.ledger import Ledger, log, sources
from eventferry.ledger.sinks import Start
from eventferry.store import Store, StoreSpec, open_store
from eventferry.store.layout import Layout, Selection
from eventferry.store.opening import StreamLimits


@dataclass(frozen=True, slots=True)
class Source:
    """A configured source; `looks` remembers files that were too young, within this process."""

    id: int
    name: str
    identity: str
    settings: SourceConfig
    spec: StoreSpec
    layout: Layout
    selection: Selection
    looks: dict[tuple[str, str], int] = field(default_factory=dict, repr=False, compare=False)

    def open(self) -> Store:
        """A fresh connection to the source's store."""
        return open_store(self.spec)

    @property
    def reads(self) -> int:
        """How many of its objects are fetched at once: one where no network lies between."""
        return self.settings.reads if self.spec.is_remote else 1

    @property
    def limits(self) -> StreamLimits:
        """How far one of its objects may expand."""
        return StreamLimits(max_bytes=self.settings.max_size, max_ratio=self.settings.max_ratio)

    @property
    def concatenated(self) -> bool:
        """Whether its events stand without newlines between them."""
        return self.settings.concatenated


def spec_of(settings: SourceConfig) -> StoreSpec:
    """What a worker process needs to open the source's store."""
    url, options = settings.store_spec()
    return StoreSpec(url, tuple(sorted(options.items())))


def root_of(settings: SourceConfig) -> str:
    """What names the source's store in the ledger; opens nothing over the network."""
    store = open_store(spec_of(settings))
    try:
        return store.root
    finally:
        store.close()


def register(ledger: Ledger, settings: SourceConfig) -> Source:
    """Find or create the source in the ledger. Raises ConfigError where its store was moved silently."""
    root = root_of(settings)
    with ledger.write() as tx:
        row = sources.register_source(
            tx,
            settings.name,
            root,
            start_ms(settings.start),
            renamed_from=settings.renamed_from,
            moved_from=settings.moved_from,
        )
    return Source(
        id=row.id,
        name=row.name,
        identity=row.identity,
        settings=settings,
        spec=spec_of(settings),
        layout=Layout(settings.key_pattern or None),
        selection=Selection(settings.include, settings.exclude),
    )


def start_ms(start: str | dt.date) -> int:
    """The date before which nothing is taken: the epoch, now, or the given day."""
    if start == "earliest":
        return 0
    if start == "latest":
        return clock.now_ms()
    day = start if isinstance(start, dt.date) else dt.date.fromisoformat(start)
    return clock.to_ms(dt.datetime(day.year, day.month, day.day, tzinfo=clock.UTC))


def start_of(ledger: Ledger, source_id: int, start: str | dt.date) -> Start:
    """Where in the log a new sink starts. What is not there yet is decided when it comes: see sinks.pass_by."""
    if start == "earliest":
        return Start(0)
    since = start_ms(start)
    with ledger.read() as tx:
        if start == "latest":
            last = log.last_of(tx, source_id)
            return Start(log.head(tx)) if last else Start(0, since, by_age=True)
        first = log.first_since(tx, source_id, 0, since)
        return Start(log.last_of(tx, source_id), since) if first is None else Start(first - 1)
