"""Collects what `status` shows: one dictionary, the same for people and programs."""

import contextlib
import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from eventferry import app, clock
from eventferry.cli.place import Place
from eventferry.cli.unreadable import not_readable_yet
from eventferry.cli.wording import iso
from eventferry.config import Config, SourceConfig
from eventferry.errors import ConfigError, UsageError
from eventferry.ledger import Ledger, alerts, batches, books, export_counts, facts, sink_counts, sinks, sources
from eventferry.ledger.books import Backlog, SinkBooks, SourceBooks
from eventferry.ledger.database import get_meta
from eventferry.ledger.sinks import SinkRow
from eventferry.service.reload import digest_of, get_loaded

# The daemon says every 10 s that it moves.
SILENT_MS = 60_000
DAY_MS = 86_400_000

NONE_DEAD = books.DeadParts(0, 0, 0, 0, 0)

Entry = dict[str, Any]


def collect(ledger: Ledger, place: Place, config: Config | None, source: str | None, sink: str | None) -> Entry:
    """Everything that `eventferry status --json` prints. Times are ISO 8601 in UTC; nothing is null but the unknown."""
    running = app.is_owned(place.state_dir)
    with ledger.read() as tx:
        found: Entry = {
            "daemon": _daemon(tx, place, running),
            "config": _config(tx, place, is_readable=config is not None),
            "sources": _sources(tx, config, running),
            "sinks": _sinks(tx, config),
            "channels": _channels(tx, config),
            "exports": _exports(tx, config),
            "problems": _problems(tx),
        }
    found["idle"] = None if config is None or not _is_idle(config) else app.why_idle(config)
    found["balanced"] = all(each["balanced"] for each in (*found["sources"], *found["sinks"]))
    found["needs_attention"] = _needs_attention(found)
    found["sources"] = _only(found["sources"], source, "source")
    found["sinks"] = _only(found["sinks"], sink, "sink")
    found["ledger"] = str(place.ledger)
    return found


def _is_idle(config: Config) -> bool:
    return not app.is_anybody_listening(config) or not any(each.enabled for each in config.sources)


def _only(entries: list[Entry], name: str | None, what: str) -> list[Entry]:
    chosen = [each for each in entries if name in (None, each["name"])]
    if name is not None and not chosen:
        known = ", ".join(each["name"] for each in entries) or "none"
        raise UsageError(f"there is no {what} {name!r} in the ledger; known are: {known}")
    return chosen


def _daemon(tx: sa.Connection, place: Place, running: bool) -> Entry:
    heartbeat, stopped = get_meta(tx, "heartbeat_ms"), get_meta(tx, "stopped_ms")
    lock = place.state_dir / "eventferry.lock"
    since = pid = None
    if running:
        with contextlib.suppress(OSError, ValueError):
            since = int(lock.stat().st_mtime * 1000)  # its holder wrote its number into it when it began
            pid = int(lock.read_text())
    silent = running and heartbeat is not None and clock.now_ms() - max(heartbeat, since or 0) > SILENT_MS
    died = not running and heartbeat is not None and (stopped is None or stopped < heartbeat)
    state = ("silent" if silent else "running") if running else ("died" if died else "stopped")
    return {"state": state, "pid": pid, "since": iso(since), "heartbeat": iso(heartbeat), "stopped": iso(stopped)}


def _config(tx: sa.Connection, place: Place, *, is_readable: bool) -> Entry:
    """Which edit is at work: loaded, edited (not loaded yet), refused; unknown or broken where no daemon ever ran."""
    loaded = get_loaded(tx)
    entry: Entry = {"path": str(place.config), "state": "unknown", "loaded": None, "edited": None, "problems": []}
    if loaded is None or not loaded.loaded_ms:
        if not is_readable:
            entry["state"] = "broken"
        return entry
    now = digest_of(place.config)
    entry["loaded"] = iso(loaded.loaded_ms)
    with contextlib.suppress(OSError):
        entry["edited"] = iso(int(place.config.stat().st_mtime * 1000))
    if Path(loaded.path) != place.config:
        entry["state"], entry["other_path"] = "other", loaded.path
    elif now == loaded.digest:
        entry["state"] = "loaded"
    elif now == loaded.refused_digest:
        entry["state"], entry["problems"] = "refused", loaded.problems
    else:
        entry["state"] = "edited" if is_readable else "broken"
    return entry


def _sources(tx: sa.Connection, config: Config | None, running: bool) -> list[Entry]:
    configured = {each.name: each for each in config.sources} if config else {}
    kept: Mapping[str, SourceBooks] = {each.source: each for each in books.source_books(tx)}
    listens = config is not None and app.is_anybody_listening(config)
    entries = []
    for each in facts.sources_with_runs(tx):
        settings, book, run = configured.get(each.name), kept[each.name], each.last_run
        next_run = _next_run(settings, run) if running and listens else None
        last_run = None
        if run is not None:
            last_run = {name: getattr(run, name) for name in facts.Run.__slots__ if not name.endswith("_ms")}
            last_run |= {"started": iso(run.started_ms), "finished": iso(run.finished_ms)}
        entries.append(
            {
                "name": each.name,
                "root": each.root,
                "configured": config is None or settings is not None,
                "enabled": settings.enabled if settings else None,
                "last_run": last_run,
                "next_run": None if next_run is None else iso(clock.to_ms(next_run)),
                "files": book.files,
                "lines": book.lines,
                "events": book.events,
                "bad": book.bad,
                "blank": book.blank,
                "untimed": book.untimed,
                "bytes": book.bytes,
                "states": book.states,
                "quarantined": book.states.get("quarantined", 0),
                "held": book.states.get("held", 0),
                "unreadable": len(not_readable_yet(tx, each.id)),  # tried again by later runs
                "foreign_keys": each.foreign_keys,
                "relisted": iso(each.relisted_ms),
                "balanced": book.balance,
            }
        )
    return entries


def _next_run(settings: SourceConfig | None, run: facts.Run | None) -> dt.datetime | None:
    if settings is None or not settings.enabled or run is None or run.finished_ms is None:
        return None
    last = clock.from_ms(run.finished_ms)
    if settings.scheduler_cron is not None:
        from apscheduler.triggers.cron import CronTrigger

        trigger = CronTrigger.from_crontab(settings.scheduler_cron, timezone=ZoneInfo(settings.timezone))
        found: dt.datetime | None = trigger.get_next_fire_time(None, clock.now())
        return found
    return last if settings.catch_up and run.limited else last + settings.interval


def _sinks(tx: sa.Connection, config: Config | None) -> list[Entry]:
    letters, errors = facts.waiting_letters(tx), facts.waiting_errors(tx)
    kept, lacks, dead = books.sink_books(tx), books.backlogs(tx), books.dead_parts(tx)
    configured = None if config is None else {each.name for each in config.sinks}
    found = []
    for row in sinks.all_sinks(tx):
        entry = _sink(row, kept, lacks, letters.get(row.id, 0), errors.get(row.id), _next_try(tx, row))
        entry["dead_parts"] = asdict(dead.get(row.name, NONE_DEAD))
        entry["counts"] = [
            {"what": each.what, "of": each.of, "number": each.number, "last": iso(each.counted_ms)}
            for each in sink_counts.counts_of(tx, row.id)
        ]
        entry["configured"] = configured is None or row.name in configured
        found.append(entry)
    return found


def _channels(tx: sa.Connection, config: Config | None) -> list[Entry]:
    """How the last sends of each channel went; those that are not configured any more are left out."""
    known = {each.channel: each for each in facts.channels(tx)}
    names = list(known) if config is None else [each.name for each in config.alerts.channels]
    return [
        {
            "name": name,
            "failing": found.failing,
            "waiting": found.waiting,
            "given_up": found.given_up,
            "error": found.error if found.failing else None,
            "last_sent": iso(found.sent_ms),
        }
        for name in names
        for found in [known.get(name) or facts.ChannelFacts(name, False, 0, 0, None, None)]
    ]


def _next_try(tx: sa.Connection, row: SinkRow) -> int | None:
    """When the sink is tried next after a failure; None where it did not fail, or nobody tries it."""
    if row.state != "active":
        return row.probe_ms if row.state == "held" else None
    left = batches.open_batches(tx, row.id, list(sources.source_names(tx).values()), limit=1000)
    return min((each.next_ms for each in left if each.state == "waiting" and each.error), default=None)


def _sink(
    row: SinkRow,
    kept: Iterable[SinkBooks],
    lacks: Iterable[Backlog],
    letters: int,
    error: str | None,
    next_try_ms: int | None,
) -> Entry:
    own = [each for each in kept if each.sink == row.name]
    lacked = [each for each in lacks if each.sink == row.name]
    since = min((each.since_ms for each in lacked if each.since_ms is not None), default=None)
    totals = ("indexed", "delivered", "filtered", "dead", "missing", "waiting")
    failing = row.state == "active" and (row.failures > 0 or error is not None)
    return {
        "name": row.name,
        "type": row.type,
        **_promise(row),
        "enabled": row.enabled,
        "state": row.state,
        "since": iso(row.since_ms),
        "reason": row.reason if row.state != "active" else (error if failing else None),
        "failures": row.failures,
        "failing": failing,  # what it answered last was no success; it is tried again by itself
        "next_try": iso(next_try_ms),
        "lag_seconds": 0 if since is None else max(0, clock.now_ms() - since) // 1000,
        "backlog_events": sum(each.events for each in lacked),
        "backlog_bytes": sum(each.bytes for each in lacked),
        **{name: sum(getattr(each, name) for each in own) for name in totals},
        "dead_letters": letters,
        "last_delivered": iso(row.delivered_ms),
        "sources": [each.source for each in own],
        "balanced": all(each.balance for each in own),
    }


def _promise(row: SinkRow) -> Entry:
    """What is promised of a repeat: by the type, or the less that its instance said of this place."""
    from eventferry.sink.registry import load_sink_type

    try:
        sink_type = load_sink_type(row.type)
    except ConfigError:  # it was uninstalled; `check` says so
        return {"guarantee": row.guarantee, "lowered": False, "experimental": False}
    declared = str(sink_type.guarantee)
    said = row.guarantee or declared  # nobody opened it yet
    return {"guarantee": said, "lowered": said != declared, "experimental": sink_type.experimental}


def _exports(tx: sa.Connection, config: Config | None) -> Entry | None:
    """The exports in figures, those that failed within a day; None where the pull side is off."""
    if config is None or not config.pull.enabled:
        return None
    return asdict(export_counts.counts(tx, clock.now_ms() - DAY_MS))


def _problems(tx: sa.Connection) -> list[Entry]:
    return [
        {
            "cause": each.cause,
            "level": each.level,
            "event": each.event,
            "subject": each.subject,
            "detail": each.detail,
            "command": each.command,
            "since": iso(each.opened_ms),
            "count": each.count,
        }
        for each in alerts.open_conditions(tx)
    ]


def _needs_attention(found: Entry) -> bool:
    return (
        found["daemon"]["state"] in ("died", "silent")
        or found["config"]["state"] == "refused"
        or not found["balanced"]
        or any(each["level"] == "error" for each in found["problems"])
        or any(each["enabled"] and (each["state"] == "held" or each["dead_letters"]) for each in found["sinks"])
        or any(each["failing"] for each in found["channels"])
        or any(each["quarantined"] or each["held"] for each in found["sources"])
    )
