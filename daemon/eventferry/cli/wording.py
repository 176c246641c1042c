"""Numbers and times in the form in which people read them."""

import datetime as dt

from eventferry import clock
from eventferry.alerts.phrases import duration, size

__all__ = ["ago", "at", "count", "duration", "iso", "lasted", "plural", "plural_noun", "size", "until"]


def count(number: int) -> str:
    """1,204,310."""
    return f"{number:,}"


def plural(number: int, noun: str, many: str = "") -> str:
    """`1 file`, `2 files`."""
    return f"{number:,} {plural_noun(number, noun, many)}"


def plural_noun(number: int, noun: str, many: str = "") -> str:
    """`file` of 1, `files` of 2."""
    return noun if number == 1 else many or noun + "s"


def iso(ms: int | None) -> str | None:
    """An epoch time in ms as ISO 8601 in UTC, for programs."""
    return None if ms is None else clock.from_ms(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def at(ms: int) -> str:
    """The local time of day, with the date where it is not today: `10:42`, `2024-01-31 10:42`."""
    moment = clock.from_ms(ms).astimezone()
    is_today = moment.date() == clock.now().astimezone().date()
    return moment.strftime("%H:%M" if is_today else "%Y-%m-%d %H:%M")


def lasted(ms: int) -> str:
    """The time from then to now, by its largest unit: `3 h`."""
    parts = duration(max(0, clock.now_ms() - ms) / 1000).split(" ")
    return " ".join(parts[:2])


def ago(ms: int | None) -> str:
    """`3 min ago`, `just now`, `never`."""
    if ms is None:
        return "never"
    return "just now" if clock.now_ms() - ms < 2000 else f"{lasted(ms)} ago"


def until(moment: dt.datetime | None) -> str:
    """`in 8 min`, `now`, `—`."""
    if moment is None:
        return "—"
    seconds = (moment - clock.now()).total_seconds()
    return "now" if seconds < 1 else "in " + " ".join(duration(seconds).split(" ")[:2])
