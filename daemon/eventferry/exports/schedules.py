"""Fires the schedules of the configuration: each planned time once, also over restarts; of missed ones the latest."""

import datetime as dt
from collections.abc import Sequence
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

from eventferry import clock
from eventferry.config.cron import check_cron
from eventferry.config.pull import ScheduleConfig
from eventferry.exports import requests
from eventferry.exports.desk import Desk
from eventferry.exports.ending import schedule_cause
from eventferry.exports.model import PART_BYTES, Output, Selection
from eventferry.exports.refusals import NotPossible
from eventferry.exports.wanted import Notify, Wanted
from eventferry.ledger import alerts, export_schedules
from eventferry.logs import get_logger
from eventferry.query import parse_filter, split_path
from eventferry.query.scope import Scope
from eventferry.query.timeframe import parse_native

# How far back the latest planned time is looked for: first where it most likely is.
_BACK = tuple(dt.timedelta(days=days) for days in (1 / 24, 1, 8, 32, 367, 8 * 366 + 1))

logger = get_logger()


def fire_due(desk: Desk) -> list[str]:
    """Queue an export for each schedule whose time has come; their names. Call it every few seconds."""
    enabled = [each for each in desk.settings.schedules if each.enabled]
    _forget_others(desk, enabled)
    return [each.name for each in enabled if _fire(desk, each)]


def latest_planned(cron: str, timezone: str, after: dt.datetime, until: dt.datetime) -> dt.datetime | None:
    """The last time, after `after` and not after `until`, that a cron expression plans; None where there is none.

    A time that clocks leave out is the first one after them; of one that they show twice the first counts, unless
    the expression is for every hour or every few.
    """
    trigger = CronTrigger.from_crontab(check_cron(cron), timezone=ZoneInfo(timezone))
    for back in _BACK:
        start = max(after, until - back)
        found: dt.datetime | None = None
        moment = _next(trigger, start)
        while moment is not None and moment <= until:
            if not moment.fold or cron.split()[1].startswith("*"):
                found = moment
            moment = _next(trigger, moment)
        if found is not None:
            return found.astimezone(clock.UTC)
        if start > until - back:
            return None
    return None


def _next(trigger: CronTrigger, after: dt.datetime) -> dt.datetime | None:
    # In UTC: local times are added up without regard to clock changes, and would come to the same moment for ever.
    since = after.astimezone(clock.UTC) + dt.timedelta(seconds=1)
    found: dt.datetime | None = trigger.get_next_fire_time(None, since)
    return found


def wanted_of(schedule: ScheduleConfig, planned: dt.datetime, part_bytes: int | None = PART_BYTES) -> Wanted:
    """The export that the schedule asks for at that time; its timeframe is relative to the planned time."""
    range_ = parse_native(schedule.timeframe, schedule.timezone, planned)
    output = Output(
        format=schedule.format,
        compression=schedule.compression,
        part_bytes=part_bytes,
        formula_guard=schedule.formula_guard and schedule.format == "csv",
        fields=tuple(split_path(each) for each in schedule.fields),
    )
    scope = Scope(schedule.tenants, schedule.projects, schedule.collections)
    return Wanted(
        Selection(scope, parse_filter(schedule.filter), range_.start_ms, range_.end_ms),
        output,
        asked={"filter": schedule.filter, "timeframe": schedule.timeframe, "timezone": schedule.timezone},
        notify=Notify(schedule.email, schedule.webhook),
        name=schedule.name,
        dialect="schedule",
        schedule=schedule.name,
    )


def _fire(desk: Desk, schedule: ScheduleConfig) -> bool:
    now, rhythm = clock.now(), f"{schedule.cron} {schedule.timezone}"
    with desk.ledger.read() as tx:
        last = export_schedules.fired_ms(tx, schedule.name, rhythm)
    if last is None or last > clock.to_ms(now):  # it is new, or the clock was wrong when it fired
        with desk.ledger.write() as tx:
            export_schedules.note_fired(tx, schedule.name, rhythm, clock.to_ms(now))
        return False
    planned = latest_planned(schedule.cron, schedule.timezone, clock.from_ms(last), now)
    if planned is None:
        return False
    try:
        with desk.ledger.write() as tx:
            export_schedules.note_fired(tx, schedule.name, rhythm, clock.to_ms(planned))
            requests.create_scheduled(desk, tx, wanted_of(schedule, planned, desk.settings.part_size))
    except NotPossible as error:
        _tell_refused(desk, schedule, rhythm, planned, str(error))
        return False
    logger.info("schedule.fired", schedule=schedule.name, planned=planned.isoformat())
    return True


def _tell_refused(desk: Desk, schedule: ScheduleConfig, rhythm: str, planned: dt.datetime, reason: str) -> None:
    """It cannot be done as it is configured: that is said once, not every few seconds."""
    with desk.ledger.write() as tx:
        export_schedules.note_fired(tx, schedule.name, rhythm, clock.to_ms(planned))
        alerts.open_condition(
            tx,
            cause=schedule_cause(schedule.name),
            level="error",
            event="export.failed",
            subject=f"The scheduled export {schedule.name} cannot be made",
            detail=reason,
            command="eventferry check",
        )


def _forget_others(desk: Desk, enabled: Sequence[ScheduleConfig]) -> None:
    """Schedules that are gone or switched off: one that comes back begins anew, and nobody waits for its success."""
    with desk.ledger.read() as tx:
        gone = export_schedules.names(tx) - {each.name for each in enabled}
    for name in gone:
        with desk.ledger.write() as tx:
            export_schedules.forget(tx, name)
            told = f"No longer followed, the schedule {name} being switched off or not configured"
            alerts.close_condition(tx, schedule_cause(name), subject=told, proven=False)
