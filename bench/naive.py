"""What a colleague would write: python bench/naive.py SRC --files OUT | --http URL.

gzip, json.loads, and each event dumped again: into one file per source file, or in POSTs of 1,000 events.
"""

import argparse
import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BATCH = 1000


def events_of(path: Path) -> Iterator[Any]:
    """The events of a file; what is no JSON object is passed over."""
    with gzip.open(path, "rt", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                yield event


def to_files(source: Path, out: Path) -> int:
    """One NDJSON file per source file; returns the events."""
    out.mkdir(parents=True, exist_ok=True)
    total = 0
    for path in sorted(source.rglob("*.gz")):
        with (out / (path.stem + ".ndjson")).open("w", encoding="utf-8") as target:
            for event in events_of(path):
                target.write(json.dumps(event) + "\n")
                total += 1
    return total


def to_http(source: Path, url: str) -> int:
    """One POST per 1,000 events; returns the events."""
    import requests

    total = 0
    batch: list[str] = []

    def post() -> None:
        body = "".join(batch).encode()
        requests.post(url, data=body, headers={"Content-Type": "application/x-ndjson"}, timeout=60).raise_for_status()
        batch.clear()

    for path in sorted(source.rglob("*.gz")):
        for event in events_of(path):
            batch.append(json.dumps(event) + "\n")
            total += 1
            if len(batch) == BATCH:
                post()
    if batch:
        post()
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--files", type=Path)
    target.add_argument("--http")
    options = parser.parse_args()
    begun = time.perf_counter()
    total = to_files(options.source, options.files) if options.files else to_http(options.source, options.http)
    seconds = time.perf_counter() - begun
    print(json.dumps({"events": total, "seconds": round(seconds, 3)}))


if __name__ == "__main__":
    main()
