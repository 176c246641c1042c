"""Numbers, times and ranges in the form in which the pages show them: times in UTC, and saying so."""

import datetime as dt

from eventferry import clock
from eventferry.alerts.phrases import size
from eventferry.exports.ranges import range_text

__all__ = ["ahead", "at", "count", "iso", "lasting", "range_text", "size"]

_STEPS = ((86_400, "day"), (3600, "hour"), (60, "minute"))


def count(number: int) -> str:
    """1,204,310."""
    return f"{number:,}"


def iso(ms: int) -> str:
    """For programs: 2026-11-21T10:42:00Z."""
    return clock.from_ms(ms).strftime("%Y-%m-%dT%H:%M:%SZ")


def at(ms: int) -> str:
    """21 Nov, 10:42 UTC; with the year where it is not this one."""
    moment = clock.from_ms(ms)
    day = f"{moment.day} {moment:%b}" if moment.year == clock.now().year else f"{moment.day} {moment:%b} {moment.year}"
    return f"{day}, {moment:%H:%M} UTC"


def ahead(ms: int) -> str:
    """How long until then: in 6 days."""
    seconds = (ms - clock.now_ms()) / 1000
    for length, name in _STEPS:
        if seconds >= length:
            number = round(seconds / length)
            return f"in {number} {name}{'' if number == 1 else 's'}"
    return "in less than a minute" if seconds > 0 else "now"


def lasting(span: dt.timedelta) -> str:
    """7 days."""
    seconds = span.total_seconds()
    length, name = next((each for each in _STEPS if seconds >= each[0]), _STEPS[-1])
    number = max(1, round(seconds / length))
    return f"{number} {name}{'' if number == 1 else 's'}"
