"""What a sink tells beside its answer: the guarantee that it keeps here, and counts that people should see."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from eventferry.ledger import sink_counts, sinks
from eventferry.sink import Guarantee, Sink
from eventferry.sink.safe import safe_text

# So much of what a third party names is kept.
NAME_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class Told:
    """What there was to hear after one call."""

    guarantee: str = ""  # empty where no instance could be opened
    counts: Mapping[tuple[str, str], int] = field(default_factory=dict)  # (what, of what) → how often


def hear(sink: Sink[Any]) -> Told:
    """What the instance tells after a call; its counts begin anew. Never raises: a batch may just have been taken."""
    try:
        counts = {
            (safe_text(str(what), NAME_CHARACTERS), safe_text(str(of), NAME_CHARACTERS)): int(number)
            for (what, of), number in dict(sink.counts).items()
            if int(number) > 0
        }
        sink.counts.clear()
        return Told(str(Guarantee(sink.guarantee)), counts)
    except Exception:  # a third party's sink may have made anything of them
        return Told()


def note(tx: sa.Connection, sink_id: int, told: Told, *, taken: bool) -> None:
    """Write it down with the outcome; counts only of what was taken."""
    if told.guarantee:
        sinks.note_guarantee(tx, sink_id, told.guarantee)
    if taken:
        sink_counts.add(tx, sink_id, told.counts)
