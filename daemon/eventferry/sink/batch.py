"""What a sink gets in one call."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Part:
    """A byte range of one object's decompressed stream; the identity of the events in a batch."""

    source: str
    key: str
    digest: str  # xxh3-128 of the whole object's decompressed bytes, hex
    start: int  # first byte of the range
    end: int  # one past its last byte
    events: int  # events of the range, before any filter


def _nowhere(position: int) -> str:
    return f"event {position}"


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of events, encoded once: the unit of delivery.

    The same parts under the same transform have the same id and the same bytes, in every attempt, on every machine.
    """

    id: str  # 32 hex digits
    body: bytes  # NDJSON: one JSON object a line, each line ended by \\n; never empty
    events: int  # lines in body
    parts: tuple[Part, ...] = ()
    sink: str = ""
    parent: str | None = None  # the batch this one was split from
    attempt: int = 1  # 1 on the first call
    time_min: int | None = None  # smallest event time of the parts, epoch ms; None where no event has a usable time
    time_max: int | None = None
    locate: Callable[[int], str] = field(default=_nowhere, repr=False, compare=False)

    def place(self, position: int) -> str:
        """Where the event at `position` (0-based) comes from, as `key:line`."""
        return self.locate(position)

    def lines(self) -> Iterator[bytes]:
        """The events one by one, without their newline."""
        start = 0
        while (end := self.body.find(b"\n", start)) >= 0:
            yield self.body[start:end]
            start = end + 1

    def line(self, position: int) -> bytes:
        """The event at `position`, without its newline. Raises IndexError where there is none."""
        start = 0
        for _ in range(position):
            start = self.body.find(b"\n", start) + 1
            if start == 0:
                raise IndexError(position)
        end = self.body.find(b"\n", start)
        if end < 0:
            raise IndexError(position)
        return self.body[start:end]
