"""The composition root: configuration in, working parts out; nobody else wires."""

import datetime as dt
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from eventferry.alerts.channels import Channel, make_channel
from eventferry.alerts.giving_up import give_up
from eventferry.alerts.outbox import Outbox, OutboxSettings
from eventferry.alerts.policy import ChannelRule
from eventferry.config import Config, SinkConfig, SourceConfig, load, redactor
from eventferry.errors import ConfigError, LedgerBrokenError
from eventferry.execution import make_executor
from eventferry.exports.bucket import require_boto3
from eventferry.exports.desk import Desk
from eventferry.ledger import Ledger, alerts, log, open_ledger, sinks, sources
from eventferry.ledger.lock import is_owned as is_owned
from eventferry.ledger.lock import own_state as own_state
from eventferry.ledger.sinks import SinkRow
from eventferry.logs import get_logger, set_redactor
from eventferry.pipeline import source as source_at_work
from eventferry.pipeline.index import Indexer
from eventferry.pipeline.material import Limits
from eventferry.pipeline.record import Rules, hold
from eventferry.pipeline.setup import SinkSetup
from eventferry.pipeline.source import Source
from eventferry.query import Transform
from eventferry.sink import Sink
from eventferry.sink.registry import load_sink_type, make_sink

if TYPE_CHECKING:
    from eventferry.alerts.channels.smtp import SmtpOptions

logger = get_logger()


def load_config(path: Path) -> Config:
    """The checked configuration; its secrets are kept out of the log from now on. Raises ConfigError."""
    set_redactor(redactor.redact)
    return load(path, make_channel=make_channel)


def ledger_path(config: Config) -> Path:
    """Where the SQLite ledger lies."""
    return Path(config.ledger_url.removeprefix("sqlite:///"))


def open_own_ledger(config: Config) -> Ledger:
    """The ledger, migrated if need be: for the daemon alone, which holds the lock. Raises LedgerError."""
    ledger = open_ledger(ledger_path(config), migrate=True)
    end_where_broken(ledger, config)
    return ledger


def end_where_broken(ledger: Ledger, config: Config) -> None:
    """Have the process end, and the channels of this configuration told, where a commit cannot be made durable."""

    def end(error: LedgerBrokenError) -> None:
        give_up(error, lambda: alert_parts(config)[0].values(), config.state_dir, config.instance)

    ledger.on_broken = end


def open_existing_ledger(config: Config) -> Ledger:
    """The ledger as it is, for the command line. Raises LedgerError."""
    return open_ledger(ledger_path(config), migrate=False)


def is_anybody_listening(config: Config) -> bool:
    """Whether somebody wants events: without an enabled sink or the pull side nothing is even listed."""
    return config.enabled and (config.pull.enabled or any(sink.enabled for sink in config.sinks))


def check_identities(ledger: Ledger, config: Config) -> None:
    """Refuse names that the ledger does not know once it is in use. Raises ConfigError with every mistake."""
    problems: list[str] = []
    with ledger.read() as tx:
        if log.head(tx) == 0:
            return
        known_sources, known_sinks = sources.source_names(tx), {row.name: row.id for row in sinks.all_sinks(tx)}
        for source in config.sources:
            problems += _identity_problem("sources", source, known_sources, "")
        for sink in config.sinks:
            events = log.events_of(tx, [id_ for name, id_ in known_sources.items() if sink.takes(name)])
            cost = f" (from the earliest event on it would be sent {events:,} events)"
            problems += _identity_problem("sinks", sink, known_sinks, cost)
    if problems:
        raise ConfigError(*problems)


def _identity_problem(
    table: str, entry: SourceConfig | SinkConfig, known: Mapping[str, int], cost: str
) -> Iterator[str]:
    if entry.name in known or entry.says_start or entry.renamed_from in known:
        return
    where = f"{table}.{entry.name}"
    if entry.renamed_from:
        yield f"{where}.renamed_from: {entry.renamed_from!r} is not known to this ledger either; say start instead"
    else:
        yield (
            f"{where}: this ledger is in use and does not know this name{cost}; "
            f'say start = "latest", "earliest" or a date, or renamed_from = "…" if it had another name'
        )


def build_sources(ledger: Ledger, config: Config) -> dict[str, Source]:
    """Every enabled source, registered in the ledger. Raises ConfigError."""
    return {each.name: source_at_work.register(ledger, each) for each in config.sources if each.enabled}


def build_sinks(ledger: Ledger, config: Config, at_work: Mapping[str, Source]) -> dict[str, SinkSetup]:
    """Every enabled sink, registered in the ledger with its cursors. Raises ConfigError."""
    wanted = [each for each in config.sinks if each.enabled and config.enabled]
    made = {each.name: _build_sink(ledger, config, each, at_work) for each in wanted}
    with ledger.write() as tx:
        gone_sinks = {row.name for row in sinks.all_sinks(tx)} - set(made)
        gone_sources = set(sources.source_names(tx)) - set(at_work)
        sinks.disable_sinks_except(tx, set(made))
        for subject, names in (("sink", gone_sinks), ("source", gone_sources)):
            alerts.close_conditions_of(tx, subject, names, "it is no longer configured or switched off")
    return made


def _build_sink(ledger: Ledger, config: Config, settings: SinkConfig, at_work: Mapping[str, Source]) -> SinkSetup:
    sink_type = load_sink_type(settings.type)
    options = options_of(settings, sink_type)
    make_sink(settings.type, settings.name, options)  # checks the options now, not at the first batch
    taken = tuple(source for name, source in at_work.items() if settings.takes(name))
    with ledger.write() as tx:
        row = sinks.register_sink(
            tx,
            settings.name,
            settings.type,
            pinned_ms=_ms(settings.pinned_for),
            renamed_from=settings.renamed_from,
        )
        missing = [source for source in taken if sinks.cursor_of(tx, row.id, source.id) is None]
    for source in missing:
        start = source_at_work.start_of(ledger, source.id, settings.start_of(source.name))
        with ledger.write() as tx:
            sinks.start_cursor(tx, row.id, source.id, start)
    limits = sink_type.limits
    rules = Rules(
        sink_id=row.id,
        name=row.name,
        identity=row.identity,
        retry_first=settings.retry.first.total_seconds(),
        retry_max=settings.retry.max.total_seconds(),
        probe_ms=_ms(settings.probe),
        max_dead_bytes=config.dead_letters.max_size,
    )
    transform = settings.transform()
    with ledger.write() as tx:
        _adopt_transform(tx, rules, row, transform)
    return SinkSetup(
        id=row.id,
        name=row.name,
        identity=row.identity,
        type=settings.type,
        make=partial(make_sink, settings.type, settings.name, options),
        transform=transform,
        limits=Limits(
            max_events=settings.batch.max_events or limits.max_events,
            max_bytes=settings.batch.max_bytes or limits.max_bytes,
            max_read=settings.batch.max_read,
        ),
        rules=rules,
        concurrency=min(settings.concurrency, sink_type.max_concurrency),
        timeout=settings.timeout.total_seconds(),
        max_wait_ms=_ms(settings.batch.max_wait),
        sources=taken,
        fingerprint=settings.fingerprint(),
    )


def options_of(settings: SinkConfig, sink_type: type[Sink[Any]]) -> dict[str, Any]:
    """The type's own options; one that bounds its calls itself learns the deadline, to answer just before it."""
    if "timeout" not in sink_type.Options.model_fields:
        return dict(settings.options)
    return {**settings.options, "timeout": f"{settings.timeout.total_seconds() * 0.95:.3f}s"}


def _adopt_transform(tx: sa.Connection, rules: Rules, row: SinkRow, transform: Transform) -> None:
    """New batches are cut under the new transform; attempted ones keep theirs, unless the new one hides more."""
    fingerprint = transform.fingerprint()
    sinks.remember_transform(tx, fingerprint, transform.as_json())
    if row.transform == fingerprint:
        return
    under_way = (Transform.from_json(sinks.recall_transform(tx, each)) for each in sinks.open_transforms(tx, row.id))
    plain = Transform.from_json(transform.as_json())  # a changed salt is met, and named, when its batch is sent again
    if any(plain.hides_more_than(each) for each in under_way):
        hold(
            tx,
            rules,
            "its configuration now hides more than batches that were already attempted contain; either "
            f"`eventferry resume {rules.name}` sends them as they were, or go back to the old redaction for now",
            probe=False,  # a probe would send what must not be seen
        )
    sinks.set_transform(tx, row.id, fingerprint)


def build_executor(config: Config) -> Executor:
    """The processes that index."""
    return make_executor(config.execution.processes)


def build_indexer(ledger: Ledger, config: Config) -> Indexer:
    """What indexes new files."""
    return Indexer(ledger, partial(make_executor, config.execution.processes), config.execution.processes)


def build_outbox(ledger: Ledger, config: Config) -> Outbox:
    """What sends the alerts. Raises ConfigError."""
    channels, settings = alert_parts(config)
    return Outbox(ledger, channels, settings)


def alert_parts(config: Config) -> tuple[dict[str, Channel[Any]], OutboxSettings]:
    """The channels with the rules of who wants what."""
    table = config.alerts
    channels = {each.name: make_channel(each.type, each.name, each.options) for each in table.channels}
    rules = {
        each.name: ChannelRule(level=each.level, events=each.events, max_per_hour=table.max_per_hour)
        for each in table.channels
    }
    settings = OutboxSettings(
        instance=config.instance, host=socket.gethostname(), rules=rules, repeat_every_ms=_ms(table.repeat_every)
    )
    return channels, settings


def build_desk(ledger: Ledger, config: Config) -> Desk:
    """Where exports are asked for: the same in the daemon and in the server. Raises ConfigError."""
    from eventferry.access.keyring import Keyring

    if config.exports.bucket_spec() is not None:
        require_boto3()
    return Desk(
        ledger=ledger,
        settings=config.exports,
        state_dir=config.state_dir,
        base_url=config.api.base_url,
        keyring=Keyring(config.state_dir),
        mail=_mail_of(config),
        instance=config.instance,
        console=f"{config.api.base_url}/console/exports" if config.api.console else None,
    )


def _mail_of(config: Config) -> "SmtpOptions | None":
    """How letters about exports leave: through the channel named for it, else the first one that sends e-mail."""
    through = config.exports.mail_through
    for each in config.alerts.channels:
        if each.type == "email" and through in (None, each.name):
            options: SmtpOptions = make_channel(each.type, each.name, each.options).options
            return options
    return None


def _ms(span: dt.timedelta) -> int:
    return int(span.total_seconds() * 1000)


def check_roots(ledger: Ledger, config: Config) -> None:
    """Refuse a source whose store was moved silently, before anything is changed. Raises ConfigError."""
    problems: list[str] = []
    with ledger.read() as tx:
        for source in config.sources:
            known = sources.get_source(tx, source.name)
            if known is None or not source.enabled:
                continue
            try:
                sources.check_root(tx, known, source_at_work.root_of(source), source.moved_from)
            except ConfigError as error:
                problems += error.problems
    if problems:
        raise ConfigError(*problems)


def why_idle(config: Config) -> str:
    """Why nothing is listed, and what to do about it."""
    if not config.enabled:
        return "enabled = false; nothing is listed until it is true"
    if not any(sink.enabled for sink in config.sinks) and not config.pull.enabled:
        return "no sink is enabled; nothing is listed until one is added"
    return "no source is enabled; add one under [[sources]]"
