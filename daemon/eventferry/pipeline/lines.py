"""Judges the lines of an object and tallies them into segments.

How it is quick: a chunk of whole lines is checked whole (UTF-8, then one compiled decoder mapped over its lines), so no
Python bytecode runs per event. Only a chunk that fails is read line by line.
"""

import codecs
import io
from dataclasses import dataclass, field
from typing import Any

import msgspec
import xxhash

from eventferry.pipeline.frame import BOM, CR, HOLES, STARTS_WITH_BOM, UNTERMINATED, Hole
from eventferry.pipeline.times import Span, TimeDecoder

_WHITE = b" \t\r\n"
_BLANK = "blank"
_PIECE = 8 * 1024  # its text fits the first-level cache
_check_object = msgspec.json.Decoder(msgspec.defstruct("AnyObject", [], gc=False)).decode


@dataclass(frozen=True, slots=True)
class Segment:
    """A byte range of whole lines of one object's decompressed stream."""

    start: int
    end: int
    events: int
    untimed: int  # events without a usable time
    first_line: int  # 1-based
    lines: int
    blank: int
    bad: int
    time_min: int | None  # epoch ms
    time_max: int | None
    digest: str  # xxh3-128 of the raw range, hex
    flags: int  # see frame.py
    holes: tuple[Hole, ...]  # ranges of bad and blank lines with their newline, neighbours merged


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no event: where, how long without its newline, and why."""

    line: int
    offset: int
    length: int
    reason: str


@dataclass(slots=True)
class Tally:
    """What some whole lines come to; grows into a segment."""

    start: int
    end: int
    first_line: int
    events: int = 0
    bad: int = 0
    blank: int = 0
    times: Span = Span()  # noqa: RUF009 - a named tuple
    flags: int = 0
    holes: list[Hole] = field(default_factory=list)
    digest: Any = field(default_factory=xxhash.xxh3_128)

    @property
    def lines(self) -> int:
        return self.events + self.bad + self.blank

    def add_hole(self, start: int, end: int) -> None:
        self.flags |= HOLES
        if self.holes and self.holes[-1][1] == start:
            start = self.holes.pop()[0]
        self.holes.append((start, end))

    def append(self, following: "Tally") -> None:
        """Take in the tally of the bytes that follow; its digest is up to the caller."""
        self.end = following.end
        self.events += following.events
        self.bad += following.bad
        self.blank += following.blank
        self.flags |= following.flags
        self.times = self.times.joined(following.times)
        if following.holes:
            self.add_hole(*following.holes[0])
            self.holes += following.holes[1:]

    def close(self) -> Segment:
        return Segment(
            start=self.start,
            end=self.end,
            events=self.events,
            untimed=self.times.untimed,
            first_line=self.first_line,
            lines=self.lines,
            blank=self.blank,
            bad=self.bad,
            time_min=self.times.low,
            time_max=self.times.high,
            digest=self.digest.hexdigest(),
            flags=self.flags,
            holes=tuple(self.holes),
        )


class LineReader:
    """Judges whole lines and tallies them."""

    def __init__(self, times: TimeDecoder, max_line_bytes: int, max_samples: int) -> None:
        self._times = times
        self._decode = times.decode
        self._max_line = max_line_bytes
        self._max_samples = max_samples
        self.samples: list[BadLine] = []
        self._too_long = f"longer than {_size(max_line_bytes)}"

    def read(self, chunk: bytes, start: int, first_line: int) -> Tally:
        """The tally of a chunk of whole lines at byte `start` of its object."""
        tally = Tally(start, start + len(chunk), first_line)
        body = chunk.removeprefix(BOM) if start == 0 else chunk
        events: list[Any] = []
        if len(body) <= self._max_line or max(map(len, io.BytesIO(body))) <= self._max_line:
            try:
                _check_utf8(body)
                events = list(map(self._decode, io.BytesIO(body)))
            except (ValueError, RecursionError):
                events = []  # some line is no event, or its time is odd
        if not events:
            self._read_lines(chunk, tally)
            return tally
        tally.events = len(events)
        tally.flags = _flags_of(body) | (STARTS_WITH_BOM if len(body) < len(chunk) else 0)
        tally.times = self._times.span(events)
        return tally

    def _read_lines(self, chunk: bytes, tally: Tally) -> None:
        events: list[Any] = []
        odd, offset = Span(), tally.start
        for number, raw in enumerate(io.BytesIO(chunk), tally.first_line):
            line = raw.removeprefix(BOM) if offset == 0 else raw
            try:
                line.isascii() or line.decode()
                event = self._decode(line)
            except (ValueError, RecursionError):
                event = None
            fault = self._fault(line, len(raw)) if event is None or len(raw) > self._max_line else None
            if fault is not None:
                self._leave_out(tally, fault, number, offset, raw)
            else:
                tally.events += 1
                tally.flags |= _flags_of(line) | (STARTS_WITH_BOM if len(line) < len(raw) else 0)
                if event is None:
                    odd = odd.joined(_span_of_one(self._times.of_odd_line(line)))
                else:
                    events.append(event)
            offset += len(raw)
        tally.times = odd.joined(self._times.span(events))

    def _leave_out(self, tally: Tally, fault: str, number: int, offset: int, raw: bytes) -> None:
        tally.add_hole(offset, offset + len(raw))
        if fault == _BLANK:
            tally.blank += 1
        else:
            tally.bad += 1
            self._sample(BadLine(number, offset, len(raw.removesuffix(b"\n")), fault))

    def leave_out_long(self, start: int, end: int, length: int, number: int) -> Tally:
        """The tally of a line beyond the limit, which was never held in memory."""
        tally = Tally(start, end, number, bad=1)
        tally.add_hole(start, end)
        self._sample(BadLine(number, start, length, self._too_long))
        return tally

    def _sample(self, bad: BadLine) -> None:
        if len(self.samples) < self._max_samples:
            self.samples.append(bad)

    def _fault(self, line: bytes, length: int) -> str | None:
        """Why a line of `length` bytes is no event; None where it is one."""
        if length - line.endswith(b"\n") > self._max_line:
            return self._too_long
        if not line.strip(_WHITE):
            return _BLANK
        try:
            line.decode()
            _check_object(line)
        except UnicodeDecodeError as error:
            return f"not valid UTF-8 at byte {error.start}"
        except msgspec.ValidationError:
            return "not an object"
        except RecursionError:
            return "invalid JSON: nested too deeply"
        except msgspec.DecodeError as error:
            return f"invalid JSON: {str(error).removeprefix('JSON is malformed: ')}"
        return None


def _check_utf8(chunk: bytes) -> None:
    """Raise UnicodeDecodeError where the chunk is not UTF-8. Piece by piece, because most pieces are plain ASCII."""
    if chunk.isascii():
        return
    view, at, size = memoryview(chunk), 0, len(chunk)
    while at < size:
        at += codecs.utf_8_decode(view[at : at + _PIECE], "strict", at + _PIECE >= size)[1]


def _flags_of(lines: bytes) -> int:
    flags = CR if b"\r" in lines and (b"\r\n" in lines or lines.endswith(b"\r")) else 0
    return flags if lines.endswith(b"\n") else flags | UNTERMINATED


def _span_of_one(ms: int | None) -> Span:
    return Span(int(ms is None), ms, ms)


def _size(count: int) -> str:
    for unit, size in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if count >= size and count % size == 0:
            return f"{count // size} {unit}"
    return f"{count} bytes"
