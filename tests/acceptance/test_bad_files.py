"""Bad files: nothing of an unreadable one is sent, none stops a run, none takes more memory than an ordinary one."""

import functools
import gzip
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd
from tests.acceptance.hostile import MIB, Carried, carry, carry_young, measure
from tests.builders import events, put

GOOD = events(10)  # in a file beside the bad one
LINES = events(3000, 10, pad="".join(chr(65 + 7 * n % 26) for n in range(500)))
CHECKED = {zstd.CompressionParameter.checksum_flag: 1}
PACK = {"gz": gzip.compress, "zst": lambda content: zstd.compress(content, options=CHECKED)}
both = pytest.mark.parametrize("kind", ["gz", "zst"])


def assert_quarantined(found: Carried, name: str, reason: str) -> None:
    """Nothing of the file was sent, the file beside it was; people were told once, and why."""
    assert found.states == {"good.ndjson": "indexed", name: "quarantined"}
    assert re.search(reason, found.reasons[name]), found.reasons[name]
    assert found.body == GOOD
    assert (found.book.events, found.book.bad) == (10, 0)
    assert list(found.alerts) == ["file.quarantined:events"]
    assert found.alerts["file.quarantined:events"].level == "error"
    assert found.messages == 1


def readable(kind: str, packed: bytes) -> int:
    """How far an independent decompressor that accepts truncation gets."""
    decompressor = zlib.decompressobj(31) if kind == "gz" else zstd.ZstdDecompressor()
    return len(decompressor.decompress(packed))


@both
@pytest.mark.parametrize("left", [-1, -6, 0.5, 5])
def test_a_truncated_file_waits_then_is_quarantined_with_its_offset(tmp_path: Path, kind: str, left: float) -> None:
    """Cut anywhere, in its last byte or its header: retried while it may grow, then told; no event of it leaves."""
    packed = PACK[kind](LINES)
    packed = packed[: int(len(packed) * left) if 0 < left < 1 else int(left)]
    look: list[Carried] = []
    found = carry_young(tmp_path, {"good.ndjson": GOOD, f"t.ndjson.{kind}": packed}, look)
    assert look[0].states[f"t.ndjson.{kind}"] == "seen"
    assert look[0].alerts == {}
    assert_quarantined(found, f"t.ndjson.{kind}", "^truncated: ")
    offset = int(re.search(r"readable up to byte ([\d,]+)", found.reasons[f"t.ndjson.{kind}"])[1].replace(",", ""))
    assert offset == readable(kind, packed)
    assert (offset > 0) == (left != 5)


@both
def test_a_wrong_checksum_sends_nothing(tmp_path: Path, kind: str) -> None:
    """All lines can be read and look fine, and still the file is not what was written."""
    packed = bytearray(PACK[kind](LINES))
    packed[-5 if kind == "gz" else -1] ^= 1
    found = carry(tmp_path, {"good.ndjson": GOOD, f"t.ndjson.{kind}": bytes(packed)})
    assert_quarantined(found, f"t.ndjson.{kind}", "^corrupt ")


@both
def test_a_flipped_bit_sends_nothing(tmp_path: Path, kind: str) -> None:
    """Damage in the middle of the stream."""
    packed = bytearray(PACK[kind](LINES))
    packed[len(packed) // 2] ^= 0x10
    found = carry(tmp_path, {"good.ndjson": GOOD, f"t.ndjson.{kind}": bytes(packed)})
    assert_quarantined(found, f"t.ndjson.{kind}", "^(corrupt|truncated)")


@both
def test_all_members_and_frames_are_read(tmp_path: Path, kind: str) -> None:
    """However many there are, empty ones among them, and lines that go over from one into the next."""
    pieces = [LINES[start : start + 7001] for start in range(0, len(LINES), 7001)]
    packed = b"".join(PACK[kind](piece) + PACK[kind](b"") for piece in pieces)
    assert carry(tmp_path, {f"t.ndjson.{kind}": packed}).body == LINES


@both
def test_a_truncated_last_member_sends_nothing_of_the_first(tmp_path: Path, kind: str) -> None:
    """Whole members before a cut one are not taken for the file."""
    packed = PACK[kind](LINES) + PACK[kind](LINES)[:-2]
    found = carry(tmp_path, {"good.ndjson": GOOD, f"t.ndjson.{kind}": packed})
    assert_quarantined(found, f"t.ndjson.{kind}", "^truncated: ")


@both
def test_zeros_may_follow_and_nothing_else(tmp_path: Path, kind: str) -> None:
    """Padding is harmless; garbage means that the file is not what somebody thinks it is."""
    assert carry(tmp_path / "a", {f"t.ndjson.{kind}": PACK[kind](LINES) + b"\0" * 70_000}).body == LINES
    packed = PACK[kind](LINES) + b"garbage"
    found = carry(tmp_path / "b", {"good.ndjson": GOOD, f"t.ndjson.{kind}": packed})
    assert_quarantined(found, f"t.ndjson.{kind}", "follow the")


def test_empty_files_are_done_with_no_events(tmp_path: Path) -> None:
    """Empty, or compressed from nothing, or only white: counted, and nobody is told."""
    files = {"a.ndjson": b"", "b.ndjson.gz": gzip.compress(b""), "c.ndjson.zst": zstd.compress(b""), "d": b"\n \n"}
    found = carry(tmp_path, {**files, "e": b"\xef\xbb\xbf"})
    assert set(found.states.values()) == {"indexed"}
    assert (found.lines, found.alerts, found.book.events, found.book.bad) == ([], {}, 0, 0)


@both
def test_an_empty_file_under_a_compressed_name_is_not_closed(tmp_path: Path, kind: str) -> None:
    """No compressor writes zero bytes: it waits, then somebody is told."""
    look: list[Carried] = []
    found = carry_young(tmp_path, {"good.ndjson": GOOD, f"t.ndjson.{kind}": b""}, look)
    assert look[0].states[f"t.ndjson.{kind}"] == "seen"
    assert_quarantined(found, f"t.ndjson.{kind}", "empty file where a compressed one was expected")


def test_a_file_beyond_max_size_sends_nothing(tmp_path: Path) -> None:
    """What expands within the ratio is bounded by its total."""
    found = carry(tmp_path, {"good.ndjson": GOOD, "t.ndjson.gz": gzip.compress(LINES)}, max_size="1MiB")
    assert_quarantined(found, "t.ndjson.gz", "expands beyond the 1048576 bytes")


# -- what would take all memory ---------------------------------------------------------------------------------------


def squeeze(piece: bytes, times: int, *, window: int = 0) -> bytes:
    """One zstd frame of repeated bytes, never held whole."""
    wanted = zstd.CompressionParameter
    options = {wanted.window_log: window, wanted.enable_long_distance_matching: 1} if window else {}
    compressor = zstd.ZstdCompressor(options=options)
    return b"".join(compressor.compress(piece) for _ in range(times)) + compressor.flush()


EVENT = b'{"n":1,"pad":"' + b"x" * 10_000 + b'"}\n'
BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "512 MiB of zeros in 0.5 MiB of gzip": ("b.gz", lambda: gzip.compress(b"\0" * 64 * MIB) * 8),
    "512 MiB of zeros in 16 KB of zstd": ("b.zst", lambda: squeeze(b"\0" * MIB, 512)),
    "500 MB of events in 50 KB of zstd": ("b.ndjson.zst", lambda: squeeze(EVENT * 100, 500)),
}


@functools.cache
def long_text() -> bytes:
    """256 MiB without a newline in four gzip members, compressed badly, so that they are no bomb."""
    return gzip.compress(b"x" * 64 * MIB, 1) * 4


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_takes_no_memory_and_sends_nothing(tmp_path: Path, bomb: str) -> None:
    """Stopped by its ratio with less than 64 MiB, told with the reason; good files go on."""
    name, make = BOMBS[bomb]
    found = measure(tmp_path, name, make())
    assert found["states"][name] == "quarantined"
    assert "expands to more than 1000 times its stored size" in found["reasons"][name]
    assert (found["numbers"], found["causes"], found["messages"]) == ([0], ["file.quarantined:events"], 1)
    assert found["grown"] < 64 * MIB


def test_a_window_of_a_gigabyte_is_refused(tmp_path: Path) -> None:
    """A zstd frame that asks for more than the format's default gets nothing, whatever it holds."""
    packed = squeeze(events(10), 10, window=30)
    assert len(zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: 31}).decompress(packed)) > 0
    found = measure(tmp_path, "w.ndjson.zst", packed)
    assert found["states"]["w.ndjson.zst"] == "quarantined"
    assert "too much memory" in found["reasons"]["w.ndjson.zst"]
    assert found["events"] == 1
    assert found["grown"] < 64 * MIB


@pytest.mark.parametrize("end", [b"\n" + events(5, 3), b""], ids=["ended", "open"])
def test_a_line_of_256_mib_is_one_bad_line_and_never_held(tmp_path: Path, end: bytes) -> None:
    """Its place, length and reason are recorded, the events around it arrive, memory stays where it was."""
    start = events(2, 1)
    found = measure(tmp_path, "l.ndjson.gz", gzip.compress(start) + long_text() + gzip.compress(end))
    assert found["states"]["l.ndjson.gz"] == "indexed"
    assert found["numbers"] == [0, 1, 2, *(range(3, 8) if end else ())]
    assert found["bad"] == [[3, len(start), 256 * MIB, "longer than 1 MiB"]]
    assert found["causes"] == ["lines.bad:events"]
    assert found["grown"] < 64 * MIB


def test_a_long_document_without_newlines_is_never_held(tmp_path: Path) -> None:
    """The same where documents are split by their braces instead of newlines."""
    long = long_text()[: len(long_text()) // 4]  # its first member, 64 MiB
    packed = gzip.compress(b'{"n":1}{"n":2,"s":"') + long + gzip.compress(b'"}{"n":3}')
    found = measure(tmp_path, "l.json.gz", packed, concatenated=True)
    assert found["numbers"] == [0, 1, 3]
    assert [row[3] for row in found["bad"]] == ["longer than 1 MiB"]
    assert found["grown"] < 32 * MIB


def test_a_file_of_bad_lines_only_is_one_message_and_twenty_samples(tmp_path: Path) -> None:
    """150,000 lines that are no events: quarantined by bad_share, memory bounded."""
    found = measure(tmp_path, "l.ndjson.gz", gzip.compress(b"this is a log file, not a file of events\n" * 150_000))
    assert found["states"]["l.ndjson.gz"] == "quarantined"
    assert found["reasons"]["l.ndjson.gz"].startswith("150000 of 150000 lines are bad, more than bad_share")
    assert (found["messages"], len(found["bad"])) == (1, 20)
    assert found["numbers"] == [0]
    assert found["grown"] < 64 * MIB


def test_many_files_of_bad_lines_are_one_message(tmp_path: Path) -> None:
    """Fifty such files do not make fifty messages, and none of them keeps a good one waiting."""
    files = {f"{number:02}.ndjson": b"no\n" * 30 for number in range(50)}
    found = carry(tmp_path, {**files, "good.ndjson": GOOD})
    assert list(found.states.values()).count("quarantined") == 50
    assert found.alerts["file.quarantined:events"].count == 50
    assert (found.messages, found.body) == (1, GOOD)


def test_where_all_lines_may_be_bad_they_are_told_once(tmp_path: Path) -> None:
    """bad_share = 1.0 takes such a file: its one good line arrives, one warning, exact counts, capped samples."""
    found = carry(tmp_path, {"t.ndjson": b"no\n" * 5000 + events(1) + b"no\n" * 5000}, bad_share=1.0)
    assert (found.body, found.book.bad, len(found.bad), found.messages) == (events(1), 10_000, 20, 1)
    assert list(found.alerts) == ["lines.bad:events"]


@pytest.mark.slow
def test_a_hundred_thousand_files_in_a_folder_are_taken_as_many_as_a_run_may(tmp_path: Path) -> None:
    """The listing streams: 100 files a run, in order, with bounded memory."""
    for number in range(100_000):
        name = f"2026/01/02/03/1-{number:06}"
        if number % 50_000 == 0:  # a file system bears only so many links to one file
            template = put(tmp_path / "events", name, b'{"n":1}\n')
        else:
            (tmp_path / "events" / name).hardlink_to(template)
    found = measure(tmp_path, "", b"", files=100)
    shutil.rmtree(tmp_path / "events")
    assert found["taken"] == 100
    assert sorted(found["states"]) == ["0-first.ndjson", *(f"1-{number:06}" for number in range(100))]
    assert (found["events"], found["causes"]) == (101, [])
    assert found["grown"] < 64 * MIB


def test_the_measure_of_memory_notices(tmp_path: Path) -> None:
    """The tests above can fail: a long line that the source allows is held, and seen to be."""
    line = b'{"n":1,"s":"' + b"x" * 40 * MIB + b'"}\n'
    found = measure(tmp_path, "l.ndjson.gz", gzip.compress(line), max_line="64MiB")
    assert found["numbers"] == [0, 1]
    assert found["grown"] > 64 * MIB
