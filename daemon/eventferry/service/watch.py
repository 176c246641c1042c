"""Silence is a fault: what nobody else would notice is looked for here, and said."""

from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from eventferry import clock
from eventferry.alerts import ChannelError
from eventferry.alerts.ping import ping
from eventferry.ledger import Ledger, alerts, books, sinks, sources
from eventferry.ledger.books import Backlog
from eventferry.logs import get_logger
from eventferry.pipeline.deliver import SinkWorker
from eventferry.pipeline.ending import alert_stopped_again
from eventferry.pipeline.setup import SinkSetup
from eventferry.pipeline.sink_alerts import alert_again
from eventferry.pipeline.source import Source

logger = get_logger()

# So much longer than two intervals may the last run of a source be over before the ping is withheld.
GRACE_MS = 600_000


def follow(ledger: Ledger, at_work: Mapping[str, Source], setups: Mapping[str, SinkSetup]) -> None:
    """End the alerts about what is switched off, once nobody works on it; tell anew what lasts of what is at work."""
    with ledger.write() as tx:
        off = {"sink": {row.name for row in sinks.all_sinks(tx)} - set(setups)}
        off["source"] = set(sources.source_names(tx)) - set(at_work)
        for subject, names in off.items():
            alerts.close_conditions_of(tx, subject, names, "it is no longer configured or switched off")
        for source in at_work.values():
            alert_stopped_again(tx, source.name, source.id)
        for setup in setups.values():
            alert_again(tx, setup.id)


def alert_stuck(tx: sa.Connection, workers: dict[str, SinkWorker]) -> None:
    """Say which sinks are stuck, and which are no longer."""
    for name, worker in workers.items():
        if not worker.is_stuck:
            alerts.close_condition(tx, f"sink.stuck:{name}", subject=f"Calls of sink {name} come back again")
            continue
        alerts.open_condition(
            tx,
            cause=f"sink.stuck:{name}",
            level="error",
            event="sink.stuck",
            subject=f"Sink {name} is stuck: a call never returns",
            detail=f"Calls outlasted their deadline of {worker.setup.timeout:g} s, or a read of the store hangs.",
            command="systemctl restart eventferry",
            fields={"sink": name},
        )


def alert_behind(ledger: Ledger, names: list[str], limit_ms: int) -> None:
    """Say which sinks lack events that came in long ago."""
    with ledger.read() as tx:
        found = books.backlogs(tx)
    with ledger.write() as tx:
        for name in names:
            _alert_behind(tx, name, [each for each in found if each.sink == name], limit_ms)


def _alert_behind(tx: sa.Connection, name: str, found: list[Backlog], limit_ms: int) -> None:
    since = min((each.since_ms for each in found if each.since_ms is not None), default=None)
    lag_ms = 0 if since is None else clock.now_ms() - since
    if lag_ms < limit_ms:
        alerts.close_condition(tx, f"sink.behind:{name}", subject=f"Sink {name} is behind no more")
        return
    events = sum(each.events for each in found)
    alerts.open_condition(
        tx,
        cause=f"sink.behind:{name}",
        level="error",
        event="sink.behind",
        subject=f"Sink {name} is behind: it lacks events that came in long ago",
        command=f"eventferry status --sink {name}",
        fields={"sink": name, "lag_seconds": lag_ms // 1000, "backlog_events": events},
    )


def _is_overdue(tx: sa.Connection, source: Source) -> bool:
    """Whether no run of the source came to its end for two intervals and some; a cron's rhythm is not judged."""
    if source.settings.cron is not None:
        return False
    last_ms = sources.last_finished_ms(tx, source.id)
    limit_ms = int((2 * source.settings.interval + source.settings.jitter).total_seconds() * 1000) + GRACE_MS
    return last_ms is None or clock.now_ms() - last_ms > limit_ms


def ping_if_well(ledger: Ledger, url: str, resting: Iterable[Source] = ()) -> None:
    """A dead man's switch: only progress that was verified is reported, and an open error is none.

    `resting` are the sources at work without a run under way: each must have come to the end of one lately.
    """
    with ledger.read() as tx:
        troubled = any(each.level == "error" for each in alerts.open_conditions(tx))
        overdue = [source.name for source in resting if _is_overdue(tx, source)]
    if overdue:
        logger.warning("ping.withheld", overdue=overdue)
    if troubled or overdue:
        return
    try:
        ping(url)
    except ChannelError as error:
        logger.warning("ping.failed", error=str(error))
