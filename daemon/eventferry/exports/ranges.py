"""A range in words for people: days where it is whole days, in the zone that it was asked for in."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from eventferry import clock
from eventferry.query.zones import named_zone

_LAST_MS = 253_402_300_799_999


def range_text(start_ms: int | None, end_ms: int | None, asked: Mapping[str, Any]) -> str:
    """2 Jan 2026 – 4 Jan 2026 UTC: the range in the zone that it was asked for in, days where it is whole days."""
    if start_ms is None and end_ms is None:
        return "All events"
    zone, name = _zone(asked.get("timezone"))
    start, end = (None if ms is None else _local(ms, zone) for ms in (start_ms, end_ms))
    if _is_midnight(start) and _is_midnight(end):
        if start is None or end is None:
            return f"{'Before' if start is None else 'Since'} {_day(start or end)} {name}"
        last = end - dt.timedelta(days=1)
        return f"{_days(start, last)} {name}"
    if start is None or end is None:
        return f"{'Before' if start is None else 'Since'} {_moment(start or end)} {name}"
    if start.date() == end.date() and start.utcoffset() == end.utcoffset():
        return f"{_moment(start)} – {_time(end)} {name}"
    return f"{_moment(start)} – {_moment(end)} {name}"


def _days(first: dt.datetime, last: dt.datetime) -> str:
    if first.date() >= last.date():
        return _day(first)
    if first.year != last.year:
        return f"{_day(first)} – {_day(last)}"
    if first.month != last.month:
        return f"{first.day} {first:%b} – {_day(last)}"
    return f"{first.day} – {_day(last)}"


def _day(moment: dt.datetime | None) -> str:
    assert moment is not None
    return f"{moment.day} {moment:%b} {moment.year}"


def _moment(moment: dt.datetime | None) -> str:
    assert moment is not None
    return f"{_day(moment)}, {_time(moment)}"


def _time(moment: dt.datetime) -> str:
    return f"{moment:%H:%M:%S}" if moment.second else f"{moment:%H:%M}"


def _is_midnight(moment: dt.datetime | None) -> bool:
    return moment is None or moment.time() == dt.time()


def _local(ms: int, zone: dt.tzinfo) -> dt.datetime:
    try:
        return clock.from_ms(min(max(ms, 0), _LAST_MS)).astimezone(zone)
    except OverflowError:  # the very last hours of the calendar, east of Greenwich
        return clock.from_ms(_LAST_MS)


def _zone(asked: object) -> tuple[dt.tzinfo, str]:
    """The zone and its name; offsets, which some dialects take, are shown in UTC."""
    try:
        return (clock.UTC, "UTC") if not isinstance(asked, str) else (named_zone(asked), asked)
    except ValueError:
        return clock.UTC, "UTC"
