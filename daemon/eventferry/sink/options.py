"""Types of options that sink types share: durations, paths, URLs, headers; their errors name the remedy."""

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from eventferry import clock

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")


def parse_duration(value: object) -> float:
    """Seconds of `30` (seconds), `"500ms"`, `"30s"`, `"10m"`, `"2h"` or `"1d"`. Raises ValueError."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError('is not a duration; expected seconds or a text such as "30s", "10m"')
    return float(match[1]) * _SECONDS[match[2]]


def check_url(value: str) -> str:
    """`value`, if it is an absolute http(s) URL without a user name in it. Raises ValueError."""
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or re.search(r"[\x00-\x20\x7f\\]", value):
        raise ValueError("is not a URL; expected https://…")
    if parts.username is not None or parts.password is not None:
        raise ValueError("holds a user name or a password; expected the options `username` and `password` instead")
    return value


def check_header_name(name: str) -> str:
    """`name`, if HTTP allows it as the name of a header. Raises ValueError."""
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a header; expected letters, digits and dashes")
    return name


def check_header_value(value: str) -> str:
    """`value`, if it is safe as a header's value: printable ASCII, no line break. Raises ValueError without it."""
    if not _HEADER_VALUE.fullmatch(value) or value != value.strip():
        raise ValueError("is not a header's value; expected printable ASCII without line breaks or spaces around it")
    return value


def check_absolute(path: Path) -> Path:
    """`path`, if it is absolute. Raises ValueError."""
    if not path.is_absolute():
        raise ValueError("is not an absolute path; expected /…: a service has no working directory of its own")
    return path


def as_list(value: object) -> object:
    """A single text as a list of it: for options of one or several."""
    return [value] if isinstance(value, str) else value


Duration = Annotated[float, BeforeValidator(parse_duration), Field(gt=0, le=86400)]
Url = Annotated[str, AfterValidator(check_url)]
File = Annotated[Path, AfterValidator(check_absolute)]


def utc_day(ms: int | None, pattern: str = "%Y-%m-%d") -> str | None:
    """The UTC day of an epoch time in ms by a strftime `pattern`; None without one or outside the years 1 to 9999."""
    if ms is None:
        return None
    try:
        moment = clock.from_ms(ms)
    except (ValueError, OverflowError, OSError):
        return None
    # strftime does not pad years below 1000 everywhere.
    return moment.strftime(pattern.replace("%Y", f"{moment.year:04d}"))
