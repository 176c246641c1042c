"""Exports measured: python bench/exports.py [--events N] [--work DIR] [--json FILE] [FORMAT …].

Makes a store of generated events of about 1 KB, indexes it, and exports all of them in each format, each in a fresh
process as the daemon does. Prints seconds, events per second and the peak of the worker's memory; exit 1 where that is
500 MB or more, or where events are missing.
"""

import argparse
import json
import random
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
MOST_MEGABYTES = 500
FILE_EVENTS = 10_000
OUTPUTS = ("ndjson", "ndjson.gz", "json.gz", "csv", "csv.gz", "csv-filtered", "parquet")


def small(event: dict[str, Any]) -> bytes:
    """A generated event of 1.5 KB without some of its parts: about 1 KB."""
    del event["endpoint"]
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def generate(out: Path, events: int) -> int:
    """Write the store, repeating a stretch of events so that making it does not take longer than measuring."""
    import gen
    from isal import igzip

    rng = random.Random(7)
    at, size, made = gen.START_MS, 0, list[bytes]()
    for number in range(0, events, FILE_EVENTS):
        stretch = []
        if number < 20 * FILE_EVENTS:
            for _ in range(FILE_EVENTS):
                at += rng.randrange(800)
                stretch.append(small(gen.pinpoint(rng, at)))
            body = b"".join(stretch)
            made.append(body)
        body = made[number // FILE_EVENTS % len(made)]
        lines = body.splitlines(keepends=True)[: min(FILE_EVENTS, events - number)]
        path = out / f"2023/11/14/22/{number:09}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(igzip.compress(b"".join(lines), 2, mtime=0))
        size += sum(map(len, lines))
    return size


def index(store: Path, work: Path) -> Any:
    """The configuration and the ledger of an installation that has indexed the store."""
    from eventferry import app
    from eventferry.config import load_text
    from eventferry.logs import configure_logs
    from eventferry.pipeline.run import run_once

    configure_logs("console", "error")
    config = load_text(
        f'state_dir = "{work / "state"}"\n[execution]\nprocesses = 0\n'
        f'[[sources]]\nname = "events"\nurl = "{store}"\nsettle = "0s"\nmax_files = 100000\n'
    )
    ledger = app.open_own_ledger(config)
    indexer = app.build_indexer(ledger, config)
    for source in app.build_sources(ledger, config).values():
        run_once(ledger, source, indexer, full=True)
    return config, ledger


def spec_of(name: str, work: Path, config: Any, ledger: Any) -> Any:
    """The task of an export, with its plan written."""
    from eventferry import clock
    from eventferry.exports.model import Output, Selection
    from eventferry.exports.plan import plan, readables
    from eventferry.exports.planned import write_plan
    from eventferry.exports.task import PLAN, TaskSpec
    from eventferry.query import Compare, Op

    format_, _, rest = name.partition(".")
    selection = Selection()
    if format_ == "csv-filtered":
        format_, selection = "csv", Selection(filter=Compare(("device", "model"), Op.EQ, "Firefox"))
    output = Output(format_, "gzip" if rest == "gz" else "none", formula_guard=True)
    sources = readables(ledger, config.sources)
    spec = TaskSpec(name, work / "exports", tuple(sources.values()), selection, output, 10**9)
    spec.work.mkdir(parents=True)
    write_plan(spec.work / PLAN, plan(ledger, sources, selection, spec.as_of, clock.now_ms()))
    return spec


def measure(spec: Any) -> dict[str, Any]:
    """Run the task and say what it took; in a process of its own."""
    from eventferry.exports.task import Made, run_export

    begun, processor = time.perf_counter(), time.process_time()
    made = run_export(spec)
    seconds, processor = time.perf_counter() - begun, time.process_time() - processor
    assert isinstance(made, Made), made
    peak = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())
    assert peak is not None
    return {
        "events": made.events, "bytes": made.bytes, "files": len(made.files), "seconds": seconds,
        "processor_seconds": processor, "megabytes": int(peak[1]) // 1024,
    }  # fmt: skip


def main() -> int:
    from eventferry.execution import make_executor

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("formats", nargs="*", default=OUTPUTS)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp(prefix="eventferry-exports-"))
    found, kept = {}, True
    try:
        size = generate(work / "store", options.events)
        print(f"{options.events:,} events of {size // options.events:,} B")
        config, ledger = index(work / "store", work)
        print("| export | s | events/s | processor µs/event | MB written | peak MB |\n|---|---|---|---|---|---|")
        for name in options.formats:
            with make_executor(1) as executor:
                one = executor.submit(measure, spec_of(name, work, config, ledger)).result()
            found[name] = one
            speed, cost = options.events / one["seconds"], one["processor_seconds"] / options.events * 1e6
            print(
                f"| {name} | {one['seconds']:.1f} | {speed:,.0f} | {cost:.1f} | {one['bytes'] // 10**6} "
                f"| {one['megabytes']} |",
                flush=True,
            )
            kept &= one["megabytes"] < MOST_MEGABYTES and (one["events"] == options.events or "filtered" in name)
            shutil.rmtree(work / "exports")
        ledger.close()
    finally:
        if options.work is None:
            shutil.rmtree(work, ignore_errors=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
