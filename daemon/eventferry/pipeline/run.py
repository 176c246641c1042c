"""One run over one source, top to bottom: the file to read first."""

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from eventferry.errors import StoreError
from eventferry.ledger import Ledger, sources
from eventferry.logs import get_logger
from eventferry.pipeline.discover import Discovery, discover
from eventferry.pipeline.index import Indexed, Indexer
from eventferry.pipeline.source import Source
from eventferry.pipeline.source_alerts import alert_run

logger = get_logger()


@dataclass(frozen=True, slots=True)
class RunReport:
    """What one run did."""

    discovery: Discovery
    indexed: Indexed
    error: str | None = None

    @property
    def limited(self) -> bool:
        """More files wait than the run was allowed to take."""
        return self.discovery.limited


def run_once(
    ledger: Ledger,
    source: Source,
    indexer: Indexer,
    *,
    full: bool = False,
    progress: Callable[[Indexed], None] = lambda _: None,
    listing: Callable[[], None] = lambda: None,
) -> RunReport:
    """Look for new files, index them, close the books. A store that fails is reported, not raised.

    `listing` is called while the listing moves, `progress` while the indexing does.
    """
    with ledger.write() as tx:
        run_id = sources.begin_run(tx, source.id, "relist" if full else "poll")

    discovery, error = _discover(ledger, source, full, listing)
    report = RunReport(discovery, indexer.index(source, progress), error)

    with ledger.write() as tx:
        _close_books(tx, run_id, report)
        alert_run(tx, source, discovery, error, is_full=full)
    _log(source, report)
    return report


def _discover(ledger: Ledger, source: Source, full: bool, progress: Callable[[], None]) -> tuple[Discovery, str | None]:
    try:
        store = source.open()
    except StoreError as error:
        return Discovery(), str(error)
    try:
        limit = source.settings.max_files
        return discover(ledger, source, store, limit=limit, full=full, progress=progress), None
    except StoreError as error:
        return Discovery(), str(error)
    finally:
        store.close()


def _close_books(tx: sa.Connection, run_id: int, report: RunReport) -> None:
    discovery, indexed = report.discovery, report.indexed
    sources.finish_run(
        tx,
        run_id,
        listed=discovery.listed,
        found=len(discovery.found),
        indexed=indexed.files,
        quarantined=indexed.quarantined,
        events=indexed.events,
        bytes=indexed.bytes,
        bad=indexed.bad,
        limited=report.limited,
        error=report.error,
    )


def _log(source: Source, report: RunReport) -> None:
    discovery, indexed = report.discovery, report.indexed
    logger.info(
        "run.finished",
        source=source.name,
        listed=discovery.listed,
        found=len(discovery.found),
        indexed=indexed.files,
        events=indexed.events,
        bad=indexed.bad,
        quarantined=indexed.quarantined,
        postponed=indexed.postponed,
        too_young=discovery.too_young,
        foreign=discovery.foreign,
        before_start=discovery.before_start,
        limited=report.limited,
        error=report.error,
    )
