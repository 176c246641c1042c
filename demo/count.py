"""Counts events in a store and at its sinks without anything of eventferry, so that its books can be checked."""

import argparse
import gzip
import hashlib
import json
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

_BOM = b"\xef\xbb\xbf"
_WHITE = b" \t\r\n"


def count_store(root: Path) -> dict[str, Any]:
    """What every gzip file holds; one that cannot be read to its end counts as unreadable, and for nothing else."""
    files = sorted(path for path in root.rglob("*.gz") if not path.name.startswith("."))
    total = {"files": len(files), "unreadable": 0, "lines": 0, "bad": 0, "blank": 0}
    events: list[bytes] = []
    for path in files:
        content = _unpack(path.read_bytes())
        if content is None:
            total["unreadable"] += 1
            continue
        for line in _split(content):
            total["lines"] += 1
            if not line.strip(_WHITE):
                total["blank"] += 1
            elif _is_event(line):
                events.append(_fingerprint(line))
            else:
                total["bad"] += 1
    return {**total, **_sum_up(events)}


def read_events(root: Path) -> Iterator[bytes]:
    """The lines of all readable files that are events."""
    for path in sorted(path for path in root.rglob("*.gz") if not path.name.startswith(".")):
        yield from (line for line in _split(_unpack(path.read_bytes()) or b"") if _is_event(line))


def count_files(root: Path) -> dict[str, Any]:
    """Every line of every NDJSON file below a directory."""
    files = sorted(path for path in root.rglob("*.ndjson") if path.is_file())
    found = (_fingerprint(line) for path in files for line in _split(path.read_bytes()))
    return {"files": len(files), **_sum_up(found)}


def count_duckdb(path: Path, table: str = "events") -> dict[str, Any]:
    """Every row of a table with a column `event`."""
    import duckdb

    with duckdb.connect(str(path), read_only=True) as connection:
        rows = connection.execute(f'SELECT event::VARCHAR FROM "{table}"')
        batches = iter(lambda: rows.fetchmany(5000), [])
        return _sum_up(_fingerprint(row[0].encode()) for batch in batches for row in batch)


def _unpack(packed: bytes) -> bytes | None:
    try:
        return gzip.decompress(packed) if packed else None  # nothing at all is not even an empty gzip file
    except (EOFError, OSError, zlib.error):
        return None


def _split(content: bytes) -> Iterator[bytes]:
    lines = content.removeprefix(_BOM).split(b"\n")
    if not lines[-1]:
        lines.pop()
    for line in lines:
        yield line.removesuffix(b"\r")


def _is_event(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line.decode(), parse_constant=_refuse), dict)
    except ValueError:
        return False


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _fingerprint(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=8).digest()


def _sum_up(fingerprints: Iterable[bytes]) -> dict[str, Any]:
    """How many, and one number for all of them together that does not depend on their order."""
    count = total = 0
    for each in fingerprints:
        count += 1
        total += int.from_bytes(each, "big")
    return {"events": count, "sum": f"{total % 2**64:016x}"}


def main() -> int:
    """Print the three counts; 1 where they differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path, help="directory of *.gz files")
    parser.add_argument("files", type=Path, help="directory of the sink's *.ndjson files")
    parser.add_argument("duckdb", type=Path, help="the DuckDB file")
    given = parser.parse_args()
    counts = {
        "store": count_store(given.store),
        "files": count_files(given.files),
        "warehouse": count_duckdb(given.duckdb),
    }
    json.dump(counts, sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0 if len({(each["events"], each["sum"]) for each in counts.values()}) == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
