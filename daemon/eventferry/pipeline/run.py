"""One run over one source, top to bottom: the file to read first."""

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from eventferry.errors import StoreError
from eventferry.ledger import Ledger, alerts, sources
from eventferry.logs import get_logger
from eventferry.pipeline.discover import Discovery, discover
from eventferry.pipeline.index import Indexed, Indexer
from eventferry.pipeline.source import Source

logger = get_logger()

# So many limited runs in a row, and people are told that the source falls behind.
LIMITED_BEFORE_WARNING = 3


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
) -> RunReport:
    """Look for new files, index them, close the books. A store that fails is reported, not raised."""
    with ledger.write() as tx:
        run_id = sources.begin_run(tx, source.id, "relist" if full else "poll")

    discovery, error = _discover(ledger, source, full)
    indexed = indexer.index(source, progress)

    with ledger.write() as tx:
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
            limited=discovery.limited,
            error=error,
        )
        _raise_alerts(tx, source, discovery, error)
        if full and error is None:
            _alert_unmatched(tx, source, discovery)
        if indexed.files and not indexed.bad:
            alerts.close_condition(tx, f"lines.bad:{source.name}", f"the last {indexed.files} files hold none")
    logger.info(
        "run.finished",
        source=source.name,
        listed=discovery.listed,
        found=len(discovery.found),
        indexed=indexed.files,
        events=indexed.events,
        bad=indexed.bad,
        quarantined=indexed.quarantined,
        too_young=discovery.too_young,
        foreign=discovery.foreign,
        before_start=discovery.before_start,
        limited=discovery.limited,
        error=error,
    )
    return RunReport(discovery, indexed, error)


def _discover(ledger: Ledger, source: Source, full: bool) -> tuple[Discovery, str | None]:
    try:
        store = source.open()
    except StoreError as error:
        return Discovery(), str(error)
    try:
        return discover(ledger, source, store, limit=source.settings.max_files, full=full), None
    except StoreError as error:
        return Discovery(), str(error)
    finally:
        store.close()


def _raise_alerts(tx: sa.Connection, source: Source, discovery: Discovery, error: str | None) -> None:
    unreachable, behind = f"source.unreachable:{source.name}", f"source.behind:{source.name}"
    if error is not None:
        alerts.open_condition(
            tx,
            cause=unreachable,
            level="error",
            event="source.unreachable",
            subject=f"Source {source.name} cannot be listed; no new events come in",
            detail=error,
            command=f"eventferry check --source {source.name}",
            fields={"source": source.name},
        )
        return
    alerts.close_condition(tx, unreachable)
    if not discovery.limited:
        alerts.close_condition(tx, behind)
    elif not source.settings.catch_up and sources.limited_in_a_row(tx, source.id) >= LIMITED_BEFORE_WARNING:
        alerts.open_condition(
            tx,
            cause=behind,
            level="warning",
            event="source.behind",
            subject=f"Source {source.name} gets more files than its runs may take",
            detail=f"The last runs each took max_files = {source.settings.max_files} and left more waiting. "
            "Raise max_files, or set catch_up = true to start the next run at once while files wait.",
            command=f"eventferry status --source {source.name}",
            fields={"source": source.name},
        )


def _alert_unmatched(tx: sa.Connection, source: Source, discovery: Discovery) -> None:
    """A pattern that fits no key at all is a mistake that would otherwise look like silence."""
    cause = f"source.unmatched:{source.name}"
    if discovery.foreign < discovery.listed:
        alerts.close_condition(tx, cause)
    elif discovery.listed:
        alerts.open_condition(
            tx,
            cause=cause,
            level="error",
            event="source.unmatched",
            subject=f"No file of source {source.name} is taken: none of its keys matches key_pattern",
            detail=f"{discovery.listed} keys were listed; key_pattern is {source.settings.key_pattern!r}. "
            'Set key_pattern = "" where keys hold no dates.',
            command=f"eventferry check --source {source.name}",
            fields={"source": source.name},
        )
