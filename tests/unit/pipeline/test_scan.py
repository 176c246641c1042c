"""What scanning an object finds: segments, times, long lines, an earlier version, failures."""

import dataclasses
import gzip
import io
import pickle
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from eventferry.execution import make_executor
from eventferry.pipeline import lines as judging
from eventferry.pipeline import scan as scanning
from eventferry.pipeline.frame import BOM, CR, HOLES, STARTS_WITH_BOM, UNTERMINATED
from eventferry.pipeline.scan import Known, ScanFailure, ScanLimits, ScanResult, ScanSpec, scan, scan_pack, scan_stream
from eventferry.store import StoreSpec, open_store

EVENT = b'{"event_timestamp":%d,"a":"b"}\n'


def scan_bytes(data: bytes, known: Known | None = None, **limits: int) -> ScanResult:
    return scan_stream(io.BytesIO(data), limits=ScanLimits(**limits), known=known)


def known_of(data: bytes) -> Known:
    return Known(len(data), xxhash.xxh3_128_hexdigest(data))


def events(first: int, count: int) -> bytes:
    return b"".join(EVENT % (1_700_000_000_000 + number) for number in range(first, first + count))


def test_an_empty_object_has_no_lines() -> None:
    """Nothing in, nothing out."""
    found = scan_bytes(b"")
    assert (found.bytes, found.lines, found.segments, found.unchanged) == (0, 0, (), False)


def test_a_segment_knows_its_times_and_digest() -> None:
    """The time range and the digest of the raw range are those of its bytes."""
    data = events(0, 10) + b'{"a":1}\n'
    (segment,) = scan_bytes(data).segments
    assert (segment.time_min, segment.time_max, segment.untimed) == (1_700_000_000_000, 1_700_000_000_009, 1)
    assert segment.digest == xxhash.xxh3_128_hexdigest(data)
    assert scan_bytes(data).digest == segment.digest


def test_a_large_object_is_cut_into_segments_of_bounded_size() -> None:
    """Segments stay below their limit and their digests are those of their ranges."""
    data = events(0, 20_000)
    segments = scan_bytes(data, segment_bytes=200_000).segments
    assert len(segments) > 3
    assert all(segment.end - segment.start <= 200_000 for segment in segments)
    assert [xxhash.xxh3_128_hexdigest(data[s.start : s.end]) for s in segments] == [s.digest for s in segments]
    assert sum(segment.events for segment in segments) == 20_000


@pytest.mark.parametrize(
    ("data", "flags"),
    [
        (b"{}\n{}\n", 0),
        (b"{}\r\n{}\n", CR),
        (BOM + b"{}\n", STARTS_WITH_BOM),
        (b"{}\n{}", UNTERMINATED),
        (b"{}\n{}\r", UNTERMINATED | CR),
        (b"{}\n\n{}\n", HOLES),
        (b"{}\n[1]\r\n", HOLES),
        (BOM + b"[]\n{}\n", HOLES),
        (BOM, HOLES),
        (b'{"a":\r1}\n', 0),
    ],
)
def test_flags_say_what_framing_has_to_do(data: bytes, flags: int) -> None:
    """Only what concerns events is flagged."""
    (segment,) = scan_bytes(data).segments
    assert segment.flags == flags


def test_neighbouring_holes_are_one() -> None:
    """A stretch of bad and blank lines is one hole, also over the edge of a window."""
    data = b"{}\n" + b"\n[1]\n" * 60_000 + b"{}\n"
    (segment,) = scan_bytes(data).segments
    assert segment.holes == ((3, len(data) - 3),)
    assert (segment.events, segment.bad, segment.blank) == (2, 60_000, 60_000)


def test_samples_are_capped_and_counts_are_not() -> None:
    """Of many bad lines the first few are kept, all are counted."""
    found = scan_bytes(b"[1]\n" * 1000, max_samples=3)
    assert found.bad == 1000
    assert [bad.line for bad in found.samples] == [1, 2, 3]


def test_an_object_full_of_holes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker sends back is bounded: too many holes make the object unreadable, with a reason."""
    monkeypatch.setattr(scanning, "_OBJECT_HOLES", 10)
    with pytest.raises(scanning.UnreadableObject, match="more than 10 stretches"):
        scan_bytes(b"{}\n\n" * 20)


def test_a_segment_with_many_holes_is_closed_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """One segment's holes stay few enough for a row of the ledger."""
    monkeypatch.setattr(scanning, "_SEGMENT_HOLES", 10)
    monkeypatch.setattr(scanning, "WINDOW", 64)
    assert max(len(segment.holes) for segment in scan_bytes(b"{}\n\n" * 500).segments) <= 10 + 64


@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_line_beyond_the_limit_is_recorded_without_being_held(end: bytes) -> None:
    """A 64 MB line costs little memory; the lines around it are delivered."""

    class Long:
        """EVENT, 64 MB of x, perhaps EVENT."""

        def __init__(self) -> None:
            self.parts = [EVENT % 1] + [b"x" * 65_536] * 1000 + ([end + EVENT % 2] if end else [])
            self.parts.reverse()

        def read(self, size: int, /) -> bytes:
            part = self.parts.pop() if self.parts else b""
            if len(part) > size:
                self.parts.append(part[size:])
            return part[:size]

    tracemalloc.start()
    found = scan_stream(Long())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    first = len(EVENT % 1)
    (bad,) = found.samples
    assert (bad.line, bad.offset, bad.length, bad.reason) == (2, first, 65_536_000, "longer than 1 MiB")
    assert (found.lines, found.events, found.bad) == (3, 2, 1) if end else (2, 1, 1)
    alone = found.segments[1]
    assert (alone.events, alone.lines) == (0, 1)
    assert alone.holes == ((alone.start, alone.end),)
    assert peak < 8_000_000


@pytest.mark.parametrize("length", [99, 100, 101])
@pytest.mark.parametrize("window", [16, 1024])
def test_the_limit_of_a_line_is_exact(length: int, window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of exactly the limit is an event, one byte more is not, wherever the windows end."""
    monkeypatch.setattr(scanning, "WINDOW", window)
    line = b'{"a":"%s"}' % (b"x" * (length - 8))
    found = scan_bytes(b"{}\n" + line + b"\n{}\n", max_line_bytes=100)
    assert found.bad == (length > 100)
    assert found.events == 3 - found.bad


def test_the_same_bytes_are_unchanged() -> None:
    """A touched file sends nothing."""
    data = events(0, 5000)
    found = scan_bytes(data, known_of(data))
    assert found.unchanged
    assert (found.segments, found.lines, found.samples, found.grew_from) == ((), 0, (), None)
    assert found.digest == known_of(data).digest


def test_the_same_bytes_without_a_last_newline_are_unchanged() -> None:
    """Equality does not ask for a newline."""
    data = events(0, 10) + b"{}"
    assert scan_bytes(data, known_of(data)).unchanged
    assert scan_bytes(b"", known_of(b"")).unchanged


def test_a_grown_object_has_only_its_new_lines() -> None:
    """Segments, counts and samples are of the new bytes; lines are numbered on."""
    old, new = events(0, 9000) + b"[1]\n\n", events(9000, 9000) + b"[2]\n"
    found = scan_bytes(old + new, known_of(old))
    assert (found.grew_from, found.unchanged) == (len(old), False)
    assert (found.events, found.bad, found.lines) == (9000, 1, 9001)
    assert found.segments[0].start == len(old)
    assert found.segments[0].first_line == 9003
    assert found.samples[0].line == 18_003
    assert found.samples[0].offset == len(old) + len(new) - 4
    assert found.digest == xxhash.xxh3_128_hexdigest(old + new)
    assert found.bytes == len(old + new)


def test_the_new_lines_are_cut_as_if_they_stood_alone() -> None:
    """Windows begin anew where the earlier version ended."""
    old, new = events(0, 9000), events(9000, 20_000)
    grown = scan_bytes(old + new, known_of(old), segment_bytes=200_000).segments
    alone = scan_bytes(new, segment_bytes=200_000).segments
    shift = len(old)
    assert [(s.start - shift, s.end - shift, s.digest) for s in grown] == [(s.start, s.end, s.digest) for s in alone]


@pytest.mark.parametrize(
    ("old", "now"),
    [
        (events(0, 100), events(1, 200)),  # other bytes
        (events(0, 100) + b'{"a":1', events(0, 100) + b'{"a":1}\n{}\n'),  # it ended inside a line
        (events(0, 100), events(0, 50)),  # shorter
        (b"", events(0, 10)),  # it was empty
    ],
)
def test_other_bytes_are_a_full_result(old: bytes, now: bytes) -> None:
    """What is not the earlier version plus whole lines is scanned as if nothing were known."""
    assert scan_bytes(now, known_of(old)) == scan_bytes(now)


@given(st.integers(0, 400), st.integers(0, 400), st.sampled_from([16, 64, 1024]))
def test_growth_is_found_wherever_the_windows_end(before: int, after: int, window: int) -> None:
    """The edge between old and new may lie anywhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanning, "WINDOW", window)
        old, new = b"{}\n" * before, b'{"b":1}\n' * after
        found = scan_bytes(old + new, known_of(old))
        assert found.unchanged == (after == 0)
        assert found.grew_from == (before * 3 if before and after else None)
        assert found.events == after


@given(st.lists(st.sampled_from([b"a", "ż".encode(), "東".encode(), "😀".encode(), b"\xe2\x82", b"\xff"])))
def test_utf8_is_checked_over_the_edges_of_pieces(parts: list[bytes]) -> None:
    """A character may lie across two pieces; what is no UTF-8 is found in any of them."""
    text = b"".join(parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judging, "_PIECE", 4)
        try:
            text.decode()
        except UnicodeDecodeError:
            with pytest.raises(UnicodeDecodeError):
                judging._check_utf8(text)
        else:
            judging._check_utf8(text)


def spec_of(root: Path, key: str, **changes: object) -> ScanSpec:
    spec = StoreSpec(str(root))
    (listed,) = (thing for thing in open_store(spec).list() if thing.key == key)
    return dataclasses.replace(ScanSpec(spec, key, listed.version), **changes)  # type: ignore[arg-type]


def test_an_object_of_a_store_is_scanned(tmp_path: Path) -> None:
    """Spec in, result out, both fit for another process."""
    (tmp_path / "a.gz").write_bytes(gzip.compress(events(0, 1000)))
    spec = spec_of(tmp_path, "a.gz")
    found = scan(pickle.loads(pickle.dumps(spec)))
    assert isinstance(found, ScanResult)
    assert found == pickle.loads(pickle.dumps(found)) == scan_bytes(events(0, 1000))
    with make_executor(1) as executor:
        assert executor.submit(scan_pack, [spec, spec]).result(60) == [found, found]


def test_a_truncated_object_is_unreadable(tmp_path: Path) -> None:
    """Half a gzip file is a failure with the byte up to which it was readable, not half a result."""
    (tmp_path / "a.gz").write_bytes(gzip.compress(events(0, 100_000))[:-9])
    found = scan(spec_of(tmp_path, "a.gz"))
    assert isinstance(found, ScanFailure)
    assert found.kind == "unreadable"
    assert "truncated" in found.reason
    assert found.offset > 0


def test_an_object_that_vanished_is_gone(tmp_path: Path) -> None:
    """A file deleted after the listing is told apart from a broken one."""
    (tmp_path / "a.gz").write_bytes(gzip.compress(events(0, 10)))
    spec = spec_of(tmp_path, "a.gz")
    (tmp_path / "a.gz").unlink()
    found = scan(spec)
    assert isinstance(found, ScanFailure)
    assert found.kind == "gone"


def test_an_object_that_was_replaced_is_changed(tmp_path: Path) -> None:
    """Bytes of another version than the one listed are never taken for it."""
    (tmp_path / "a.gz").write_bytes(gzip.compress(events(0, 10)))
    spec = spec_of(tmp_path, "a.gz")
    (tmp_path / "a.gz").write_bytes(gzip.compress(events(0, 20)))
    found = scan(spec)
    assert isinstance(found, ScanFailure)
    assert found.kind == "changed"


def test_a_worker_imports_nothing_heavy(tmp_path: Path) -> None:
    """Scanning needs no SQLAlchemy, pydantic or DuckDB: a worker stays small and starts quickly."""
    (tmp_path / "a.gz").write_bytes(gzip.compress(events(0, 10)))
    program = (
        "import pickle, sys\n"
        "from eventferry.pipeline.scan import scan_pack\n"
        "(found,) = scan_pack([pickle.load(sys.stdin.buffer)])\n"
        "assert found.events == 10, found\n"
        "heavy = {'sqlalchemy', 'pydantic', 'duckdb', 'typer', 'apscheduler'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    spec = pickle.dumps(spec_of(tmp_path, "a.gz"))
    done = subprocess.run([sys.executable, "-c", program], input=spec, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
