"""Time zones of requests, and where their calendar days begin."""

import datetime as dt
import re
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from eventferry.query.problems import meant, shown

_MIN_OFFSET, _MAX_OFFSET = -12 * 3600, 14 * 3600  # the zones of the world lie within
_SECOND = dt.timedelta(seconds=1)


def named_zone(name: object) -> dt.tzinfo:
    """The zone of an IANA name such as Europe/Berlin. Raises ValueError with what is wrong."""
    if not isinstance(name, str):
        raise ValueError(f'{shown(name)} is not a time zone; write a name such as "Europe/Berlin"')
    try:
        if re.fullmatch(r"[A-Za-z0-9_+-]{1,32}(/[A-Za-z0-9_+-]{1,32}){0,2}", name):
            return ZoneInfo(name)
    except (OSError, ValueError):  # a folder or another file among the zones
        pass
    except KeyError:
        close = meant(name, _names())
        raise ValueError(f"{shown(name)} is not a time zone{close or '; write a name such as Europe/Berlin'}") from None
    raise ValueError(f"{shown(name)} is not a time zone; write a name such as Europe/Berlin")


def zone_of_seconds(data: object) -> dt.tzinfo:
    """The zone of an offset in whole seconds, as number or text, or of a name. Raises ValueError."""
    if isinstance(data, str) and re.fullmatch(r"[+-]?[0-9]{1,6}", data):
        data = int(data)
    if isinstance(data, int) and not isinstance(data, bool):
        return _fixed(data, f"{shown(data)} is no offset in seconds")
    return named_zone(data)


def zone_of_hours(data: object) -> dt.tzinfo:
    """The zone of an offset in hours, such as 9.5, or of a name. Raises ValueError."""
    if isinstance(data, int | float) and not isinstance(data, bool):
        inside = abs(data) < 100  # false for NaN, too
        return _fixed(round(data * 3600) if inside else _MAX_OFFSET + 1, f"{shown(data)} is no offset in hours")
    return named_zone(data)


def instant(local: dt.datetime, zone: dt.tzinfo) -> dt.datetime:
    """The first instant, in UTC, at which the clocks of the zone show this local time or, where it is left out, more.

    `local` is naive. Raises OverflowError at the ends of the calendar.
    """
    before, after = (local.replace(tzinfo=zone, fold=fold).utcoffset() or dt.timedelta() for fold in (0, 1))
    if before >= after:  # shown once, or twice: the first
        return (local - before).replace(tzinfo=dt.UTC)
    low, high = ((local - offset).replace(tzinfo=dt.UTC) for offset in (after, before))
    while high - low > _SECOND:  # left out: clocks go forward somewhere in (low, high]
        middle = low + (high - low) // 2 // _SECOND * _SECOND
        low, high = (middle, high) if middle.astimezone(zone).utcoffset() == before else (low, middle)
    return high


@cache
def _names() -> frozenset[str]:
    return frozenset(available_timezones())


def _fixed(seconds: int, fault: str) -> dt.tzinfo:
    if not _MIN_OFFSET <= seconds <= _MAX_OFFSET:
        raise ValueError(f"{fault}; offsets lie between -12 and 14 hours")
    return dt.timezone(dt.timedelta(seconds=seconds))
