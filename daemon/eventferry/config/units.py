"""Durations and sizes as people write them: "10m", "1h30m", "8MiB"."""

import datetime as dt
import re

_DURATION_UNITS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_DURATION_WORDS = {"hourly": "1h", "twicedaily": "12h", "daily": "24h", "weekly": "7d"}
_DURATION = re.compile(r"([0-9]{1,9})(ms|[wdhms])")
_LONGEST = dt.timedelta(days=36500)

_SIZE_UNITS = {
    "B": 1,
    "KB": 1000,
    "KiB": 1 << 10,
    "MB": 1000**2,
    "MiB": 1 << 20,
    "GB": 1000**3,
    "GiB": 1 << 30,
    "TB": 1000**4,
    "TiB": 1 << 40,
}
_SIZE = re.compile(r"([0-9]{1,19})(?:[.]([0-9]{1,6}))?\s*([A-Za-z]+)")
_LARGEST = 1 << 60

_DURATION_REMEDY = 'write "30s", "10m", "1h30m", "48h", "7d" or hourly, twicedaily, daily, weekly'
_SIZE_REMEDY = 'write "512KiB", "8MiB" or "1GB"'


def parse_duration(text: object) -> dt.timedelta:
    """The span of time that `text` names. Raises ValueError with a remedy."""
    if isinstance(text, dt.timedelta):
        return text
    if isinstance(text, int | float) and not isinstance(text, bool):
        raise ValueError(f"{text} has no unit; {_DURATION_REMEDY}")
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is not a duration; {_DURATION_REMEDY}")
    plain = _DURATION_WORDS.get(text.strip().lower(), text.strip())
    found = _DURATION.findall(plain)
    units = [unit for _, unit in found]
    if not found or "".join(number + unit for number, unit in found) != plain:
        raise ValueError(f"{text!r} is not a duration; {_DURATION_REMEDY}")
    if units != sorted(set(units), key=list(_DURATION_UNITS).index):
        raise ValueError(f"{text!r} is not a duration: units go from large to small, each once; {_DURATION_REMEDY}")
    milliseconds = sum(int(number) * _DURATION_UNITS[unit] for number, unit in found)
    if milliseconds > _LONGEST.total_seconds() * 1000:
        raise ValueError(f"{text!r} is longer than a hundred years")
    return dt.timedelta(milliseconds=milliseconds)


def format_duration(span: dt.timedelta) -> str:
    """The shortest text that parse_duration reads as this span; days only where nothing smaller is left."""
    rest = round(span.total_seconds() * 1000)
    if rest == 0:
        return "0s"
    day = _DURATION_UNITS["d"]
    if rest % day == 0 and rest > 2 * day:
        return f"{rest // day}d"
    parts: list[str] = []
    for unit, length in _DURATION_UNITS.items():
        if unit in "wd":
            continue
        if count := rest // length:
            parts.append(f"{count}{unit}")
        rest %= length
    return "".join(parts)


def parse_size(text: object) -> int:
    """The number of bytes that `text` names. Raises ValueError with a remedy."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        raise ValueError(f"{text} has no unit; {_SIZE_REMEDY}")
    match = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
    unit = _SIZE_UNITS.get(match[3]) if match else None
    if match is None or unit is None:
        raise ValueError(f"{text!r} is not a size; {_SIZE_REMEDY}")
    whole, fraction = int(match[1]), match[2] or ""
    size, rest = divmod(int(f"{whole}{fraction}") * unit, int(f"1{'0' * len(fraction)}"))
    if rest:
        raise ValueError(f"{text!r} is not a whole number of bytes; {_SIZE_REMEDY}")
    if size > _LARGEST:
        raise ValueError(f"{text!r} is more than 1048576TiB")
    return size


def format_size(size: int) -> str:
    """The shortest text that parse_size reads as this number of bytes."""
    exact = [(size // factor, unit) for unit, factor in _SIZE_UNITS.items() if size and size % factor == 0]
    number, unit = min(exact, key=lambda each: (each[0], -len(each[1])), default=(size, "B"))
    return f"{number}{unit}"
