"""Cutting between lines: whole lines, within the limits, and work that grows with the bytes only."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventferry.pipeline import cut as cutting
from eventferry.pipeline.cut import count_events, cut, line_of, newline_after, offset_after

bodies = st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"") + b"\n"))
small_blocks = pytest.mark.parametrize("blocks", [(1, 1), (3, 7), (4096, 65536)])


@small_blocks
@given(lines=bodies, data=st.data())
def test_the_nth_newline_is_found(blocks: tuple[int, int], lines: list[bytes], data: st.DataObject) -> None:
    """The offset past the n-th newline is the length of n lines, wherever one starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "_FIRST_BLOCK", blocks[0])
        patch.setattr(cutting, "_BLOCK", blocks[1])
        body = b"".join(lines)
        skipped = data.draw(st.integers(0, len(lines)))
        count = data.draw(st.integers(0, len(lines) - skipped))
        start = len(b"".join(lines[:skipped]))
        expected = len(b"".join(lines[: skipped + count]))
        assert newline_after(body, start, count) == newline_after(memoryview(body), start, count) == expected
        with pytest.raises(ValueError, match=f"only {len(lines) - skipped} of "):
            newline_after(body, start, len(lines) - skipped + 1)


def slow_cut(lines: list[bytes], max_events: int, max_bytes: int) -> tuple[int, int]:
    size = taken = 0
    for line in lines[:max_events]:
        if taken and size + len(line) > max_bytes:
            break
        size, taken = size + len(line), taken + 1
    return size, taken


@small_blocks
@given(lines=bodies, max_events=st.integers(1, 20), max_bytes=st.integers(1, 60), is_known=st.booleans())
def test_a_cut_is_the_largest_prefix_within_both_limits(
    blocks: tuple[int, int], lines: list[bytes], max_events: int, max_bytes: int, is_known: bool
) -> None:
    """Neither limit is passed, no further line would fit, and one line is always taken."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "_FIRST_BLOCK", blocks[0])
        patch.setattr(cutting, "_BLOCK", blocks[1])
        body = b"".join(lines)
        known = len(lines) if is_known else None
        expected = slow_cut(lines, max_events, max_bytes)
        assert cut(body, max_events, max_bytes, known) == cut(memoryview(body), max_events, max_bytes) == expected


def test_cutting_is_linear() -> None:
    """Sixteen times the body in batches of one size takes about sixteen times as long, not 256 times."""

    def seconds(events: int) -> float:
        body = memoryview(b'{"a":"0123456789"}\n' * events)
        begun, offset = time.process_time(), 0
        while offset < len(body):
            offset += cut(body[offset:], 50, 10**9)[0]
        return time.process_time() - begun

    base = min(seconds(20_000) for _ in range(3))
    assert seconds(320_000) < 64 * base


@given(st.lists(st.sampled_from([b"{}", b"", b" \r", b"bad", b'{"a":1}'])), st.booleans(), st.integers(0, 1000))
def test_events_of_a_raw_range_are_found_by_number(lines: list[bytes], is_terminated: bool, start: int) -> None:
    """Counting events, and finding the end and the line of the n-th one, agree with a walk line by line."""
    while not is_terminated and lines and not lines[-1]:
        lines.pop()
    raw = b"".join(line + b"\n" for line in lines)
    raw = raw if is_terminated else raw.removesuffix(b"\n")
    holes: list[tuple[int, int]] = []
    events: list[tuple[int, int]] = []  # end, line number
    at = start
    for number, line in enumerate(lines, 7):
        end = min(at + len(line) + 1, start + len(raw))
        if line.startswith(b"{"):
            events.append((end, number))
        elif holes and holes[-1][1] == at:
            holes[-1] = (holes[-1][0], end)
        else:
            holes.append((at, end))
        at = end
    assert count_events(raw, start, holes) == len(events)
    for position, (_, number) in enumerate(events):
        assert line_of(raw, start, 7, holes, position) == number
    ends = [end for end, _ in events]
    for taken, end in enumerate(ends[:-1], 1):
        assert offset_after(raw, start, holes, taken) == end
    assert offset_after(raw, start, holes, len(events)) == start + len(raw)
    with pytest.raises(ValueError, match="only"):
        offset_after(raw, start, holes, len(events) + 1)
    with pytest.raises(ValueError, match="no event"):
        line_of(raw, start, 7, holes, len(events))
