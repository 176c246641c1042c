"""Sorts the events of a batch by the folder that their time belongs to."""

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass

NO_TIME = "__HIVE_DEFAULT_PARTITION__"  # what Hive, Spark, Athena and DuckDB read as NULL
_NAMES = ("date", "year", "month", "day", "hour")
_STEP = re.compile(r"(?![._])(?:[A-Za-z0-9._=-]|\{(?:" + "|".join(_NAMES) + r")\})+")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_HOUR = 3_600_000_000  # microseconds


def check_partition(template: str) -> str:
    """`template`, if it is a usable path of folders, or empty. Raises ValueError."""
    if template and not all(_STEP.fullmatch(step) for step in template.split("/")):
        raise ValueError(
            'is not a path of partitions; expected "date={date}/hour={hour}", with {date}, {year}, {month}, {day} and'
            " {hour}, letters, digits and =.-_, no step beginning with . or _"
        )
    return template


def uses_time(template: str) -> bool:
    """Whether the template names any time."""
    return "{" in template


@dataclass(frozen=True, slots=True)
class Group:
    """The events of a batch that share a folder; `positions` are in their order, None means all of them."""

    folder: str
    positions: Sequence[int] | None = None


def groups_of(template: str, times: Sequence[int | None]) -> list[Group]:
    """The groups of events with these times (epoch µs, UTC), in the order in which they first occur."""
    if not uses_time(template):
        return [Group(template)]
    dated = [time for time in times if time is not None]
    hours: set[int | None] = {None} if len(dated) < len(times) else set()
    if dated:
        least, most = min(dated) // _HOUR, max(dated) // _HOUR
        if least == most:
            hours.add(least)
        else:
            hours.update(time // _HOUR for time in dated)
    folders = {hour: _folder(template, hour) for hour in hours}
    if len(set(folders.values())) == 1:
        return [Group(next(iter(folders.values())))]
    positions: dict[str, list[int]] = {}
    for position, time in enumerate(times):
        folder = folders[None if time is None else time // _HOUR]
        positions.setdefault(folder, []).append(position)
    return [Group(folder, found) for folder, found in positions.items()]


def _folder(template: str, hour: int | None) -> str:
    if hour is None:
        return template.format(**dict.fromkeys(_NAMES, NO_TIME))
    moment = _EPOCH + dt.timedelta(hours=hour)
    year, month, day = f"{moment.year:04d}", f"{moment.month:02d}", f"{moment.day:02d}"
    return template.format(date=f"{year}-{month}-{day}", year=year, month=month, day=day, hour=f"{moment.hour:02d}")
