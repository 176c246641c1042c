"""Cutting the log into batches, for any files, limits and filters: nothing is lost, doubled or changed on the way."""

import io
import json
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventferry.ledger.identity import batch_id
from eventferry.ledger.log import LogSegment
from eventferry.ledger.sinks import ALL
from eventferry.pipeline.material import Limits, Material, gather, rebuild
from eventferry.pipeline.scan import ScanLimits, scan_stream
from eventferry.query import parse_transform
from eventferry.sink import Batch
from eventferry.sink.identity import event_ids

BAD = [b"{", b"[1]", b"\xff\xfe", b'{"a":NaN}', b"x" * 90, b'"text"']
BLANK = [b"", b"  ", b"\t"]
TRANSFORMS = {
    "identity": parse_transform(),
    "filter": parse_transform([{"field": "k", "eq": 1}]),
    "nothing": parse_transform([{"field": "k", "eq": 99}]),
    "rewrite": parse_transform(drop=["pad"]),
    "both": parse_transform([{"field": "k", "in": [0, 1]}], redact={"pad": "hash"}),
}


@dataclass(frozen=True)
class File:
    key: str
    raw: bytes
    good: tuple[tuple[int, bytes], ...]  # (line number, event without its line's end)


def good_line(number: int, k: int, pad: int) -> bytes:
    return json.dumps({"n": number, "k": k, "pad": "ä" * pad}, ensure_ascii=False).encode()


LINES = st.one_of(
    st.tuples(st.just("good"), st.integers(0, 2), st.integers(0, 12)),
    st.tuples(st.just("good"), st.integers(0, 2), st.integers(0, 12)),
    st.tuples(st.just("bad"), st.sampled_from(BAD), st.just(0)),
    st.tuples(st.just("blank"), st.sampled_from(BLANK), st.just(0)),
)


@st.composite
def files(draw: st.DrawFn) -> list[File]:
    made = []
    for index in range(draw(st.integers(1, 3))):
        lines = draw(st.lists(LINES, max_size=25))
        ends = [draw(st.sampled_from([b"\n", b"\r\n"])) for _ in lines]
        if lines and draw(st.booleans()):
            ends[-1] = b""
        raw = b"\xef\xbb\xbf" if lines and draw(st.booleans()) else b""
        good = []
        for number, ((kind, what, pad), end) in enumerate(zip(lines, ends, strict=True), 1):
            line = good_line(1000 * index + number, what, pad) if kind == "good" else what
            good += [(number, line)] if kind == "good" else []
            raw += line + end
        made.append(File(f"file-{index}", raw, tuple(good)))
    return made


class Log:
    """The log of some files as indexing makes it, in memory."""

    def __init__(self, made: list[File], segment_bytes: int) -> None:
        self.segments: list[LogSegment] = []
        self.raw = {file.key: file.raw for file in made}
        limits = ScanLimits(max_line_bytes=80, segment_bytes=segment_bytes)
        for object_id, file in enumerate(made, 1):
            result = scan_stream(io.BytesIO(file.raw), limits=limits)
            assert result.events == len(file.good), "the model and the scanner disagree"
            for each in result.segments:
                self.segments.append(
                    LogSegment(
                        len(self.segments) + 1, 1, object_id, file.key, "v", result.digest, each.start, each.end,
                        each.first_line, each.lines, each.events, each.time_min, each.time_max, each.digest,
                        each.flags, each.holes, 0,
                    )
                )  # fmt: skip

    def read(self, segment: LogSegment) -> bytes:
        return self.raw[segment.key][segment.start : segment.end]

    def after(self, place: tuple[int, int]) -> list[LogSegment]:
        position, byte = place
        return [s for s in self.segments if s.position > position or (s.position == position and s.end > byte)]

    def between(self, first: int, last: int) -> list[LogSegment]:
        return [s for s in self.segments if first <= s.position <= last]


def cut_all(log: Log, transform: object, limits: Limits) -> list[tuple[Material, int]]:
    """Every batch until the log's end, with what the cursor says is left of its last segment."""
    place, left, found = (0, ALL), 0, []
    while (material := gather(log.after(place), log.read, place, transform, limits)) is not None:
        left = material.left_events(left)
        assert material.end > place, "a batch that does not move the cursor would repeat for ever"
        place = material.end
        found.append((material, left))
    return found


LIMITS = st.builds(Limits, st.integers(1, 12), st.integers(1, 400), st.integers(1, 600))


@settings(max_examples=150, deadline=None)
@given(made=files(), name=st.sampled_from(sorted(TRANSFORMS)), limits=LIMITS, size=st.integers(30, 500))
def test_batches_hold_exactly_the_kept_events_in_order_and_within_the_limits(made, name, limits, size):
    """All batches together hold each kept event once, in order, with its place; limits yield to one event only."""
    log, transform = Log(made, size), TRANSFORMS[name]
    expected = []
    for file in made:
        for number, line in file.good:
            body, kept = transform.apply(line + b"\n")
            expected += [(body, f"{file.key}:{number}")] if kept else []
    found, left = [], 0
    for material, _ in cut_all(log, transform, limits):
        lines = material.body.split(b"\n")[:-1]
        assert len(lines) == material.events <= limits.max_events
        assert len(material.body) <= limits.max_bytes or material.events == 1
        scanned = [piece.end - piece.start for piece in material.pieces]
        assert sum(scanned[:-1]) < limits.max_read
        found += [(line + b"\n", material.place(position)) for position, line in enumerate(lines)]
    assert found == expected
    assert left == 0


@settings(max_examples=100, deadline=None)
@given(made=files(), name=st.sampled_from(sorted(TRANSFORMS)), limits=LIMITS, size=st.integers(30, 500))
def test_the_books_balance_after_every_batch(made, name, limits, size):
    """What was read, plus what is left of the segment, plus what lies behind the cursor, is all there ever was."""
    log, transform = Log(made, size), TRANSFORMS[name]
    total, read = sum(segment.events for segment in log.segments), 0
    for material, left in cut_all(log, transform, limits):
        read += material.read_events
        behind = sum(s.events for s in log.segments if s.position > material.end[0])
        assert read + left + behind == total
        assert sum(part.events for part in material.parts("events")) == material.read_events


@settings(max_examples=100, deadline=None)
@given(made=files(), name=st.sampled_from(sorted(TRANSFORMS)), limits=LIMITS, size=st.integers(30, 500))
def test_a_batch_is_rebuilt_from_its_interval_with_the_same_bytes_and_the_same_id(made, name, limits, size):
    """The same interval gives the same bytes, digest and parts; and no two batches share an id."""
    log, transform = Log(made, size), TRANSFORMS[name]
    ids = []
    for material, _ in cut_all(log, transform, limits):
        again = rebuild(
            log.between(material.start[0], material.end[0]), log.read, material.start, material.end, transform
        )
        assert (again.body, again.digest) == (material.body, material.digest)
        assert again.parts("events") == material.parts("events")
        assert (again.events, again.read_events) == (material.events, material.read_events)
        ids.append(batch_id("out", 1, transform.fingerprint(), material.parts("events")))
        assert batch_id("out", 1, transform.fingerprint(), again.parts("events")) == ids[-1]
    assert len(set(ids)) == len(ids)


def leaves(material: Material) -> list[Material]:
    """The batch halved until single events are left, in order."""
    if material.events <= 1:
        return [material]
    left, right = material.halves()
    assert left.events >= 1
    assert right.events >= 1
    assert left.read_events + right.read_events == material.read_events
    assert (left.start, right.end) == (material.start, material.end)
    meets = left.end == right.start or right.start[0] == left.end[0] + 1
    assert meets, (left.end, right.start)
    assert left.body + right.body == material.body
    return leaves(left) + leaves(right)


@settings(max_examples=100, deadline=None)
@given(made=files(), name=st.sampled_from(sorted(TRANSFORMS)), size=st.integers(30, 500))
def test_halves_share_out_every_event_and_byte_and_can_be_rebuilt(made, name, size):
    """Halved down to single events, nothing is lost or doubled; each half has its own id, place and bytes."""
    log, transform = Log(made, size), TRANSFORMS[name]
    for material, _ in cut_all(log, transform, Limits(1000, 10**6, 10**9)):
        found = leaves(material)
        assert b"".join(each.body for each in found) == material.body
        if material.events:
            assert [each.place(0) for each in found] == [material.place(n) for n in range(material.events)]
        ids = {batch_id("out", 1, "", each.parts("events")) for each in found}
        assert len(ids) == len(found)
        for each in found:
            again = rebuild(log.between(each.start[0], each.end[0]), log.read, each.start, each.end, transform)
            assert (again.body, again.parts("events")) == (each.body, each.parts("events"))


@settings(max_examples=150, deadline=None)
@given(
    made=files(), name=st.sampled_from(sorted(TRANSFORMS)), first=LIMITS, second=LIMITS,
    sizes=st.tuples(st.integers(30, 500), st.integers(30, 500)), came=st.lists(st.booleans(), min_size=100),
)  # fmt: skip
def test_what_was_recorded_under_other_cuts_is_left_out_exactly(made, name, first, second, sizes, came):
    """A sink that wrote down which parts it took gets each event once from two ledgers, wherever these cut."""
    transform = TRANSFORMS[name]
    logs = [Log(made, size) for size in sizes]
    expected = sorted(transform.apply(b"".join(line + b"\n" for file in made for _, line in file.good))[0].split(b"\n"))
    arrived, recorded = b"", []
    for (material, _), arrives in zip(cut_all(logs[0], transform, first), came, strict=False):
        if arrives:
            arrived += material.body
            recorded += material.parts("events")
    for material, _ in cut_all(logs[1], transform, second):
        batch = Batch(
            "id", material.body, material.events, material.parts("events"), seek=material.position
        )  # fmt: skip
        arrived += batch.lacking(recorded)
        recorded += batch.parts
    assert sorted(arrived.split(b"\n")) == expected


@settings(max_examples=100, deadline=None)
@given(
    made=files(), name=st.sampled_from(sorted(TRANSFORMS)), first=LIMITS, second=LIMITS,
    sizes=st.tuples(st.integers(30, 500), st.integers(30, 500)),
)  # fmt: skip
def test_an_event_has_the_same_id_however_batches_are_cut(made, name, first, second, sizes):
    """Ids name the byte at which an event begins: each is unique, and other cuts give the same to the same event."""
    transform, named = TRANSFORMS[name], []
    for limits, size in zip((first, second), sizes, strict=True):
        ids: list[tuple[str, bytes]] = []
        for material, _ in cut_all(Log(made, size), transform, limits):
            batch = Batch("id", material.body, material.events, material.parts("events"), starts=material.starts)
            ids += zip(event_ids(batch), batch.lines(), strict=True)
            for piece, starts in enumerate(material.starts()):
                at = material.position(piece, material.pieces[piece].start)
                assert [material.position(piece, byte) for byte in starts] == list(range(at, at + len(starts)))
        assert len({each for each, _ in ids}) == len(ids)
        named.append(ids)
    assert named[0] == named[1]


def test_a_line_beyond_the_limit_is_never_read_for_delivery():
    """A segment of bad lines only, one perhaps gigabytes long, costs delivery no read."""
    log = Log([File("a", b"x" * 5000 + b"\n", ())], 500)

    def read(segment: LogSegment) -> bytes:
        raise AssertionError("nothing of it is an event")

    material = gather(log.segments, read, (0, ALL), TRANSFORMS["identity"], Limits(10, 1000, 1000))
    assert material is not None
    assert (material.events, material.end) == (0, (1, 5001))


def test_no_place_outside_the_batch():
    """A sink that asks for an event that is not there is told so, not sent to a wrong line."""
    log = Log([File("a", good_line(1, 0, 0) + b"\n", ((1, b""),))], 500)
    material = gather(log.segments, log.read, (0, ALL), TRANSFORMS["identity"], Limits(10, 1000, 1000))
    assert material is not None
    with pytest.raises(IndexError):
        material.place(1)
