"""Several files as one zip archive that is made while it is sent, its size known beforehand."""

import io
import zipfile
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, cast

BLOCK = 1024 * 1024

# What the format adds: per file a header (with room for large sizes), a descriptor after it, an entry in the directory.
_HEADER, _ROOM, _DESCRIPTOR, _ENTRY = 30, 20, 24, 46
_END, _LARGE_END = 22, 76
_MOST_ENTRIES = 65_535
_DATE = (1980, 1, 1, 0, 0, 0)  # the same bytes whenever it is made


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the archive: its name (ASCII), its size in bytes, and how it is opened."""

    name: str
    size: int
    open: Callable[[], BinaryIO]


def size_of(members: Sequence[Member]) -> int:
    """Bytes of the archive of these members."""
    offset = entries = 0
    for each in members:
        large = 2 * (each.size > zipfile.ZIP64_LIMIT) + (offset > zipfile.ZIP64_LIMIT)
        entries += _ENTRY + len(each.name) + (4 + 8 * large if large else 0)
        offset += _HEADER + len(each.name) + _ROOM + each.size + _DESCRIPTOR
    is_large = len(members) > _MOST_ENTRIES or max(offset, entries) > zipfile.ZIP64_LIMIT
    return offset + entries + (_LARGE_END if is_large else 0) + _END


class Archive(io.BufferedIOBase):
    """The archive as a file that is read forwards; `seek` goes forwards, too, by reading over what lies between."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._made = _make(members)
        self._held = b""
        self._at = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes, at least one before the end and at most `size`. Raises what opening and reading raise."""
        if not self._held:
            self._held = next((piece for piece in self._made if piece), b"")
        end = len(self._held) if size is None or size < 0 else size
        taken, self._held = self._held[:end], self._held[end:]
        self._at += len(taken)
        return taken

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to `offset` from the start, not before where it is."""
        assert whence == io.SEEK_SET and offset >= self._at
        while self._at < offset and self.read(min(BLOCK, offset - self._at)):
            pass
        return self._at

    def close(self) -> None:
        """Close the file that is open."""
        self._made.close()
        super().close()


def _make(members: Iterable[Member]) -> Generator[bytes, None, None]:
    """Piece by piece: the files as they are, one after the other."""
    pieces = _Pieces()
    archive = zipfile.ZipFile(cast(BinaryIO, pieces), "w", zipfile.ZIP_STORED)
    for each in members:
        info = zipfile.ZipInfo(each.name, _DATE)
        with each.open() as file, archive.open(info, "w", force_zip64=True) as out:
            while block := file.read(BLOCK):
                out.write(block)
                yield pieces.take()
    archive.close()
    yield pieces.take()


class _Pieces:
    """Where the archive is written to, front to back, and taken from."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        """What was written since the last call."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken
