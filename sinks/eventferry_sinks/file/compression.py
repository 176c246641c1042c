"""How files are packed, and what they are called then."""

from eventferry.sink.packing import ENDINGS, compress

__all__ = ["SUFFIXES", "compress"]

SUFFIXES = {kind: f".ndjson{ending}" for kind, ending in ENDINGS.items()}
