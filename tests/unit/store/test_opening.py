"""Streams are whole or refused: every format, every way in which a file can be bad."""

import bz2
import gzip
import io
import lzma
import os
import subprocess
import sys
import textwrap
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from eventferry.errors import ObjectChanged, UnreadableObject
from eventferry.store.compression import FORMATS, GZIP, ZSTD, FramesReader, format_of
from eventferry.store.directory import DirectoryStore
from eventferry.store.opening import StreamLimits, open_stream

LINES = b"".join(b'{"event":"page_view","n":%d}\n' % number for number in range(20_000))
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".zst": zstd.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
KINDS = {kind.extension: kind for kind in FORMATS}
formats = pytest.mark.parametrize("extension", list(COMPRESS))


def read_all(folder: Path, content: bytes, name: str = "f", size: int = 131072, **how: object) -> bytes:
    """What open_stream makes of a file of that content."""
    (folder / name).write_bytes(content)
    store = DirectoryStore(folder)
    found = next(item for item in store.list() if item.key == name)
    with open_stream(store, found.key, found.version, **how) as stream:  # type: ignore[arg-type]
        return b"".join(iter(lambda: stream.read(size), b""))


def fault_of(folder: Path, content: bytes, name: str = "f", **how: object) -> UnreadableObject:
    with pytest.raises(UnreadableObject) as raised:
        read_all(folder, content, name, **how)
    return raised.value


@formats
def test_formats_are_known_by_their_bytes(tmp_path: Path, extension: str) -> None:
    """The name of a file does not matter: compressed under a plain name, plain under a compressed one."""
    packed = COMPRESS[extension](LINES)
    assert read_all(tmp_path, packed, "events.ndjson") == LINES
    assert read_all(tmp_path, LINES, "events" + extension) == LINES
    assert read_all(tmp_path, packed, "f", size=777) == LINES


@formats
def test_all_frames_are_read(tmp_path: Path, extension: str) -> None:
    """Members, frames and streams that follow each other are one stream; some may be empty, zeros may pad them."""
    compress = COMPRESS[extension]
    packed = compress(LINES) + compress(b"") + b"\0" * 100 + compress(b"tail\n") + b"\0" * 70_000
    assert read_all(tmp_path, packed) == LINES + b"tail\n"
    many = b"".join(compress(b"%d\n" % number) for number in range(500))
    assert read_all(tmp_path, many) == b"".join(b"%d\n" % number for number in range(500))


@formats
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path: Path, extension: str) -> None:
    """Each proper beginning of a compressed file is refused, and what was read before the end is a beginning too."""
    compress = COMPRESS[extension]
    packed = compress(LINES[:3000]) + compress(LINES[3000:6000])
    first = len(compress(LINES[:3000]))
    for end in sorted(
        {
            *range(1, 12),
            *range(first - 5, first),
            *range(first + 1, first + 12),
            *range(first + 12, len(packed), 37),
            len(packed) - 1,
        }
    ):
        fault = fault_of(tmp_path, packed[:end], "f" + extension)
        assert fault.reason.startswith("truncated: the object ends inside a"), end
        assert 0 <= fault.offset <= 6000
        assert fault.offset >= 3000 or end < first


@formats
def test_the_offset_of_a_fault_is_what_was_handed_out(tmp_path: Path, extension: str) -> None:
    """All bytes before the fault arrive; the offset counts them."""
    random = os.urandom(400_000).hex().encode()
    packed = COMPRESS[extension](random)
    (tmp_path / "f").write_bytes(packed[:-4])
    store = DirectoryStore(tmp_path)
    found = next(iter(store.list()))
    got = b""
    with open_stream(store, "f", found.version) as stream, pytest.raises(UnreadableObject) as raised:
        while data := stream.read(50_000):
            got += data
    assert raised.value.offset == len(got)
    assert random.startswith(got)
    assert len(got) > 300_000
    reader = FramesReader(io.BytesIO(packed[:-4]), KINDS[extension])
    assert reader.read(10**6) == got
    for _ in range(2):  # it stays refused
        with pytest.raises(UnreadableObject):
            reader.read(10**6)


@formats
def test_garbage_after_the_end_is_refused(tmp_path: Path, extension: str) -> None:
    """Only zeros may follow; decompressors that would pass over the rest are not trusted."""
    packed = COMPRESS[extension](LINES[:1000])
    for garbage in (b"garbage", b"\n", b"\0\0x", b"{}" * 10_000):
        fault = fault_of(tmp_path, packed + garbage)
        assert "follow the" in fault.reason
        assert fault.offset == 1000


@pytest.mark.parametrize("extension", [".gz", ".bz2", ".xz"])
def test_a_wrong_checksum_is_refused(tmp_path: Path, extension: str) -> None:
    """A flipped bit never passes."""
    packed = bytearray(COMPRESS[extension](LINES[:5000]))
    packed[len(packed) // 2] ^= 0x10
    assert fault_of(tmp_path, bytes(packed)).reason.startswith(("corrupt", "truncated"))


def test_a_wrong_gzip_trailer_is_refused(tmp_path: Path) -> None:
    """Checksum and length of the trailer are compared."""
    packed = gzip.compress(LINES[:5000])
    for bad in (packed[:-8] + b"abcd" + packed[-4:], packed[:-4] + b"\1\2\3\4"):
        assert fault_of(tmp_path, bad).reason.startswith("corrupt gzip stream")


def test_a_wrong_zstd_checksum_is_refused(tmp_path: Path) -> None:
    """zstd frames with a checksum are compared with it."""
    packed = bytearray(zstd.compress(LINES[:5000], options={zstd.CompressionParameter.checksum_flag: 1}))
    packed[-1] ^= 1
    assert fault_of(tmp_path, bytes(packed)).reason.startswith("corrupt zstd stream")


def test_skippable_zstd_frames_are_skipped(tmp_path: Path) -> None:
    """Some writers put such a frame first."""
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    assert read_all(tmp_path, skippable + zstd.compress(b"x\n") + skippable) == b"x\n"


def test_windows_beyond_the_default_are_refused(tmp_path: Path) -> None:
    """A zstd frame that asks for a 1 GiB window gets none."""
    options = {zstd.CompressionParameter.window_log: 30, zstd.CompressionParameter.enable_long_distance_matching: 1}
    compressor = zstd.ZstdCompressor(options=options)
    packed = compressor.compress(b"x" * 1000) + compressor.flush()
    assert fault_of(tmp_path, packed).reason.startswith("corrupt zstd stream")


@formats
def test_an_empty_file_under_a_compressed_name_is_refused(tmp_path: Path, extension: str) -> None:
    """No compressor writes zero bytes: somebody did not finish."""
    assert fault_of(tmp_path, b"", "f" + extension).reason == "empty file where a compressed one was expected"


def test_an_empty_plain_file_is_fine(tmp_path: Path) -> None:
    """Zero bytes, zero events; so is a compressed file of nothing."""
    assert read_all(tmp_path, b"", "f.ndjson") == b""
    assert read_all(tmp_path, gzip.compress(b""), "f.gz") == b""


def test_text_that_looks_like_a_magic_stays_text(tmp_path: Path) -> None:
    """Short files and texts beginning like bzip2 are plain."""
    for text in (b"BZh9 is a text\n", b"B", b"\x1f", b"(", b"{}\n"):
        assert read_all(tmp_path, text) == text
        assert format_of(text) is None


def test_concatenated_documents_come_apart(tmp_path: Path) -> None:
    """The option puts each document on a line of its own, in compressed files too."""
    assert read_all(tmp_path, gzip.compress(b'{"a":"}{"}{"b":2}'), concatenated=True) == b'{"a":"}{"}\n{"b":2}'


def test_limits_stop_what_expands_too_far(tmp_path: Path) -> None:
    """By size for all files, by ratio for compressed ones; below the limits nothing is refused."""
    packed = zstd.compress(b"\0" * 10_000_000)
    assert (
        "expands to more than 100 times" in fault_of(tmp_path, packed, limits=StreamLimits(None, 100, 1_000_000)).reason
    )
    assert "expands beyond the 5000 bytes" in fault_of(tmp_path, LINES, limits=StreamLimits(5000)).reason
    assert len(read_all(tmp_path, packed, limits=StreamLimits(10_000_000, 100, 10_000_000))) == 10_000_000
    assert read_all(tmp_path, LINES, limits=StreamLimits(None, 1, 0)) == LINES


@pytest.mark.parametrize("extension", [".gz", ".zst", ".xz", ".bz2"])
def test_a_bomb_costs_no_memory(tmp_path: Path, extension: str) -> None:
    """512 MiB out of a few KB are refused at 64 MiB or the end of the ratio, with less than 64 MiB of memory."""
    if extension == ".zst":
        bomb = zstd.compress(b"\0" * 2**29)
    else:
        piece = COMPRESS[extension](b"\0" * 2**26)
        bomb = piece * 8
    (tmp_path / "bomb").write_bytes(bomb)
    code = """
        import sys
        from eventferry.store.directory import DirectoryStore
        from eventferry.store.opening import StreamLimits, open_stream
        from eventferry.errors import UnreadableObject
        store = DirectoryStore(sys.argv[1])
        found = next(store.list())
        stream = open_stream(store, found.key, found.version, limits=StreamLimits(2**28, 1000))
        stream.read(10)
        def peak():
            return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
        before = peak()
        try:
            while stream.read(131072): pass
        except UnreadableObject as error:
            print(peak() - before, error)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    grown, _, reason = subprocess.run(command, capture_output=True, text=True, check=True).stdout.partition(" ")
    assert reason.startswith("expands")
    assert int(grown) < 64 * 1024


def test_reading_everything_at_once_is_bounded_too(tmp_path: Path) -> None:
    """read() without a size stops at the limit and not after it."""
    store = DirectoryStore(tmp_path)
    (tmp_path / "f").write_bytes(zstd.compress(b"\0" * 2**26))
    found = next(store.list())
    tracemalloc.start()
    with (
        open_stream(store, "f", found.version, limits=StreamLimits(2**20)) as stream,
        pytest.raises(UnreadableObject, match="expands beyond"),
    ):
        stream.read()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 32 * 2**20


def test_a_file_being_rewritten_is_changed_and_not_corrupt(tmp_path: Path) -> None:
    """What looks like damage because somebody writes to the file is not quarantined but read again later."""
    packed = gzip.compress(os.urandom(300_000))
    (tmp_path / "f").write_bytes(packed)
    os.utime(tmp_path / "f", (1, 1))
    store = DirectoryStore(tmp_path)
    found = next(store.list())
    with open_stream(store, "f", found.version) as stream:
        stream.read(10_000)
        with open(tmp_path / "f", "r+b") as file:
            file.seek(50_000)
            file.write(b"\xff" * 200_000)
        with pytest.raises(ObjectChanged):
            while stream.read(131072):
                pass


def test_reads_are_full(tmp_path: Path) -> None:
    """Every read but the last gives what was asked for, so that cuts do not depend on how the file was compressed."""
    packed = b"".join(gzip.compress(LINES[start : start + 1000]) for start in range(0, 100_000, 1000))
    (tmp_path / "f").write_bytes(packed)
    store = DirectoryStore(tmp_path)
    with open_stream(store, "f", next(store.list()).version) as stream:
        sizes = [len(data) for data in iter(lambda: stream.read(4096), b"")]
        assert sizes == [4096] * 24 + [100_000 - 24 * 4096]
        assert stream.readinto(bytearray(10)) == 0


def test_nothing_heavy_is_imported_before_a_file_is_opened() -> None:
    """Index workers stay small: naming a store loads no cloud client, no SQL toolkit and no validation library."""
    code = """
        import sys
        import eventferry.store.opening, eventferry.store.layout
        from eventferry.store import StoreSpec, open_store
        open_store(StoreSpec("/srv"))
        print([name for name in ("boto3", "sqlalchemy", "pydantic", "duckdb", "smart_open") if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@settings(deadline=None)
@given(
    st.sampled_from([GZIP, ZSTD, KINDS[".bz2"], KINDS[".xz"]]),
    st.lists(st.binary(max_size=300), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=3),
    st.integers(0, 10**6),
)
def test_damage_is_refused_or_harmless(
    kind: object, frames: list[bytes], damage: list[tuple[int, int]], end: int
) -> None:
    """Whatever happens to a compressed file, reading ends verified or in UnreadableObject; nothing else escapes."""
    assert isinstance(kind, type(GZIP))
    packed = bytearray(b"".join(COMPRESS[kind.extension](frame) for frame in frames))
    for place, value in damage:
        packed[place % len(packed)] = value
    if end % 3 == 0:
        del packed[end % len(packed) :]
    reader = FramesReader(io.BytesIO(bytes(packed)), kind)
    got = b""
    try:
        while data := reader.read(64):
            got += data
    except UnreadableObject as fault:
        assert fault.offset == len(got)
