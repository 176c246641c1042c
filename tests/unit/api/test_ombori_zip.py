"""A zip archive made while it is sent: what it holds, and how large it will be."""

import io
import zipfile
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventferry.api.dialects.ombori_zip import BLOCK, Archive, Member, size_of

NAMES = st.text("abcdefghij.-_0123456789", min_size=1, max_size=40)


def members(files: dict[str, bytes]) -> list[Member]:
    return [Member(name, len(content), partial(io.BytesIO, content)) for name, content in files.items()]


def whole(archive: Archive) -> bytes:
    return b"".join(iter(partial(archive.read, 100_000), b""))


@pytest.mark.parametrize("limit", [(1 << 31) - 1, 3000, 40])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.dictionaries(NAMES, st.binary(max_size=500), max_size=12))
def test_its_size_is_known_and_its_files_come_out(monkeypatch, limit, files):
    """Also where sizes and places go beyond what the old format holds, which is tried with a small limit."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", limit)
    made = whole(Archive(members(files)))
    assert len(made) == size_of(members(files))
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == files
        assert archive.namelist() == list(files)
    assert whole(Archive(members(files))) == made


def test_more_files_than_the_old_format_counts():
    """65,536 files and more."""
    files = {f"{number}": b"" for number in range(65_537)}
    made = whole(Archive(members(files)))
    assert len(made) == size_of(members(files))
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        assert len(archive.namelist()) == 65_537


@given(start=st.integers(0, 3 * BLOCK))
@settings(max_examples=10, deadline=None)
def test_it_can_be_read_from_anywhere(start):
    """What follows a seek is what stands there in the whole archive."""
    made = members({"a": b"x" * BLOCK, "b": b"y" * (BLOCK + 7), "c": b""})
    full = whole(Archive(made))
    archive = Archive(made)
    archive.seek(start)
    assert whole(archive) == full[start:]


def test_an_archive_that_is_closed_early_closes_its_file():
    """Nothing stays open when the client leaves."""
    opened: list[io.BytesIO] = []

    def open_one() -> io.BytesIO:
        opened.append(io.BytesIO(b"x" * 3 * BLOCK))
        return opened[-1]

    with Archive([Member("a", 3 * BLOCK, open_one)]) as archive:
        archive.read(10)
        assert not opened[0].closed
    assert opened[0].closed
