"""Several files as one zip archive that is made while it is sent, its size known beforehand."""

import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

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


def make(members: Iterable[Member]) -> Iterator[bytes]:
    """The archive, piece by piece: the files as they are, one after the other. Raises what opening and reading raise."""
    pieces = _Pieces()
    archive = zipfile.ZipFile(pieces, "w", zipfile.ZIP_STORED)
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
