"""Compression in members that stand alone, so that files can be put together and gone on with after each of them."""

import sys
from typing import Any, Protocol

from eventferry.exports.model import Compression

MEMBER = 1024 * 1024  # bytes before compression, at least
_GZIP_LEVEL = 2  # of igzip's 0 to 3
_ZSTD_LEVEL = 3


class Compressor(Protocol):
    """Compresses one file; the bytes of feed and end one after another are the file."""

    @property
    def is_between(self) -> bool:
        """Whether all that was fed has come out: the file can be gone on with from here."""
        ...

    def go_on(self) -> None:
        """The file has data already."""
        ...

    def feed(self, data: bytes) -> bytes: ...
    def end(self) -> bytes: ...


def make_compressor(compression: Compression, member: int = MEMBER) -> Compressor:
    """What compresses one file. The same data fed in the same pieces give the same bytes."""
    return _Plain() if compression == "none" else _Members(compression, member)


class _Plain:
    is_between = True

    def go_on(self) -> None:
        pass

    def feed(self, data: bytes) -> bytes:
        return data

    def end(self) -> bytes:
        return b""


class _Members:
    def __init__(self, compression: Compression, member: int) -> None:
        self._compression = compression
        self._member = member
        self._waiting: list[bytes] = []
        self._size = 0
        self._is_new = True

    @property
    def is_between(self) -> bool:
        return not self._size

    def go_on(self) -> None:
        self._is_new = False

    def feed(self, data: bytes) -> bytes:
        if data:
            self._waiting.append(data)
            self._size += len(data)
        return self._flush() if self._size >= self._member else b""

    def end(self) -> bytes:
        """What is left; a file without any data gets one empty member, which makes it a valid one."""
        return self._flush() if self._size or self._is_new else b""

    def _flush(self) -> bytes:
        data = b"".join(self._waiting)
        self._waiting, self._size, self._is_new = [], 0, False
        return _gzip(data) if self._compression == "gzip" else _zstd(data)


def _gzip(data: bytes) -> bytes:
    from isal import igzip

    member: bytes = igzip.compress(data, _GZIP_LEVEL, mtime=0)
    return member


def _zstd(data: bytes) -> bytes:
    zstd: Any
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    frame: bytes = zstd.compress(data, _ZSTD_LEVEL)
    return frame
