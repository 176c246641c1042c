"""The limit: decompress a tree of .gz files and look at nothing, on one core: python bench/limit.py SRC."""

import sys
import time
from collections.abc import Iterable
from pathlib import Path

from isal import igzip

BLOCK = 128 * 1024


def files_of(source: Path) -> list[Path]:
    """The objects of a store, in key order."""
    return sorted(source.rglob("*.gz"))


def decompress(files: Iterable[Path]) -> int:
    """Bytes that come out."""
    total = 0
    for path in files:
        with igzip.open(path) as stream:
            while data := stream.read(BLOCK):
                total += len(data)
    return total


def timed(files: Iterable[Path]) -> tuple[float, int]:
    """Seconds on the processor, and bytes."""
    begun = time.process_time()
    total = decompress(files)
    return time.process_time() - begun, total


if __name__ == "__main__":
    seconds, total = timed(files_of(Path(sys.argv[1])))
    print(f"{seconds:.3f} s, {total / seconds / 1e6:.0f} MB/s")
