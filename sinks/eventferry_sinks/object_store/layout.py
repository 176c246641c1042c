"""Where the objects of a batch lie under one set of options, and the record of all sets that were ever used."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from eventferry.sink import Batch, SinkMisconfigured
from eventferry.sink.columns import Column
from eventferry.sink.objects import Bucket
from eventferry.sink.options import utc_day
from eventferry.sink.rows import Extractor
from eventferry_sinks.object_store.partitions import Group, groups_of

LAYOUTS = "_layouts/"


@dataclass(frozen=True, slots=True)
class Layout:
    """What decides on the keys of a batch: the same batch under another layout would lie elsewhere."""

    partition: str
    suffix: str
    time: tuple[str, ...]  # the paths of an event's time

    @property
    def place(self) -> str:
        """The key under which this layout is written down."""
        return f"{LAYOUTS}{hashlib.sha256(self.text()).hexdigest()[:16]}.json"

    def text(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode() + b"\n"

    def groups(self, batch: Batch, times: Sequence[int | None]) -> list[Group]:
        """The events of a batch by folder; `times` are those of its events, epoch µs."""
        if not batch.events:
            return []
        if not self.partition:
            return [Group(day_of(batch))]
        return groups_of(self.partition, times)

    def key(self, batch: Batch, folder: str) -> str:
        return f"{folder}/{batch.id}{self.suffix}"

    def keys(self, batch: Batch) -> list[str]:
        """All keys of a batch."""
        column = Column(path=self.time, type="timestamp")
        (times,) = Extractor({"time": column}).extract(batch.body).values
        return [self.key(batch, group.folder) for group in self.groups(batch, times)]


def day_of(batch: Batch) -> str:
    """`2024/05/01`, the UTC day of the batch's earliest time, or `undated`."""
    return utc_day(batch.time_min, "%Y/%m/%d") or "undated"


def other_layouts(bucket: Bucket, own: Layout) -> list[Layout]:
    """The other layouts that this prefix ever had; writes down `own`."""
    found = [key for key in bucket.list(LAYOUTS) if key.endswith(".json")]
    if own.place not in found:
        bucket.put(own.place, own.text())
    return [layout for key in found if key != own.place for layout in _read(bucket, key)]


def _read(bucket: Bucket, key: str) -> list[Layout]:
    text = bucket.get(key)
    if text is None:  # removed in this moment
        return []
    try:
        said = json.loads(text)
        return [Layout(str(said["partition"]), str(said["suffix"]), tuple(map(str, said["time"])))]
    except (ValueError, KeyError, TypeError):
        raise SinkMisconfigured(f"{bucket.root}/{key} is not what eventferry writes there; remove it") from None
