"""Calendar periods: where the present one begins, and where those before it began."""

import datetime as dt

from eventferry.query.zones import instant

ELAPSED = {"minute": 60, "hour": 3600}  # seconds
MONTHS = {"month": 1, "quarter": 3, "year": 12}
UNITS = ("minute", "hour", "day", "week", "month", "quarter", "year")

_FIRST_YEAR = 1970


def begin_of(unit: str, ago: int, now: dt.datetime, zone: dt.tzinfo) -> dt.datetime:
    """The instant, in UTC, at which the period began that was `ago` periods before the one of `now` (0: that one).

    Minutes and hours are elapsed time; they begin where the zone's clocks, as they are set at `now`, show a full one.
    Days, weeks (from Sunday), months, quarters and years begin at local midnight, or at the first instant after it
    where clocks leave it out; at the first of two midnights. Raises ValueError before 1970.
    """
    try:
        begin = _elapsed(unit, ago, now, zone) if unit in ELAPSED else _calendar(unit, ago, now, zone)
    except OverflowError:
        begin = None
    if begin is None or begin.year < _FIRST_YEAR:
        raise ValueError("reaches back before 1970; no event is older")
    return begin


def begin_of_day(day: dt.date, zone: dt.tzinfo) -> dt.datetime:
    """The instant, in UTC, at which the day begins in the zone."""
    return instant(dt.datetime.combine(day, dt.time()), zone)


def _elapsed(unit: str, ago: int, now: dt.datetime, zone: dt.tzinfo) -> dt.datetime:
    seconds = ELAPSED[unit]
    local = now.astimezone(zone)
    into = local.replace(tzinfo=None) - dt.datetime.combine(local.date(), dt.time())
    return now.astimezone(dt.UTC) - into % dt.timedelta(seconds=seconds) - ago * dt.timedelta(seconds=seconds)


def _calendar(unit: str, ago: int, now: dt.datetime, zone: dt.tzinfo) -> dt.datetime | None:
    today = now.astimezone(zone).date()
    if unit == "day":
        return begin_of_day(today - dt.timedelta(days=ago), zone)
    if unit == "week":
        since_sunday = today.isoweekday() % 7
        return begin_of_day(today - dt.timedelta(days=since_sunday + 7 * ago), zone)
    length = MONTHS[unit]
    year, month = divmod((today.year * 12 + today.month - 1) // length * length - ago * length, 12)
    return None if year < _FIRST_YEAR - 1 else begin_of_day(dt.date(year, month + 1, 1), zone)
