"""The product itself, timed from inside: python bench/product.py SRC WORK [--processes N] [--deliver].

Indexes a store into a fresh ledger in WORK and, with --deliver, sends all to a `file` sink; start-up is left out. SRC
may be a .toml file with what a [[sources]] table says in place of a directory.
"""

import argparse
import json
import os
import shutil
import time
from pathlib import Path


def config_of(source: Path, work: Path, processes: int) -> str:
    """A configuration with one source and a file sink."""
    table = source.read_text() if source.suffix == ".toml" else f'url = "{source.absolute()}"'
    return f"""
state_dir = "{work / "state"}"
[execution]
processes = {processes}
[[sinks]]
name = "files"
type = "file"
path = "{work / "out"}"
[[sources]]
name = "events"
settle = "0s"
max_files = 100000
{table}
"""


def measure(source: Path, work: Path, processes: int, deliver: bool) -> dict[str, object]:
    """Seconds on the clock and on this process's processor, with the books to prove that all was done."""
    # Not at the top: a spawned worker imports this script again, as it does the command line's.
    from eventferry import app
    from eventferry.config import load_text
    from eventferry.ledger import books
    from eventferry.logs import configure_logs
    from eventferry.pipeline.deliver import SinkWorker
    from eventferry.pipeline.run import run_once

    configure_logs("console", "error")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    config = load_text(config_of(source, work, processes))
    ledger = app.open_own_ledger(config)
    sources = app.build_sources(ledger, config)
    setups = app.build_sinks(ledger, config, sources)
    indexer = app.build_indexer(ledger, config)
    workers = [SinkWorker(ledger, setup) for setup in setups.values()] if deliver else []
    for worker in workers:
        worker.start()
    begun, processor = time.perf_counter(), time.process_time()
    for source_at_work in sources.values():
        indexed = run_once(
            ledger, source_at_work, indexer, full=True, progress=lambda _: [worker.wake() for worker in workers]
        ).indexed
    index_seconds, index_processor = time.perf_counter() - begun, time.process_time() - processor
    for worker in workers:
        worker.flush()
        worker.wait_idle(600)
    seconds = time.perf_counter() - begun
    with ledger.read() as tx:
        found = books.sink_books(tx)
    for worker in workers:
        worker.stop()
        worker.join(10)
    indexer.close()
    ledger.close()
    assert all(each.balance for each in found), found
    assert not deliver or all(each.waiting == 0 for each in found), found
    return {
        "files": indexed.files,
        "events": indexed.events,
        "mb": indexed.bytes / 1e6,
        "index_seconds": index_seconds,
        "index_processor_seconds": index_processor,
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--deliver", action="store_true")
    options = parser.parse_args()
    print(json.dumps(measure(options.source, options.work, options.processes, options.deliver)))
    os._exit(0)


if __name__ == "__main__":
    main()
