"""The `postgres` sink beside raw COPY of the same bytes into the same table: python bench/postgres.py [--short].

In interleaved rounds each side takes the same batches in the same transactions; the raw side has its COPY text made
before. The server keeps nothing safe from power cuts here (fsync = off): the faster it is, the less can hide behind it.
Exit 1 where the promise is missed: at least 0.9 of raw COPY, at most 200 MB beside the batch.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import psycopg
from gen import START_MS, pinpoint
from tests.postgres_server import PostgresServer, pip_programs, postgres_server

from eventferry.sink import Batch
from eventferry.sink.kit import make_batch
from eventferry.sink.registry import make_sink
from eventferry_sinks.postgres.encoding import Encoder
from eventferry_sinks.postgres.sink import PostgresSink

PROMISE, MEMORY_MB = 0.9, 200
MANY_COLUMNS = {
    "page": "attributes.url",
    "host": "attributes.host",
    "title": "attributes.title",
    "referer": "attributes.referer",
    "session": "session.session_id",
    "client": "client.client_id",
    "platform": "device.platform.name",
    "elapsed": {"path": "metrics.elapsed", "type": "integer"},
    "started": {"path": "session.start_timestamp", "type": "timestamp"},
    "logged_in": {"path": "attributes.loggedIn", "type": "boolean"},
}


def batches_of(events: int) -> list[Batch]:
    """Batches as large as the sink type wants them, of nested events of about 1 KB."""
    rng, at = random.Random(7), START_MS
    limits, found = PostgresSink.limits, []
    lines: list[bytes] = []
    size = 0
    for _ in range(events):
        at += rng.randrange(800)
        event = {key: value for key, value in pinpoint(rng, at).items() if key != "endpoint"}
        lines.append(json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode())
        size += len(lines[-1]) + 1
        if size > limits.max_bytes - 4096 or len(lines) == limits.max_events:
            found.append(make_batch(lines))
            lines, size = [], 0
    return [*found, make_batch(lines)] if lines else found


def sink_seconds(dsn: str, batches: list[Batch], **options: Any) -> float:
    """The sink delivers all batches; its connection and its table are there already."""
    with make_sink("postgres", "bench", {"dsn": dsn, "create": True, **options}) as sink:
        sink.deliver(batches[0])
        clear(dsn)
        begun = time.perf_counter()
        for batch in batches:
            sink.deliver(batch)
        return time.perf_counter() - begun


def raw_seconds(dsn: str, batches: list[Batch], texts: list[bytes], copy: str) -> float:
    """The same rows by COPY alone, in the same transactions with the same books."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        clear(dsn)
        begun = time.perf_counter()
        for batch, text in zip(batches, texts, strict=True):
            (part,) = batch.parts
            with connection.transaction(), connection.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO eventferry_batches VALUES (%s, 'public.events', %s)"
                    " ON CONFLICT DO NOTHING RETURNING 1",
                    [batch.id, batch.events],
                )
                with cursor.copy(copy) as stream:
                    stream.write(text)
                cursor.execute(
                    "INSERT INTO eventferry_parts VALUES (0, 'public.events', %s, %s, %s, %s, %s, %s, %s)",
                    [batch.epoch, part.source, part.key, part.digest, part.start, part.end, batch.id],
                )
        return time.perf_counter() - begun


def clear(dsn: str) -> None:
    """Empty tables, and nothing left to write for the one that comes next."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("TRUNCATE events, eventferry_batches, eventferry_parts")
        connection.execute("CHECKPOINT")


def ratios(
    server: PostgresServer, batches: list[Batch], rounds: int, **options: Any
) -> Iterator[tuple[float, float, float]]:
    """(raw ÷ sink, seconds of the sink, seconds of raw COPY) of each round after one that warms up."""
    dsn = server.dsn()
    encoder = Encoder(PostgresSink.Options(dsn=dsn, **options).design().columns)
    texts = [b"".join(encoder.blocks(batch.body, batch.id)) for batch in batches]
    copy = f"COPY events ({', '.join(encoder.names)}) FROM STDIN"
    server.run("DROP TABLE IF EXISTS events")
    sides: dict[str, Callable[[], float]] = {
        "sink": lambda: sink_seconds(dsn, batches, **options),
        "raw": lambda: raw_seconds(dsn, batches, texts, copy),
    }
    for number in range(rounds + 1):
        order = ("sink", "raw") if number % 2 == 0 else ("raw", "sink")
        seconds = {each: sides[each]() for each in order}
        counted = server.run("SELECT count(*) FROM events")[0][0]
        if counted != sum(batch.events for batch in batches):
            sys.exit(f"{counted} events are there")
        if number:
            yield seconds["raw"] / seconds["sink"], seconds["sink"], seconds["raw"]


def peak_memory(dsn: str, batch: Batch) -> float:
    """MB beside the batch that a process needs which delivers it, over and over under other ids."""
    with tempfile.NamedTemporaryFile() as body:
        body.write(batch.body)
        body.flush()
        command = [sys.executable, __file__, "--deliver", dsn, body.name]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def deliver_and_tell(dsn: str, body: Path) -> None:
    """What `peak_memory` runs in a process of its own."""
    read = body.read_bytes()
    with make_sink("postgres", "bench", {"dsn": dsn, "create": True, "table": "memory"}) as sink:
        for number in range(4):
            sink.deliver(Batch(f"{number:032x}", read, read.count(b"\n")))
    # Not what getrusage says: that begins with what the parent had.
    (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    sys.stdout.write(str((int(peak.split()[1]) * 1024 - len(read)) / 1e6))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="fewer events and rounds: for CI")
    parser.add_argument("--deliver", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.deliver:
        deliver_and_tell(given.deliver[0], Path(given.deliver[1]))
        return
    events, rounds, promise = (40_000, 3, PROMISE * 0.8) if given.short else (200_000, 7, PROMISE)
    batches = batches_of(events)
    size = sum(len(batch.body) for batch in batches) / 1e6
    print(f"{events:,} events of {size * 1e6 / events:,.0f} bytes in {len(batches)} batches")
    print("| what | median | range | promise | kept |\n|---|---|---|---|---|", flush=True)
    missed = []
    with postgres_server(pip_programs(), shared_buffers="256MB") as server:
        for name, options, wanted in (
            ("raw COPY ÷ sink, default columns", {}, promise),
            ("raw COPY ÷ sink, ten columns more", {"columns": MANY_COLUMNS}, None),
        ):
            found = list(ratios(server, batches, rounds, **options))
            middle = statistics.median(each[0] for each in found)
            low, high = min(each[0] for each in found), max(each[0] for each in found)
            kept = wanted is None or middle >= wanted
            said = "no promise" if wanted is None else f"≥ {wanted:.2f}"
            print(f"| {name} | {middle:.3f} | {low:.3f}–{high:.3f} | {said} | {'yes' if kept else 'NO'} |", flush=True)
            speeds = [size / statistics.median(each[place] for each in found) for place in (1, 2)]
            print(f"|   MB/s of events: sink, raw | {speeds[0]:.0f}, {speeds[1]:.0f} | | | |", flush=True)
            missed += [] if kept else [name]
        memory = peak_memory(server.dsn(), batches[0])
        kept = memory <= MEMORY_MB
        print(f"| memory beside the batch, MB | {memory:.0f} | | ≤ {MEMORY_MB} | {'yes' if kept else 'NO'} |")
        missed += ["memory"] if memory > MEMORY_MB else []
    if missed:
        sys.exit(f"missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
