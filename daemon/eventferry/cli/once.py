"""One pass in the foreground: every source is looked through, every sink gets what it lacks."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from eventferry import app, clock
from eventferry.cli import console, report
from eventferry.cli.options import calling
from eventferry.cli.place import load_config, step_down
from eventferry.cli.progress import Progress, make_progress
from eventferry.config import Config
from eventferry.errors import LedgerBusyError, UsageError
from eventferry.ledger import Ledger, books, facts, sources
from eventferry.logs import configure_logs
from eventferry.pipeline.deliver import SinkWorker
from eventferry.pipeline.run import RunReport, run_once
from eventferry.pipeline.source import Source
from eventferry.service import carry_out

if TYPE_CHECKING:
    from eventferry.pipeline.index import Indexer

LOOK_SECONDS = 0.25
CLOSING_SECONDS = 5.0


def carry_once(path: Path, *, drain: bool, only: str | None) -> int:
    """Do what `eventferry once` promises; the exit code. Raises EventferryError."""
    config = load_config(path)
    _configure_logs(config)
    if only is not None and only not in {each.name for each in config.sources}:
        known = ", ".join(each.name for each in config.sources)
        raise UsageError(f"there is no source {only!r}; known are: {known or 'none'}")
    with console.all_to_stderr(any(each.type == "console" for each in config.sinks)):
        if not app.is_anybody_listening(config) or not any(each.enabled for each in config.sources):
            console.mark(console.MIND, app.why_idle(config))
            return 0
        step_down(config.state_dir)
        if app.is_owned(config.state_dir):
            raise LedgerBusyError(f"another eventferry is at work here and delivers by itself: `{calling()} status`")
        with app.own_state(config.state_dir, wait=False):
            ledger = app.open_own_ledger(config)
            try:
                return _carry(config, ledger, drain, only)
            finally:
                ledger.close()


def _configure_logs(config: Config) -> None:
    """On a terminal the display says it all; elsewhere warnings go where logs go."""
    is_terminal = sys.stderr.isatty()
    configure_logs(config.log.format, "critical" if is_terminal else "warning")
    if is_terminal:
        logging.getLogger().setLevel(logging.CRITICAL)


def _carry(config: Config, ledger: Ledger, drain: bool, only: str | None) -> int:
    started_ms = clock.now_ms()
    app.check_identities(ledger, config)
    app.check_roots(ledger, config)
    carry_out.carry_out(ledger, None)
    with ledger.read() as tx:
        retried = facts.retrying_letters(tx)
    at_work = app.build_sources(ledger, config)
    workers = [SinkWorker(ledger, setup) for setup in app.build_sinks(ledger, config, at_work).values()]
    wanted = [source for name, source in at_work.items() if only in (None, name)]
    with make_progress() as progress, _working(ledger, config, workers) as indexer:
        reports = _look(ledger, wanted, indexer, workers, progress, drain=drain)
        _deliver(ledger, workers, progress)
    carry_out.carry_out(ledger, None)
    outbox = app.build_outbox(ledger, config)
    outbox.pump()
    return report.tell(ledger, reports, started_ms, {worker.setup.name for worker in workers}, retried)


@contextlib.contextmanager
def _working(ledger: Ledger, config: Config, workers: list[SinkWorker]) -> Iterator["Indexer"]:
    """Sinks and indexing at work; at the end, or at Ctrl-C, what is under way is finished or abandoned."""
    indexer = app.build_indexer(ledger, config)
    for worker in workers:
        worker.start()
    try:
        yield indexer
    finally:
        for worker in workers:
            worker.stop()
        deadline = clock.monotonic() + CLOSING_SECONDS
        for worker in workers:
            worker.join(max(0.0, deadline - clock.monotonic()))
        indexer.close()


def _look(
    ledger: Ledger,
    wanted: list[Source],
    indexer: "Indexer",
    workers: list[SinkWorker],
    progress: Progress,
    *,
    drain: bool,
) -> dict[str, RunReport]:
    """Run every source; with `drain` again and again until none finds anything. The last report of each."""
    reports: dict[str, RunReport] = {}
    todo = wanted
    while todo:
        for source in todo:
            full = source.name not in reports and _is_relist_due(ledger, source)
            with progress.indexing(ledger, source, workers) as note:
                found = run_once(ledger, source, indexer, full=full, progress=note)
            progress.indexed(source.name, found)
            reports[source.name] = found
        # What was found is no longer new: this ends.
        todo = [source for source in todo if drain and reports[source.name].discovery.found]
    return reports


def _is_relist_due(ledger: Ledger, source: Source) -> bool:
    with ledger.read() as tx:
        row = sources.get_source(tx, source.name)
    last = None if row is None else row.relisted_ms
    return last is None or clock.now_ms() - last >= source.settings.relist.total_seconds() * 1000


def _deliver(ledger: Ledger, workers: list[SinkWorker], progress: Progress) -> None:
    """Wait until every sink has got all that it takes now."""
    for worker in workers:
        worker.flush()
    busy = list(workers)
    with progress.delivering([worker.setup.name for worker in workers]) as note:
        while busy:
            busy = [worker for worker in busy if not worker.wait_idle(LOOK_SECONDS / len(busy))]
            with ledger.read() as tx:
                left = books.backlogs(tx)
            note({worker.setup.name: sum(b.events for b in left if b.sink == worker.setup.name) for worker in workers})
