"""What is delivered of an object is its good lines, framed in one way, whatever lies between them."""

import io
import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventferry.pipeline import scan as scanning
from eventferry.pipeline.cut import count_events, cut, line_of, offset_after
from eventferry.pipeline.frame import BOM, frame
from eventferry.pipeline.scan import ScanLimits, ScanResult, scan_stream

MAX_LINE = 90

EVENTS = [
    b"{}",
    b'{"event_timestamp":1700000000000}',
    b'{"event_timestamp":1700000009999,"a":"' + b"x" * 40 + b'"}',
    b'{"event_timestamp":"odd"}',
    b'{"event_timestamp":1e400}',
    '{"a":"東京"}'.encode(),
    b' {"a":\r1} ',
]
NO_EVENTS = [b"[1]", b'{"a":', b"\xff", b'{"a":"' + b"y" * 200 + b'"}', b"z" * 95, b" " * 300, BOM + b"{}"]
BLANKS = [b"", b" ", b"\t \t"]
ENDS = [b"\n", b"\n", b"\n", b"\r\n", b"\r\r\n"]


@dataclass
class Object:
    """A made-up object: its bytes, and what its lines are."""

    data: bytes
    kinds: list[str]
    events: list[bytes]
    numbers: list[int]


@st.composite
def objects(draw: st.DrawFn) -> Object:
    """Any mix of lines and line ends, with or without BOM and last newline."""
    lines = draw(st.lists(st.sampled_from([*EVENTS, *EVENTS, *NO_EVENTS, *BLANKS]), max_size=30))
    ends = [draw(st.sampled_from(ENDS)) for _ in lines]
    has_bom = draw(st.booleans())
    while not has_bom and lines and lines[0].startswith(BOM):  # there it would be the object's
        lines.pop(0), ends.pop(0)
    if ends and draw(st.booleans()):
        ends[-1] = draw(st.sampled_from([b"", b"\r"]))
        if lines[-1] + ends[-1] == b"" and not (has_bom and len(lines) == 1):
            lines.pop(), ends.pop()
    data = BOM * has_bom + b"".join(line + end for line, end in zip(lines, ends, strict=True))
    if has_bom and not lines:
        return Object(data, ["blank"], [], [])
    kinds = ["event" if x in EVENTS else "bad" if x in NO_EVENTS else "blank" for x in lines]
    numbers = [number for number, kind in enumerate(kinds, 1) if kind == "event"]
    return Object(data, kinds, [lines[number - 1] for number in numbers], numbers)


class Dribble(io.BytesIO):
    """A stream that hands out less than it is asked for."""

    def __init__(self, data: bytes, seed: int) -> None:
        super().__init__(data)
        self._random = random.Random(seed)

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None and size > 0
        return super().read(self._random.randint(1, size))


@pytest.fixture(params=[16, 64, 1000], autouse=True)
def window(request: pytest.FixtureRequest) -> Iterator[int]:
    """Windows small enough to have their edges everywhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanning, "WINDOW", request.param)
        yield request.param


def scan_object(thing: Object, segment_bytes: int, seed: int) -> ScanResult:
    limits = ScanLimits(max_line_bytes=MAX_LINE, segment_bytes=segment_bytes)
    return scan_stream(Dribble(thing.data, seed), limits=limits)


segment_sizes = st.sampled_from([20, 100, 300, 4096])
seeds = st.integers(0, 2**32)


@given(thing=objects(), segment_bytes=segment_sizes, seed=seeds)
def test_framed_segments_are_the_good_lines(thing: Object, segment_bytes: int, seed: int) -> None:
    """Every event arrives once, in order, without CR and BOM, with one newline; nothing else does."""
    found = scan_object(thing, segment_bytes, seed)
    framed = [frame(thing.data[s.start : s.end], s.start, s.flags, s.holes) for s in found.segments]
    assert b"".join(framed) == b"".join(event + b"\n" for event in thing.events)
    assert [body.count(b"\n") for body in framed] == [s.events for s in found.segments]


@given(thing=objects(), segment_bytes=segment_sizes, seed=seeds)
def test_segments_do_not_depend_on_how_the_stream_is_read(thing: Object, segment_bytes: int, seed: int) -> None:
    """The same bytes give the same segments, digests and samples in any portions."""
    assert scan_object(thing, segment_bytes, seed) == scan_object(thing, segment_bytes, seed + 1)


@given(thing=objects(), segment_bytes=segment_sizes, seed=seeds)
def test_the_books_of_an_object_balance(thing: Object, segment_bytes: int, seed: int) -> None:
    """Segments tile the object in whole lines, and every line is an event, bad or blank."""
    found = scan_object(thing, segment_bytes, seed)
    kinds = thing.kinds
    assert (found.lines, found.events, found.bad, found.blank) == (
        len(kinds), kinds.count("event"), kinds.count("bad"), kinds.count("blank"),
    )  # fmt: skip
    edge, line = 0, 1
    for segment in found.segments:
        assert (segment.start, segment.first_line) == (edge, line)
        assert segment.lines == segment.events + segment.bad + segment.blank > 0
        assert segment.end - segment.start <= segment_bytes or segment.lines == 1
        edge, line = segment.end, line + segment.lines
    assert edge == len(thing.data) == found.bytes
    for bad in found.samples:
        assert kinds[bad.line - 1] == "bad"
        assert b"\n" not in thing.data[bad.offset : bad.offset + bad.length]


@given(thing=objects(), segment_bytes=segment_sizes, seed=seeds, step=st.integers(1, 5))
def test_framing_composes_over_batches(thing: Object, segment_bytes: int, seed: int, step: int) -> None:
    """Cutting a framed body and going on at the raw byte that belongs to the cut loses and doubles nothing."""
    numbers: list[int] = []
    for s in scan_object(thing, segment_bytes, seed).segments:
        raw = thing.data[s.start : s.end]
        whole = frame(raw, s.start, s.flags, s.holes)
        at, bodies = s.start, []
        while (left := count_events(raw[at - s.start :], at, s.holes)) > 0:
            rest = raw[at - s.start :]
            body = frame(rest, at, s.flags, s.holes)
            end, events = cut(body, step, 10**6, left)
            line = s.first_line + raw[: at - s.start].count(b"\n")
            numbers += [line_of(rest, at, line, s.holes, position) for position in range(events)]
            begun, at = at, offset_after(rest, at, s.holes, events)
            bodies.append(frame(rest[: at - begun], begun, s.flags, s.holes))
            assert bodies[-1] == body[:end]
        assert b"".join(bodies) == whole
    assert numbers == thing.numbers


def test_a_clean_range_is_passed_on_untouched() -> None:
    """Nothing is copied where nothing is to be done."""
    raw = b'{"a":1}\n{"a":2}\n'
    (segment,) = scan_stream(io.BytesIO(raw)).segments
    assert segment.flags == 0
    assert frame(raw, 0, segment.flags, segment.holes) is raw
