"""Decompression that is strict to the end of the object and never makes more than was asked for."""

import bz2
import lzma
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from eventferry.errors import UnreadableObject

HEAD = 10  # first bytes that tell the format
# Stored bytes per read, doubling within a frame: long frames like large blocks, while what is left of a block is
# copied for every frame in it, so many short frames like small ones.
_FIRST_BLOCK, _LARGEST_BLOCK = 16 * 1024, 256 * 1024
_XZ_MEMORY = 128 * 1024 * 1024  # xz -9 needs 65 MiB; a header can ask for 4 GiB


class Source(Protocol):
    """Stored bytes, read forward."""

    def read(self, size: int, /) -> bytes: ...


class _Decompressor(Protocol):
    """What bz2, lzma, zstd and igzip have in common: one frame, bounded output."""

    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


@dataclass(frozen=True)
class Format:
    """A compression format: how it is recognised, how it is undone."""

    name: str
    extension: str
    starts: Callable[[bytes], bool]
    magic: bytes
    decompressor: Callable[[], Any]

    def is_cut_start(self, head: bytes) -> bool:
        """Whether `head`, all that is left of an object, is a frame that ends before it can be recognised."""
        return len(head) < HEAD and self.magic.startswith(head[: len(self.magic)])


def _igzip() -> Any:
    from isal import igzip_lib

    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd.ZstdDecompressor()


def _starts_bz2(head: bytes) -> bool:
    # The second magic keeps a text that begins with "BZh9" a text.
    return head[:3] == b"BZh" and head[3:4] in b"123456789" and head[4:10] in (b"1AY&SY", b"\x17rE8P\x90")


def _starts_zstd(head: bytes) -> bool:
    skippable = head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F
    return skippable or head[:4] == b"\x28\xb5\x2f\xfd"


GZIP = Format("gzip", ".gz", lambda head: head[:3] == b"\x1f\x8b\x08", b"\x1f\x8b\x08", _igzip)
ZSTD = Format("zstd", ".zst", _starts_zstd, b"\x28\xb5\x2f\xfd", _zstd)
BZIP2 = Format("bzip2", ".bz2", _starts_bz2, b"BZh", bz2.BZ2Decompressor)
XZ = Format(
    "xz",
    ".xz",
    lambda head: head[:6] == b"\xfd7zXZ\0",
    b"\xfd7zXZ\0",
    lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY),
)
FORMATS = (GZIP, ZSTD, BZIP2, XZ)


def format_of(head: bytes) -> Format | None:
    """The format that an object beginning with `head` (HEAD bytes, fewer if it is shorter) is compressed in."""
    return next((known for known in FORMATS if known.starts(head)), None)


def format_named(key: str) -> Format | None:
    """The format that the name of `key` promises."""
    return next((known for known in FORMATS if key.lower().endswith(known.extension)), None)


class FramesReader:
    """All frames (members, streams) of a compressed object, one after another.

    The end of the object must be the end of a frame; only zero bytes may follow one. Everything before a fault is
    handed out before the fault is raised, so that its offset is exact.
    """

    def __init__(self, source: Source, kind: Format) -> None:
        self._source = source
        self._kind = kind
        self._frame: _Decompressor = kind.decompressor()
        self._fresh: bytes | None = b""  # the first bytes of a frame that was not begun yet
        self._fault: Exception | None = None
        self._block = _FIRST_BLOCK
        self._offset = 0
        self._done = False

    def read(self, size: int, /) -> bytes:
        """`size` bytes, fewer only before the end or a fault. Raises UnreadableObject and what the source raises."""
        data = b"" if self._fault else self._attempt(size)
        if len(data) < size and data:
            data = self._fill(data, size)
        if not data and self._fault:
            if isinstance(self._fault, UnreadableObject):
                self._fault.offset = self._offset
            raise self._fault
        self._offset += len(data)
        return data

    def close(self) -> None:
        """The source belongs to the caller."""

    def _fill(self, first: bytes, size: int) -> bytes:
        parts = [first]
        missing = size - len(first)
        while missing and not self._fault:
            data = self._attempt(missing)
            if not data:
                break
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    def _attempt(self, limit: int) -> bytes:
        try:
            return self._step(limit)
        except Exception as fault:
            self._fault = fault
            return b""

    def _step(self, limit: int) -> bytes:
        """Some decompressed bytes, b"" at the verified end."""
        while not self._done:
            data = self._fresh
            if data is None:
                if self._frame.eof:
                    self._done = not self._begin_next()
                    continue
                data = b""
            self._fresh = None
            if not data and self._frame.needs_input:
                data = self._source.read(self._block)
                self._block = min(self._block * 2, _LARGEST_BLOCK)
                if not data:
                    raise UnreadableObject(f"truncated: the object ends inside a {self._kind.name} stream")
            out = self._decompress(data, limit)
            if out:
                return out
        return b""

    def _decompress(self, data: bytes, limit: int) -> bytes:
        try:
            return self._frame.decompress(data, limit)
        except MemoryError as error:
            raise UnreadableObject(f"the {self._kind.name} stream asks for too much memory") from error
        except Exception as error:  # every library has its own: zlib.error, IsalError, OSError, LZMAError, ZstdError
            raise UnreadableObject(f"corrupt {self._kind.name} stream: {error}") from error

    def _begin_next(self) -> bool:
        """Find the next frame after the one that ended; False at the end of the object."""
        data = self._frame.unused_data.lstrip(b"\0")
        while len(data) < HEAD:
            more = self._source.read(_FIRST_BLOCK)
            if not more:
                break
            data = (data + more).lstrip(b"\0") if not data else data + more
        if not data:
            return False
        if not self._kind.starts(data[:HEAD]):
            if self._kind.is_cut_start(data):
                raise UnreadableObject(f"truncated: the object ends inside a {self._kind.name} stream")
            raise UnreadableObject(f"bytes that are not {self._kind.name} follow the {self._kind.name} stream")
        self._frame = self._kind.decompressor()
        self._fresh = data
        self._block = _FIRST_BLOCK
        return True
