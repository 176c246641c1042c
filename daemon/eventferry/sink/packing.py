"""Packs a body so that the same body always gives the same bytes."""

import sys

from isal import isal_zlib

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ENDINGS = {"none": "", "gzip": ".gz", "zstd": ".zst"}

_GZIP = 31  # window bits which ask zlib for a gzip header; its time is 0


def compress(body: bytes, kind: str) -> bytes:
    """`body` packed as `kind`, one of ENDINGS; level 1."""
    if kind == "gzip":
        return isal_zlib.compress(body, 1, _GZIP)
    if kind == "zstd":
        return zstd.compress(body, 1)
    return body
