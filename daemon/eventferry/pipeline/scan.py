"""Reads one object to its verified end and says what its lines are: the index task, run in worker processes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import xxhash

from eventferry.errors import ObjectChanged, ObjectGone, StoreError, UnreadableObject
from eventferry.pipeline.lines import BadLine, LineReader, Segment, Tally
from eventferry.pipeline.times import DEFAULT_TIMES, TimeDecoder, time_decoder
from eventferry.store import StoreSpec, open_store
from eventferry.store.ahead import Opener, ReadAhead, Room
from eventferry.store.opening import StreamLimits, open_stream

__all__ = [
    "BadLine",
    "Known",
    "ScanFailure",
    "ScanLimits",
    "ScanResult",
    "ScanSpec",
    "Segment",
    "scan",
    "scan_pack",
    "scan_stream",
]

WINDOW = 192 * 1024  # smaller ones cost more calls, from 512 KiB on they fall out of the second-level cache
_SEGMENT_HOLES = 4096  # a segment with more is closed early, so that a row of the ledger stays small
_OBJECT_HOLES = 1_000_000  # an object with more is unreadable, so that what a worker sends back stays bounded


class Stream(Protocol):
    """Decompressed bytes, read forward; b"" at the end only."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class ScanLimits:
    """What one object may come to."""

    max_line_bytes: int = 1024 * 1024  # without the newline
    max_bytes: int | None = None  # decompressed; None: unlimited
    max_ratio: int = 1000  # decompressed bytes per stored byte
    max_samples: int = 20
    segment_bytes: int = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Known:
    """An earlier version of the same key, wholly indexed: its decompressed length and digest."""

    bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class ScanSpec:
    """All that a worker needs to scan one object."""

    store: StoreSpec
    key: str
    version: str
    times: tuple[str, ...] = DEFAULT_TIMES  # dotted paths, the first usable one is the event's time
    concatenated: bool = False  # JSON objects without newlines between them
    limits: ScanLimits = ScanLimits()
    known: Known | None = None
    size: int = 0  # stored bytes
    reads: int = 1  # how many objects of a pack are fetched at once
    room: int = 0  # bytes that those fetched and not yet scanned may take


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What an object holds. Counts, segments and samples are of the new bytes only where it is unchanged or grew."""

    digest: str  # of all its decompressed bytes
    bytes: int
    lines: int  # events + bad + blank
    events: int
    bad: int
    blank: int
    untimed: int
    segments: tuple[Segment, ...]
    samples: tuple[BadLine, ...]  # the first bad lines
    unchanged: bool = False
    grew_from: int | None = None


@dataclass(frozen=True, slots=True)
class ScanFailure:
    """Why an object was not scanned: unreadable for good, gone, changed meanwhile, or unavailable for now."""

    kind: str
    reason: str
    offset: int = 0


def scan(spec: ScanSpec) -> ScanResult | ScanFailure:
    """Scan one object of a store. What is wrong with the object or the store is returned, never raised."""
    return scan_pack([spec])[0]


def scan_pack(specs: Sequence[ScanSpec]) -> list[ScanResult | ScanFailure]:
    """Scan several objects of one source in one task, so that tiny ones do not cost one each."""
    if not specs:
        return []
    with ReadAhead(lambda: open_store(specs[0].store), specs[0].reads, Room(specs[0].room)) as store:
        return [_scan_from(_foreseeing(store, specs, at), spec) for at, spec in enumerate(specs)]


def _foreseeing(store: ReadAhead, specs: Sequence[ScanSpec], at: int) -> ReadAhead:
    """The store, told which objects come next; a single one is not worth it."""
    if len(specs) > 1 and specs[at].reads > 1:
        all(store.expect(spec.key, spec.version, spec.size) for spec in specs[at : at + 2 * specs[at].reads])
    return store


def _scan_from(store: Opener, spec: ScanSpec) -> ScanResult | ScanFailure:
    limits = StreamLimits(max_bytes=spec.limits.max_bytes, max_ratio=spec.limits.max_ratio)
    try:
        with open_stream(store, spec.key, spec.version, concatenated=spec.concatenated, limits=limits) as stream:
            return scan_stream(stream, spec.times, spec.limits, spec.known)
    except UnreadableObject as error:
        return ScanFailure("unreadable", error.reason, error.offset)
    except ObjectGone as error:
        return ScanFailure("gone", str(error))
    except ObjectChanged as error:
        return ScanFailure("changed", str(error))
    except (StoreError, OSError) as error:
        return ScanFailure("unavailable", str(error) or type(error).__name__)


def scan_stream(
    stream: Stream,
    times: tuple[str, ...] = DEFAULT_TIMES,
    limits: ScanLimits = ScanLimits(),
    known: Known | None = None,
) -> ScanResult:
    """Scan decompressed bytes. Raises what reading raises, and UnreadableObject."""
    return _Scan(stream, time_decoder(times), limits, known).run()


class _Scan:
    """One pass over one stream: windows, lines over their edges, segments, the earlier version."""

    def __init__(self, stream: Stream, times: TimeDecoder, limits: ScanLimits, known: Known | None) -> None:
        self._stream = stream
        self._limits = limits
        self._known = known
        self._window = min(WINDOW, limits.segment_bytes)
        self._digest = xxhash.xxh3_128()
        self._total = 0  # bytes read
        self._prefix_equal = False  # the bytes begin with those of the earlier version
        self._reader = LineReader(times, limits.max_line_bytes, limits.max_samples)
        self._restart(0, 1)

    def _restart(self, start: int, line: int) -> None:
        self._base = start
        self._at = start  # first byte that is not yet in a segment
        self._line = line  # its line number
        self._carry: list[bytes] = []  # the beginning of a line that no window has ended yet
        self._carried = 0
        self._long: Any = None  # the digest of a line beyond the limit while it is skipped
        self._open: Tally | None = None
        self._segments: list[Segment] = []
        self._holes = 0
        self._reader.samples.clear()

    def run(self) -> ScanResult:
        while window := self._next_window():
            self._take(window)
        if self._long is not None:
            self._end_long(b"")
        elif self._carried:
            self._tally(b"".join(self._carry))
        self._close()
        known = self._known
        unchanged = known is not None and self._prefix_equal and self._total == known.bytes
        if unchanged:
            self._restart(0, 1)
        segments = self._segments
        return ScanResult(
            digest=self._digest.hexdigest(),
            bytes=self._total,
            lines=sum(segment.lines for segment in segments),
            events=sum(segment.events for segment in segments),
            bad=sum(segment.bad for segment in segments),
            blank=sum(segment.blank for segment in segments),
            untimed=sum(segment.untimed for segment in segments),
            segments=tuple(segments),
            samples=tuple(self._reader.samples),
            unchanged=unchanged,
            grew_from=self._base or None,
        )

    def _next_window(self) -> bytes:
        """The next window; they lie at fixed places, and again so after the bytes of the earlier version."""
        if self._known is None or not 0 <= (ahead := self._known.bytes - self._total) <= self._window:
            return self._read(self._window)
        data = self._read(ahead)
        if len(data) == ahead and self._digest.hexdigest() == self._known.digest:
            self._prefix_equal = True
            if data.endswith(b"\n"):
                self._restart(self._total, self._line + data.count(b"\n"))
                return self._read(self._window)
        return data + self._read(self._window - ahead)

    def _read(self, size: int) -> bytes:
        """Exactly `size` bytes, fewer only at the end of the stream."""
        data = self._stream.read(size) if size else b""
        if data and len(data) < size:
            parts, missing = [data], size - len(data)
            while missing and (more := self._stream.read(missing)):
                parts.append(more)
                missing -= len(more)
            data = b"".join(parts)
        self._digest.update(data)
        self._total += len(data)
        return data

    def _take(self, window: bytes) -> None:
        cut = window.rfind(b"\n") + 1
        if cut == 0:
            self._hold(window)
            return
        done = 0
        if self._long is not None:
            done = window.index(b"\n") + 1
            self._end_long(window[:done])
        if done < cut:
            self._tally(b"".join((*self._carry, memoryview(window)[done:cut])))
        self._carry, self._carried = [], 0
        if cut < len(window):
            self._hold(window[cut:])

    def _hold(self, part: bytes) -> None:
        """Keep the beginning of a line, unless it is beyond the limit."""
        self._carried += len(part)
        if self._long is not None:
            self._long.update(part)
            return
        self._carry.append(part)
        if self._carried > max(self._limits.max_line_bytes, self._window):
            self._long = xxhash.xxh3_128(b"".join(self._carry))
            self._carry = []

    def _end_long(self, rest: bytes) -> None:
        self._close()
        length = self._carried + len(rest.removesuffix(b"\n"))
        end = self._at + self._carried + len(rest)
        tally = self._reader.leave_out_long(self._at, end, length, self._line)
        self._long.update(rest)
        tally.digest, self._long, self._carried = self._long, None, 0
        self._append(tally)
        self._close()

    def _tally(self, lines: bytes) -> None:
        """Tally whole lines into segments; a line longer than a segment comes first and stands alone."""
        cut = lines.find(b"\n") + 1 if len(lines) > self._limits.segment_bytes else 0
        for chunk in (lines[:cut], lines[cut:]):
            if chunk:
                tally = self._reader.read(chunk, self._at, self._line)
                if self._open is not None and self._is_full(tally.end - self._open.start, self._open):
                    self._close()
                self._append(tally)
                assert self._open is not None
                self._open.digest.update(chunk)

    def _append(self, tally: Tally) -> None:
        self._at, self._line = tally.end, self._line + tally.lines
        self._holes += len(tally.holes)
        if self._holes > _OBJECT_HOLES:
            raise UnreadableObject(f"more than {_OBJECT_HOLES} stretches of bad or blank lines", tally.end)
        if self._open is None:
            self._open = tally
        else:
            self._open.append(tally)

    def _is_full(self, length: int, segment: Tally) -> bool:
        return length > self._limits.segment_bytes or len(segment.holes) > _SEGMENT_HOLES

    def _close(self) -> None:
        if self._open is not None:
            self._segments.append(self._open.close())
            self._open = None
