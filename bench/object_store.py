"""The `object_store` sink beside pyarrow and DuckDB writing the same events: python bench/object_store.py [--short].

All write the same Parquet columns, the raw event among them, with zstd and one thread, from memory (DuckDB: from a file
in the page cache) into the same directory; the sink also syncs, looks for its manifest, and writes it. They take turns;
judged is the median of the ratios of the same round, in seconds on the clock; the processor's are printed beside them.
NDJSON with zstd, in folders by event time, is measured beside the library alone, which does not look for times.
Exit 1 where a promise is missed: at least 0.8 of each, at most 200 MB beside the batch.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from gen import START_MS, pinpoint

from eventferry.sink import Batch
from eventferry.sink.kit import make_batch
from eventferry.sink.registry import make_sink
from eventferry_sinks.object_store.sink import ObjectStoreSink

PROMISE, MEMORY_MB = 0.8, 200
Seconds = tuple[float, float]  # on the clock, of the processor
Side = Callable[[], Seconds]
MANY_COLUMNS = {
    "page": "attributes.url",
    "host": "attributes.host",
    "title": "attributes.title",
    "referer": "attributes.referer",
    "session": "session.session_id",
    "client": "client.client_id",
    "platform": "device.platform.name",
    "elapsed": {"path": "metrics.elapsed", "type": "integer"},
    "sessions": {"path": "endpoint.Metrics.sessions", "type": "number"},
    "started": {"path": "session.start_timestamp", "type": "timestamp"},
}


def batch_of(megabytes: float) -> Batch:
    """A batch of nested events of about 1.4 KB, all of one day."""
    rng, lines, size = random.Random(7), [], 0
    while size < megabytes * 1e6 and len(lines) < ObjectStoreSink.limits.max_events:
        event = pinpoint(rng, START_MS + len(lines))
        lines.append(json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode())
        size += len(lines[-1]) + 1
    return replace(make_batch(lines), time_min=START_MS, time_max=START_MS + len(lines))


def sink_side(folder: Path, batch: Batch, **options: Any) -> Side:
    """Deliveries of the batch under other ids, by an instance that is open already."""
    sink = make_sink("object_store", "bench", {"url": str(folder), "create": True, **options})
    sink.open()
    numbers = iter(range(10**6))
    sink.deliver(replace(batch, id="warm"))

    def deliver() -> Seconds:
        each = replace(batch, id=f"{next(numbers):032x}")
        return timed(lambda: sink.deliver(each))

    return deliver


def pyarrow_side(target: Path, body: bytes, columns: dict[str, Any]) -> Side:
    """read_json of what the columns need, the lines by the CSV reader, write_table."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv
    import pyarrow.json
    import pyarrow.parquet as pq

    pa.set_cpu_count(1)
    paths = {"event_time": "event_timestamp", "event_type": "event_type"}
    paths |= {name: each if isinstance(each, str) else each["path"] for name, each in columns.items()}
    times = {"event_time", "started"} & set(paths)
    numbers = {"event_timestamp", "session.start_timestamp", "metrics.elapsed"}
    tree: dict[str, Any] = {}
    for path in paths.values():
        node = tree
        *above, last = path.split(".")
        for step in above:
            node = node.setdefault(step, {})
        node[last] = pa.int64() if path in numbers else pa.float64() if path.endswith("sessions") else pa.string()
    schema = pa.schema(list(fields(tree)))

    def write() -> None:
        read = pyarrow.json.read_json(
            pa.BufferReader(body),
            read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=4 << 20),
            parse_options=pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
        made = {}
        for name, path in paths.items():
            first, *rest = path.split(".")
            values = pc.struct_field(read.column(first), rest) if rest else read.column(first)
            made[name] = values.cast(pa.timestamp("ms", "UTC")) if name in times else values
        lines = pyarrow.csv.read_csv(
            pa.BufferReader(body),
            read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=4 << 20, column_names=["event"]),
            parse_options=pyarrow.csv.ParseOptions(delimiter="\x01", quote_char=False, double_quote=False),
            convert_options=pyarrow.csv.ConvertOptions(column_types={"event": pa.string()}),
        )
        made |= {"event": lines.column(0), "batch_id": pa.repeat(pa.scalar("0" * 32), read.num_rows)}
        pq.write_table(pa.table(made), target, compression="zstd")

    return lambda: timed(write)


def fields(tree: dict[str, Any]) -> Any:
    import pyarrow as pa

    for name, below in tree.items():
        yield pa.field(name, pa.struct(list(fields(below))) if isinstance(below, dict) else below)


def duckdb_side(target: Path, source: Path, columns: dict[str, Any]) -> Side:
    """COPY … TO parquet; all values are taken out by one call, so that an event is parsed once."""
    import duckdb

    connection = duckdb.connect(config={"threads": 1})
    connection.execute("SET TimeZone = 'UTC'")
    paths = ["event_timestamp", "event_type"]
    paths += [each if isinstance(each, str) else each["path"] for each in columns.values()]
    wanted = ", ".join(f"'/{path.replace('.', '/')}'" for path in paths)
    types = {"integer": "x[{}]::BIGINT", "number": "x[{}]::DOUBLE", "timestamp": "epoch_ms(x[{}]::BIGINT)"}
    values = ["epoch_ms(x[1]::BIGINT) AS event_time", "x[2] AS event_type"]
    for number, (name, each) in enumerate(columns.items(), 3):
        pattern = "x[{}]" if isinstance(each, str) else types[each["type"]]
        values.append(f"{pattern.format(number)} AS {name}")
    copy = (
        f"COPY (SELECT {', '.join(values)}, json::VARCHAR AS event, '{'0' * 32}' AS batch_id FROM (SELECT json,"
        f" json_extract_string(json, [{wanted}]) AS x FROM read_json_objects('{source}', format='newline_delimited')))"
        f" TO '{target}' (FORMAT parquet, COMPRESSION zstd)"
    )
    return lambda: timed(lambda: connection.execute(copy))


def library_side(target: Path, body: bytes) -> Side:
    """zstd at the same level, and a plain write."""
    from eventferry.sink.packing import compress

    return lambda: timed(lambda: target.write_bytes(compress(body, "zstd")))


def timed(work: Callable[[], object]) -> Seconds:
    """On the clock and of the processor, all threads together."""
    begun, spent = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begun, time.process_time() - spent


def compare(sides: dict[str, Side], rounds: int) -> dict[str, list[Seconds]]:
    """Seconds of each side, in turns; the first round warms up."""
    seconds: dict[str, list[Seconds]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        order = list(sides) if number % 2 else list(sides)[::-1]
        for name in order:
            taken = sides[name]()
            if number:
                seconds[name].append(taken)
    return seconds


MEMORY = """
import sys
sys.path.insert(0, sys.argv[1])
from object_store import batch_of, replace, sink_side
batch = batch_of(float(sys.argv[3]))
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak is measured anew
def megabytes(name):
    (line,) = (line for line in open("/proc/self/status") if line.startswith(name))
    return int(line.split()[1]) / 1024
before = megabytes("VmRSS")
deliver = sink_side(sys.argv[2], batch, format="parquet")
for _ in range(6):
    deliver()
print(megabytes("VmHWM") - before, len(batch.body) / 2**20)
"""


def memory(folder: Path, megabytes: float) -> tuple[float, float]:
    """(MB that opening and delivering add to a process that holds the batch, MB of the batch)."""
    command = [sys.executable, "-c", MEMORY, str(Path(__file__).parent), str(folder), str(megabytes)]
    added, batch = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(added), float(batch)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rounds = arguments.rounds or (3 if arguments.short else 9)
    megabytes = 16 if arguments.short else 60
    figures: dict[str, float] = {}
    # In memory where that is possible: how fast a disk syncs is not what is compared.
    fast = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=fast) as place:
        folder = Path(place)
        batch = batch_of(megabytes)
        source = folder / "events.ndjson"
        source.write_bytes(batch.body)
        print(f"{batch.events} events, {len(batch.body) / 1e6:.0f} MB, {rounds} rounds")
        for label, columns in (("2 columns", {}), ("12 columns", MANY_COLUMNS)):
            sides = {
                "sink": sink_side(folder / label, batch, format="parquet", columns=columns),
                "pyarrow": pyarrow_side(folder / "arrow.parquet", batch.body, columns),
                "DuckDB": duckdb_side(folder / "duck.parquet", source, columns),
            }
            figures |= judged(f"parquet, {label}", compare(sides, rounds), len(batch.body))
        sides = {
            "sink": sink_side(folder / "lines", batch),
            "zstd": library_side(folder / "lines.zst", batch.body),
        }
        figures |= judged("ndjson", compare(sides, rounds), len(batch.body))
        added, held = memory(folder / "memory", megabytes)
        figures["memory"] = added
        print(f"memory: {added:.0f} MB beside a batch of {held:.0f} MB")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))
    missed = [name for name, value in figures.items() if name.startswith("parquet") and value < PROMISE]
    missed += ["memory"] if added > MEMORY_MB + held else []
    print(f"missed: {', '.join(missed)}" if missed else "every promise is kept")
    return bool(missed)


def judged(label: str, seconds: dict[str, list[Seconds]], size: int) -> dict[str, float]:
    """The median ratio to each other side on the clock, printed with the spread."""
    found = {}
    mine = seconds.pop("sink")
    print(f"{label}: sink {size / statistics.median(clock for clock, _ in mine) / 1e6:.0f} MB/s")
    for name, theirs in seconds.items():
        pairs = list(zip(theirs, mine, strict=True))
        ratios = sorted(other[0] / own[0] for other, own in pairs)
        spent = statistics.median(other[1] / own[1] for other, own in pairs)
        found[f"{label}: {name}"] = statistics.median(ratios)
        said = f"{statistics.median(ratios):.2f} of {name} ({ratios[0]:.2f}–{ratios[-1]:.2f})"
        print(f"  {said}; {spent:.2f} in seconds of the processor")
    return found


if __name__ == "__main__":
    sys.exit(main())
