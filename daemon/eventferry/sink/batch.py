"""What a sink gets in one call."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
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

    @property
    def content(self) -> tuple[str, str, str]:
        """What the range is a range of: (source, key, digest)."""
        return self.source, self.key, self.digest


def _nowhere(position: int) -> str:
    return f"event {position}"


def _unknown(part: int, byte: int) -> int:
    raise LookupError(f"this batch does not say which event of part {part} lies at byte {byte}")


def _unsaid() -> list[list[int]]:
    return []


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of events, encoded once: the unit of delivery.

    The same parts under the same transform have the same id and the same bytes, in every attempt, on every machine.
    """

    id: str  # 32 hex digits
    body: bytes  # NDJSON: one JSON object a line, each line ended by \\n; empty only in a batch that just replaces
    events: int  # lines in body
    parts: tuple[Part, ...] = ()
    sink: str = ""
    parent: str | None = None  # the batch this one was split from
    attempt: int = 1  # 1 on the first call
    time_min: int | None = None  # smallest event time of the parts, epoch ms; None where no event has a usable time
    time_max: int | None = None
    # Within it a range is sent once: the sink's own deliveries, repairs and replacements under one filter, or one
    # replay `--again`. It begins with the sink's identity; what follows, if anything, follows a `#`.
    epoch: str = ""
    # Ids whose events this batch supersedes: to be deleted in the transaction that takes its own. Only `can_replace`.
    replaces: tuple[str, ...] = ()
    locate: Callable[[int], str] = field(default=_nowhere, repr=False, compare=False)
    seek: Callable[[int, int], int] = field(default=_unknown, repr=False, compare=False)
    # For each part the bytes of its object at which its events begin; empty where nobody can say.
    starts: Callable[[], list[list[int]]] = field(default=_unsaid, repr=False, compare=False)

    def place(self, position: int) -> str:
        """Where the event at `position` (0-based) comes from, as `key:line`."""
        return self.locate(position)

    def position(self, part: int, byte: int) -> int:
        """The position of the first event of `parts[part]` that begins at `byte` of its object, or after it."""
        return self.seek(part, byte)

    def lacking(self, recorded: Iterable[Part]) -> bytes:
        """The lines of `body` that lie in none of the `recorded` ranges; ranges of other content do not matter.

        For sinks that write the parts down in the transaction of the events, by `epoch`: what an earlier ledger sent
        in batches that were cut elsewhere is then not taken twice.
        """
        taken: defaultdict[tuple[str, str, str], list[tuple[int, int]]] = defaultdict(list)
        for part in recorded:
            taken[part.content].append((part.start, part.end))
        if not taken:
            return self.body
        gaps = [_gaps(part.start, part.end, taken.get(part.content, [])) for part in self.parts]
        if all(gap == [(part.start, part.end)] for gap, part in zip(gaps, self.parts, strict=True)):
            return self.body
        if not any(gaps):
            return b""
        lines = [line + b"\n" for line in self.lines()]
        kept: list[bytes] = []
        for number, gap in enumerate(gaps):
            for low, high in gap:
                kept += lines[self.position(number, low) : self.position(number, high)]
        return b"".join(kept)

    def overlaps(self, recorded: Part, epoch: str) -> bool:
        """Whether a range recorded under that epoch holds events of this batch that the same sink was sent."""
        if epoch.partition("#")[0] != self.epoch.partition("#")[0]:
            return False
        return any(
            part.content == recorded.content and part.start < recorded.end and recorded.start < part.end
            for part in self.parts
        )

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


def _gaps(start: int, end: int, taken: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The ranges of [start, end) that no range of `taken` covers."""
    gaps = []
    for low, high in sorted(taken):
        if low >= end:
            break
        if low > start:
            gaps.append((start, low))
        start = max(start, high)
    if start < end:
        gaps.append((start, end))
    return gaps
