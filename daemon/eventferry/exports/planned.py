"""The plan of a read: the segments to read in the order of the log, kept in a file so that no task needs the ledger."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from eventferry.exports.model import Selection

_FLUSH = 1024 * 1024


class Planned(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A segment to read, with all that reading it needs."""

    position: int
    source_id: int
    object_id: int
    key: str
    version: str
    newest: str | None  # the version of the key that was seen last, where that is another one
    start: int  # bytes of the object's decompressed stream
    end: int
    first_line: int
    events: int
    untimed: int
    time_min: int | None  # epoch ms
    time_max: int | None
    digest: str
    flags: int
    holes: tuple[tuple[int, int], ...]
    is_whole: bool  # every one of its events is selected

    @property
    def size(self) -> int:
        """Raw bytes."""
        return self.end - self.start


class Timed(Protocol):
    """What is known of the times of a segment's events."""

    @property
    def untimed(self) -> int: ...
    @property
    def time_min(self) -> int | None: ...
    @property
    def time_max(self) -> int | None: ...


def is_during(segment: Timed, selection: Selection) -> bool:
    """Whether every event of the segment lies in the selection's time range."""
    if selection.start_ms is None and selection.end_ms is None:
        return True
    if segment.untimed or segment.time_min is None or segment.time_max is None:
        return False
    return (selection.start_ms is None or segment.time_min >= selection.start_ms) and (
        selection.end_ms is None or segment.time_max < selection.end_ms
    )


@dataclass(frozen=True, slots=True)
class PlanTotals:
    """What a plan comes to."""

    segments: int = 0
    bytes: int = 0  # raw, to be read
    events: int = 0  # at most: those of all segments
    whole_events: int = 0  # at least: those of whole segments

    def plus(self, planned: Planned) -> "PlanTotals":
        """With one segment more."""
        return PlanTotals(
            self.segments + 1,
            self.bytes + planned.size,
            self.events + planned.events,
            self.whole_events + (planned.events if planned.is_whole else 0),
        )


def write_plan(path: Path, plan: Iterable[Planned]) -> PlanTotals:
    """Write the plan to the file, whole or not at all, and durably. Raises OSError."""
    part = path.with_name(f".{path.name}.part")
    totals, encode = PlanTotals(), msgspec.json.Encoder().encode
    with part.open("wb", buffering=_FLUSH) as out:
        for planned in plan:
            totals = totals.plus(planned)
            out.write(encode(planned))
            out.write(b"\n")
        out.flush()
        os.fsync(out.fileno())
    part.rename(path)
    return totals


def read_plan(path: Path) -> Iterator[Planned]:
    """The planned segments of the file, in order; streams. Raises OSError."""
    decode = msgspec.json.Decoder(Planned).decode
    with path.open("rb", buffering=_FLUSH) as lines:
        for line in lines:
            yield decode(line)


def totals_of(plan: Iterable[Planned]) -> PlanTotals:
    """What the plan comes to."""
    totals = PlanTotals()
    for planned in plan:
        totals = totals.plus(planned)
    return totals
