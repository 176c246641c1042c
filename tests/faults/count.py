"""Counts a stage of the fault lane with nothing of eventferry: plain Python over the files and what each sink holds.

    python count.py FOLDER      FOLDER/{store,out,received,warehouse.duckdb} → one JSON object

An event is a line of a source file that is a JSON object. `missing`, `duplicates`, `foreign` (no such source line) and
`disorder` (an event before one that stands earlier in its file) are counted for each sink that left something.
"""

import gzip
import hashlib
import json
import sys
from pathlib import Path


def read_store(store: Path) -> tuple[dict[bytes, tuple[str, int]], dict[str, int]]:
    """Every event's bytes → (file, number in it), and the books of all lines."""
    events: dict[bytes, tuple[str, int]] = {}
    books = {"files": 0, "lines": 0, "events": 0, "bad": 0, "blank": 0}
    for path in sorted(store.rglob("*.gz")):
        books["files"] += 1
        with gzip.open(path) as lines:
            for number, line in enumerate(lines):
                books["lines"] += 1
                kind = kind_of(line)
                books[kind] += 1
                if kind == "events":
                    events[line.rstrip(b"\n")] = (str(path), number)
    assert len(events) == books["events"], "the stage wrote two equal events"
    return events, books


def kind_of(line: bytes) -> str:
    if not line.strip():
        return "blank"
    try:
        return "events" if isinstance(json.loads(line), dict) else "bad"
    except ValueError:
        return "bad"


def compare(source: dict[bytes, tuple[str, int]], found: list[bytes]) -> dict[str, int]:
    """What a sink holds, in the order in which it got it, against the source."""
    seen: set[bytes] = set()
    last: dict[str, int] = {}
    result = {"events": len(found), "missing": 0, "duplicates": 0, "foreign": 0, "disorder": 0}
    for event in found:
        if event not in source:
            result["foreign"] += 1
            continue
        if event in seen:
            result["duplicates"] += 1
            continue
        seen.add(event)
        file, number = source[event]
        result["disorder"] += number <= last.get(file, -1)
        last[file] = number
    result["missing"] = len(source) - len(seen)
    return result


def read_files(out: Path) -> list[bytes]:
    """The events of the `file` sink, in the order in which its files were written."""
    paths = [path for path in out.rglob("*.ndjson") if path.parent.name != ".eventferry-attempts"]
    events: list[bytes] = []
    for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns):
        events += split(path.read_bytes())
    return events


def read_received(received: Path) -> tuple[list[bytes], dict[str, int]]:
    """The events of the first arrival of each key, and what is to say of repeats."""
    contents: dict[str, str] = {}
    events: list[bytes] = []
    notes = {"requests": 0, "repeats": 0, "other_content": 0}
    for path in sorted(received.iterdir()):
        notes["requests"] += 1
        key, body = path.stem.partition("-")[2], path.read_bytes()
        digest = hashlib.sha256(body).hexdigest()
        if key not in contents:
            contents[key] = digest
            events += split(body)
            continue
        notes["repeats"] += 1
        notes["other_content"] += contents[key] != digest
    return events, notes


def read_warehouse(path: Path) -> list[bytes]:
    """The events of the table, in the order in which they were inserted."""
    import duckdb

    with duckdb.connect(str(path), read_only=True) as connection:
        rows = connection.execute("SELECT event::VARCHAR FROM events ORDER BY rowid").fetchall()
    return [row[0].encode() for row in rows]


def split(body: bytes) -> list[bytes]:
    assert body.endswith(b"\n"), "the last event of a batch is cut off"
    return body[:-1].split(b"\n")


def main(folder: Path) -> dict[str, object]:
    source, books = read_store(folder / "store")
    result: dict[str, object] = {"source": books}
    if any((folder / "out").rglob("*.ndjson")):
        result["file"] = compare(source, read_files(folder / "out"))
    if (folder / "warehouse.duckdb").exists():
        result["duckdb"] = compare(source, read_warehouse(folder / "warehouse.duckdb"))
    if (folder / "received").exists():
        events, notes = read_received(folder / "received")
        result["http"] = {**compare(source, events), **notes}
    return result


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
