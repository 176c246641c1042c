"""The types of configuration values, each refusing what it is not with a remedy."""

import datetime as dt
import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    Strict,
)
from pydantic_core import PydanticCustomError

from eventferry.config.cron import check_cron
from eventferry.config.units import format_duration, format_size, parse_duration, parse_size
from eventferry.query import split_path

StartValue = Literal["earliest", "latest"] | dt.date


class Table(BaseModel):
    """A table of the configuration: immutable, and an unknown key is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def nested_problem(problems: list[tuple[tuple[str | int, ...], str]]) -> PydanticCustomError:
    """A mistake, or several, whose places inside the value are known."""
    return PydanticCustomError("nested", "see the problems", {"problems": problems})


def _positive(span: dt.timedelta) -> dt.timedelta:
    if not span:
        raise ValueError('must be longer than nothing; write "1s" or more')
    return span


def _slug(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", text):
        raise ValueError(f"{text!r} is not a name; use a-z, 0-9, _ and -, at most 63 of them, a letter or digit first")
    return text


def _absolute(value: Any) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError(f'{value!r} is not a path; write "/var/lib/eventferry"')
    path = Path(value)
    if not path.is_absolute():
        raise ValueError(f"{str(value)!r} is a relative path, and a service has no directory of its own; write /…")
    return path


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError):  # ZoneInfoNotFoundError is a KeyError
        raise ValueError(f"{name!r} is not a time zone") from None
    except KeyError:
        close = difflib.get_close_matches(name, available_timezones(), 1, 0.5)
        meant = f"did you mean {close[0]!r}?" if close else 'write "UTC" or "Europe/Berlin"'
        raise ValueError(f"{name!r} is not a time zone; {meant}") from None
    return name


def _start(value: Any) -> StartValue:
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value
    if value == "earliest" or value == "latest":
        return value  # type: ignore[no-any-return]
    try:
        if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
            raise ValueError
        return dt.date.fromisoformat(value)
    except ValueError:
        raise ValueError(
            f'{value!r} is not a start; write "earliest", "latest" or a date such as "2024-01-31"'
        ) from None


def _start_per_source(value: Any) -> StartValue | dict[str, StartValue]:
    """A start for all sources, or a table with one for each."""
    if not isinstance(value, dict):
        return _start(value)
    starts: dict[str, StartValue] = {}
    problems: list[tuple[tuple[str | int, ...], str]] = []
    for source, start in value.items():
        try:
            starts[source] = _start(start)
        except ValueError as error:
            problems.append(((source,), str(error)))
    if problems:
        raise nested_problem(problems)
    return starts


def _plain_start(value: StartValue | dict[str, StartValue]) -> str | dict[str, str]:
    return {source: str(start) for source, start in value.items()} if isinstance(value, dict) else str(value)


def _glob(text: str) -> str:
    if not text or text.startswith("/"):
        raise ValueError(f'{text!r} matches no key; write a pattern relative to the source such as "**/*.gz"')
    return text


def _dotted(text: str) -> str:
    split_path(text)
    return text


def _clock_time(text: str) -> str:
    if text and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text):
        raise ValueError(f'{text!r} is not a time of day; write "08:00", or "" for never')
    return text


def _cron(text: str) -> str:
    check_cron(text)
    return text


def _nothing_for_empty(value: Any) -> Any:
    """An empty text means that the key is not set, so that every default can be written down."""
    return None if value == "" else value


def _list_of_one(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Duration = Annotated[dt.timedelta, BeforeValidator(parse_duration), PlainSerializer(format_duration)]
Span = Annotated[Duration, AfterValidator(_positive)]  # a duration that is not zero
Size = Annotated[int, BeforeValidator(parse_size), Field(ge=1), PlainSerializer(format_size)]
OptionalSize = Annotated[Size | None, BeforeValidator(_nothing_for_empty)]
Flag = Annotated[bool, Strict()]
Count = Annotated[int, Strict(), Field(ge=1)]
Share = Annotated[float, Strict(), Field(ge=0, le=1)]
Slug = Annotated[str, AfterValidator(_slug)]
OptionalSlug = Annotated[Slug | None, BeforeValidator(_nothing_for_empty)]
OptionalText = Annotated[str | None, BeforeValidator(_nothing_for_empty)]
AbsolutePath = Annotated[Path, BeforeValidator(_absolute), PlainSerializer(str)]
OptionalPath = Annotated[AbsolutePath | None, BeforeValidator(_nothing_for_empty)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
ClockTime = Annotated[str, AfterValidator(_clock_time)]
CronText = Annotated[str, AfterValidator(_cron)]
Cron = Annotated[CronText | None, BeforeValidator(_nothing_for_empty)]
Start = Annotated[StartValue, PlainValidator(_start), PlainSerializer(str)]
StartPerSource = Annotated[
    StartValue | dict[str, StartValue], PlainValidator(_start_per_source), PlainSerializer(_plain_start)
]
Glob = Annotated[str, AfterValidator(_glob)]
Globs = tuple[Glob, ...]
FieldPath = Annotated[str, AfterValidator(_dotted)]
OptionalFieldPath = Annotated[FieldPath | None, BeforeValidator(_nothing_for_empty)]
FieldPaths = Annotated[tuple[FieldPath, ...], BeforeValidator(_list_of_one)]
