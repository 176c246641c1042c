"""The last object of a batch: what lists its objects, and proves that all of them are there."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from eventferry.sink import Batch
from eventferry.sink.options import utc_day

MANIFESTS = "_manifests/"


@dataclass(frozen=True, slots=True)
class Written:
    """One object of a batch."""

    key: str  # below the sink's url
    events: int
    size: int  # bytes
    sha256: str  # of its bytes, hex

    @classmethod
    def of(cls, key: str, events: int, content: bytes) -> "Written":
        return cls(key, events, len(content), hashlib.sha256(content).hexdigest())


def manifest_key(batch: Batch) -> str:
    """Comes from the batch alone, so that it is found under other options, too."""
    day = utc_day(batch.time_min) or "undated"
    return f"{MANIFESTS}{day}/{batch.id}.json"


def manifest_text(batch: Batch, objects: Sequence[Written]) -> bytes:
    """One JSON object on one line."""
    said = {"batch": batch.id, "events": batch.events, "objects": [asdict(one) for one in objects]}
    return json.dumps(said, separators=(",", ":")).encode() + b"\n"


def objects_of(text: bytes) -> list[Written] | None:
    """The objects that a manifest lists; None where it is none."""
    try:
        return [
            Written(str(one["key"]), int(one["events"]), int(one["size"]), str(one["sha256"]))
            for one in json.loads(text)["objects"]
        ]
    except (ValueError, KeyError, TypeError):
        return None
