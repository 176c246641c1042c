"""Turns the words and forms of timeframes, native and of the dialects, into a range of instants."""

import datetime as dt
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from eventferry.moments import EPOCH, LAST_MS
from eventferry.query.periods import UNITS, begin_of, begin_of_day
from eventferry.query.problems import QueryError, Where, meant, shown
from eventferry.query.zones import instant, named_zone, zone_of_hours, zone_of_seconds

MAX_PERIODS = 10_000

_MILLISECOND = dt.timedelta(milliseconds=1)
_FIELD: Where = ("timeframe",)
_ZONE: Where = ("timezone",)
_ISO = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?(Z|[+-]\d\d(:?\d\d)?)?)?", re.ASCII | re.IGNORECASE
)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_WORD = re.compile(r"(this|last|previous)_(?:(\d+)_)?([a-z]+)", re.ASCII)
_DAYS = {"today": ("this", "day"), "yesterday": ("previous", "day")}
_UNITS = {**{unit: unit for unit in UNITS}, **{unit + "s": unit for unit in UNITS}}


@dataclass(frozen=True, slots=True)
class Range:
    """From start (inclusive) to end (exclusive), epoch ms; None: open on that side."""

    start_ms: int | None = None
    end_ms: int | None = None


@dataclass(frozen=True, slots=True)
class _Words:
    """Which relative timeframes a dialect knows: its words by the number of periods back, and its units."""

    singles: Mapping[str, tuple[str, str]]  # "today" -> ("this", "day")
    counted: Mapping[str, tuple[str, ...]]  # "last" -> units that take a number; () where none does
    example: str
    objects: bool = False  # {"current": {unit: n}} and {"previous": {unit: n}}

    def known(self) -> str:
        """What may be written, for a message."""
        counted = [f"{kind}_N_<units>" for kind in self.counted]
        kinds = dict.fromkeys(word.partition("_")[0] + "_<unit>" for word in self.singles if "_" in word)
        units = dict.fromkeys(unit for _, unit in self.singles.values())
        return f"write {', '.join([*_DAYS, *kinds, *counted])}; units: {', '.join(units)}"


_KEEN2_UNITS = ("hour", "day", "week")
_KEEN3_UNITS = ("minute", "hour", "day", "week", "month", "year")


def _singles(kinds: tuple[str, ...], units: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    meaning = {"this": "this", "last": "previous", "previous": "previous"}
    return _DAYS | {f"{kind}_{unit}": (meaning[kind], unit) for kind in kinds for unit in units}


_CONNECT = {word: meaning for word, meaning in _singles(("this", "last"), UNITS).items() if not word.endswith("_day")}
_KEEN2_WORDS = _Words(_singles(("this", "last"), _KEEN2_UNITS), {"last": _KEEN2_UNITS}, "last_7_days")
_KEEN3_WORDS = _Words(
    _singles(("this", "last", "previous"), _KEEN3_UNITS),
    {"this": _KEEN3_UNITS, "previous": _KEEN3_UNITS, "last": _KEEN3_UNITS},
    "previous_7_days",
)
_CONNECT_WORDS = _Words(_CONNECT, {}, "this_week", objects=True)
_NATIVE_WORDS = _Words(
    _singles(("this", "last", "previous"), UNITS),
    {"this": UNITS, "previous": UNITS, "last": UNITS},
    "last_7_days",
    objects=True,
)


def parse_native(data: object, timezone: object, now: dt.datetime) -> Range:
    """The range of a native timeframe: any word of any dialect, {"current"|"previous": {unit: n}}, {"start", "end"}
    with one or both, a plain day; None: all time. `timezone` is an IANA name or None (UTC); times without an offset
    are in it. Raises QueryError whose places begin with timeframe or timezone.
    """
    zone = _zone(named_zone, timezone)
    if isinstance(data, str) and _DAY.fullmatch(data):
        day = _parse_day(data, _FIELD)
        return _as_range(begin_of_day(day, zone), begin_of_day(day + dt.timedelta(days=1), zone))
    if _is_absolute(data):
        return _parse_absolute(data, zone, both=False)
    return Range() if data is None else _parse_relative(data, _NATIVE_WORDS, zone, now)


def parse_keen2(data: object, now: dt.datetime) -> Range:
    """The range of a Keen 2.0 timeframe, in UTC; None: all time. Raises QueryError as parse_native does."""
    if _is_absolute(data):
        return _parse_absolute(data, dt.UTC, both=True)
    return Range() if data is None else _parse_relative(data, _KEEN2_WORDS, dt.UTC, now)


def parse_keen3(data: object, timezone: object, now: dt.datetime) -> Range:
    """The range of a Keen 3.0 timeframe; `timezone` is an offset in seconds, a name, or None (UTC). An absolute time
    without an offset is UTC, whatever the timezone. Raises QueryError as parse_native does.
    """
    zone = _zone(zone_of_seconds, timezone)
    if _is_absolute(data):
        return _parse_absolute(data, dt.UTC, both=True)
    return Range() if data is None else _parse_relative(data, _KEEN3_WORDS, zone, now)


def parse_connect(data: object, timezone: object, now: dt.datetime) -> Range:
    """The range of a Connect timeframe; `timezone` is an offset in hours, a name, or None (UTC), and goes with a
    relative timeframe only. Raises QueryError as parse_native does.
    """
    zone = _zone(zone_of_hours, timezone)
    absolute = _is_absolute(data)
    if timezone is not None and (data is None or absolute):
        raise QueryError([(_ZONE, "goes with a relative timeframe only, such as today; leave it out")])
    if absolute:
        return _parse_absolute(data, dt.UTC, both=False)
    return Range() if data is None else _parse_relative(data, _CONNECT_WORDS, zone, now)


def parse_instant(text: object, where: Where, zone: dt.tzinfo = dt.UTC) -> int:
    """Epoch milliseconds of an ISO 8601 time; without an offset it is in the zone, a plain day is its first instant.

    Fractions beyond milliseconds are cut off. Raises QueryError.
    """
    if not isinstance(text, str) or not _ISO.fullmatch(text):
        raise QueryError([(where, f'{shown(text)} is not an ISO 8601 time; write "2024-02-03T04:05:06Z"')])
    try:
        moment = dt.datetime.fromisoformat(text.upper())
        moment = instant(moment, zone) if moment.tzinfo is None else moment.astimezone(dt.UTC)
        ms = (moment - EPOCH) // _MILLISECOND
    except (ValueError, OverflowError):
        raise QueryError([(where, f"{shown(text)} does not exist")]) from None
    if not 0 <= ms <= LAST_MS:
        raise QueryError([(where, f"{shown(text)} is not within the years 1970 to 9999")])
    return ms


def describe(range_: Range) -> str:
    """`2024-02-01T00:00:00.000Z/2024-02-02T00:00:00.000Z`: an ISO 8601 interval, `..` for an open side."""
    return "/".join(".." if ms is None else _iso(ms) for ms in (range_.start_ms, range_.end_ms))


def _iso(ms: int) -> str:
    moment = EPOCH + ms * _MILLISECOND
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


def _zone(parse: Callable[[object], dt.tzinfo], timezone: object) -> dt.tzinfo:
    try:
        return dt.UTC if timezone is None else parse(timezone)
    except ValueError as error:
        raise QueryError([(_ZONE, str(error))]) from None


def _is_absolute(data: object) -> bool:
    return isinstance(data, Mapping) and ("start" in data or "end" in data)


def _parse_absolute(data: object, zone: dt.tzinfo, *, both: bool) -> Range:
    assert isinstance(data, Mapping)
    for key in data:
        if key not in ("start", "end"):
            raise QueryError([((*_FIELD, key), "is not part of a timeframe; it has start and end")])
    found: dict[str, int | None] = {}
    for key in ("start", "end"):
        where = (*_FIELD, key)
        if both and key not in data:
            raise QueryError([(where, 'is missing; write {"start": …, "end": …}')])
        found[key] = parse_instant(data[key], where, zone) if key in data else None
    start, end = found["start"], found["end"]
    if start is not None and end is not None and start >= end:
        raise QueryError([((*_FIELD, "end"), f"{shown(data['end'])} is not after start; the end itself is excluded")])
    return Range(start, end)


def _parse_relative(data: object, words: _Words, zone: dt.tzinfo, now: dt.datetime) -> Range:
    if isinstance(data, str):
        kind, count, unit = _parse_word(data, words)
    elif words.objects and isinstance(data, Mapping) and len(data) == 1 and next(iter(data)) in ("current", "previous"):
        kind, count, unit = _parse_object(data)
    else:
        forms = f'"{words.example}" or {{"start": "2024-02-03T00:00:00Z", "end": "2024-02-04T00:00:00Z"}}'
        raise QueryError([(_FIELD, f"{shown(data)} is not a timeframe; write {forms}")])
    try:
        if kind == "this":
            return _as_range(begin_of(unit, count - 1, now, zone), now)
        return _as_range(begin_of(unit, count, now, zone), begin_of(unit, 0, now, zone))
    except ValueError as error:
        raise QueryError([(_FIELD, f"{shown(data)} {error}")]) from None


def _parse_word(text: str, words: _Words) -> tuple[str, int, str]:
    if text in words.singles:
        return (words.singles[text][0], 1, words.singles[text][1])
    match = _WORD.fullmatch(text) if len(text) <= 80 else None
    if match and match[2] and _UNITS.get(match[3], "") in words.counted.get(match[1], ()):
        return ("this" if match[1] == "this" else "previous", _checked(int(match[2]), _FIELD), _UNITS[match[3]])
    raise QueryError([(_FIELD, f"{shown(text)} is no timeframe{meant(text, words.singles)}; {words.known()}")])


def _parse_object(data: Mapping[str, object]) -> tuple[str, int, str]:
    (kind, period), where = next(iter(data.items())), (*_FIELD, *data)
    if not isinstance(period, Mapping) or len(period) != 1:
        raise QueryError([(where, f'{shown(period)} is not a period; write {{"days": 3}}')])
    unit, count = next(iter(period.items()))
    if unit not in _UNITS or unit in UNITS:
        raise QueryError([((*where, unit), f"is no unit; one of {', '.join(each + 's' for each in UNITS)}")])
    if not isinstance(count, int) or isinstance(count, bool):
        raise QueryError([((*where, unit), f"{shown(count)} is not a whole number")])
    return ("this" if kind == "current" else "previous", _checked(count, (*where, unit)), _UNITS[unit])


def _checked(count: int, where: Where) -> int:
    if not 1 <= count <= MAX_PERIODS:
        raise QueryError([(where, f"{shown(count)} periods; write a number from 1 to {MAX_PERIODS:,}")])
    return count


def _parse_day(text: str, where: Where) -> dt.date:
    try:
        day = dt.date.fromisoformat(text)
    except ValueError:
        raise QueryError([(where, f"{shown(text)} does not exist")]) from None
    if not 1970 <= day.year < 9999:
        raise QueryError([(where, f"{shown(text)} is not within the years 1970 to 9998")])
    return day


def _as_range(start: dt.datetime, end: dt.datetime) -> Range:
    return Range(*(max(0, (moment - EPOCH) // _MILLISECOND) for moment in (start, end)))
