"""Scanning against decompression alone, in turn over the same files on one core: python bench/hotpath.py SRC...

The share is what counts: time of decompression alone divided by time of the scan, taken in the same breath.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

from limit import files_of, timed

from eventferry.pipeline.scan import ScanResult, ScanSpec, scan
from eventferry.store import StoreSpec, open_store


def specs_of(source: Path) -> list[ScanSpec]:
    """A scan for each object of the store."""
    spec = StoreSpec(str(source.absolute()))
    return [ScanSpec(spec, thing.key, thing.version) for thing in open_store(spec).list() if thing.key.endswith(".gz")]


def timed_scan(specs: list[ScanSpec]) -> tuple[float, dict[str, int]]:
    """Seconds on the processor, and the books."""
    books = dict.fromkeys(("files", "lines", "events", "bad", "blank", "untimed", "segments"), 0)
    begun = time.process_time()
    for spec in specs:
        found = scan(spec)
        assert isinstance(found, ScanResult), found
        books["files"] += 1
        books["segments"] += len(found.segments)
        for name in ("lines", "events", "bad", "blank", "untimed"):
            books[name] += getattr(found, name)
    return time.process_time() - begun, books


def measure(source: Path, rounds: int) -> dict[str, object]:
    """Rounds of both in turn, after one that warms up."""
    files, specs = files_of(source), specs_of(source)
    size, books = timed(files)[1], timed_scan(specs)[1]
    pairs = [(timed(files)[0], timed_scan(specs)[0]) for _ in range(rounds)]
    shares = [limit / seconds for limit, seconds in pairs]
    return {
        "source": source.name,
        "mb": round(size / 1e6),
        "share": round(statistics.median(shares), 3),
        "share_min": round(min(shares), 3),
        "share_max": round(max(shares), 3),
        "limit_mb_s": round(size / 1e6 / statistics.median(limit for limit, _ in pairs)),
        "scan_mb_s": round(size / 1e6 / statistics.median(seconds for _, seconds in pairs)),
        "scan_mb_s_best": round(size / 1e6 / min(seconds for _, seconds in pairs)),
        **books,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    for source in options.sources:
        print(json.dumps(measure(source, options.rounds)), flush=True)


if __name__ == "__main__":
    main()
