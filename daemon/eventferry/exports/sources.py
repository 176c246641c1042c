"""What any process needs to read a source's events: its store, how its events are timed, and whose they are."""

from dataclasses import dataclass

from eventferry.pipeline.times import DEFAULT_TIMES
from eventferry.store import Store, StoreSpec, open_store
from eventferry.store.opening import StreamLimits


@dataclass(frozen=True, slots=True)
class Readable:
    """A source without its ledger and its configuration: picklable, and small. The store's options are never shown."""

    id: int
    name: str
    store: StoreSpec
    limits: StreamLimits = StreamLimits()  # noqa: RUF009 - frozen
    concatenated: bool = False
    key_pattern: str | None = None  # None: keys say nothing
    time_fields: tuple[str, ...] = DEFAULT_TIMES  # dotted paths, the first usable one is the event's time
    tenant_field: str | None = None  # dotted paths, where the key's groups do not say whose an event is
    project_field: str | None = None
    collection_field: str | None = None

    @property
    def reading(self) -> list[object]:
        """What decides whose its events are, when they were and what they are; for JSON. It holds no secrets."""
        return [
            self.name, self.key_pattern, list(self.time_fields), self.tenant_field, self.project_field,
            self.collection_field, self.concatenated,
        ]  # fmt: skip

    def open(self) -> Store:
        """A fresh connection to the store."""
        return open_store(self.store)
