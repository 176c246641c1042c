"""Reads what Keen's extractions and unique values are asked for with."""

import datetime as dt
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from eventferry.api.dialects.json_text import NotJson, read_json
from eventferry.api.dialects.keen_shape import FILTER, INVALID, MISSING, NOT_JSON, PROPERTY, TIMEFRAME, UNKNOWN, Failing
from eventferry.exports.model import Selection
from eventferry.query import Path, QueryError, Scope, keen, timeframe
from eventferry.query.problems import dotted, shown

Fields = Mapping[str, Any]

MOST_PROPERTIES = 1000
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Where:
    """The events of one collection of a project, in a version of the API."""

    version: keen.Version
    project: str
    collection: str


def read_object(body: bytes, known: tuple[str, ...]) -> Fields:
    """The members of a JSON object, of which only these are known; null is as if it were not there. Raises Failing."""
    try:
        data = read_json(body)
    except NotJson as error:
        raise Failing(NOT_JSON, f"the body cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise Failing(INVALID, f"the body is {shown(data)}, not an object with {', '.join(known)}")
    check_names(data, known)
    return {name: value for name, value in data.items() if value is not None}


def check_names(names: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Refuse what is not known: an event too many is worse than an error. Raises Failing."""
    unknown = [name for name in names if name not in known]
    if unknown:
        raise Failing(UNKNOWN, f"{shown(unknown[0])} is not known here; there are {', '.join(known)}")


def read_parameters(given: Mapping[str, str], known: tuple[str, ...]) -> Fields:
    """The parameters of a URL, those decoded that are JSON; an empty one is as if it were not there. Raises Failing."""
    check_names(given, known)
    return {name: _decode(name, text) for name, text in given.items() if text.strip()}


def _decode(name: str, text: str) -> Any:
    is_number = re.fullmatch(r"-?[0-9]{1,9}", text, re.ASCII) is not None
    is_json = {
        "filters": True,
        "timeframe": text.lstrip().startswith("{"),
        "timezone": is_number,
        "latest": is_number,
        "property_names": text.lstrip().startswith(("[", "{")),
        "distinct_property": text.lstrip().startswith(("[", "{")),
    }
    if not is_json.get(name, False):
        return text
    try:
        return read_json(text)
    except NotJson as error:
        raise Failing(NOT_JSON, f"{name} cannot be read: {error}") from None


def selection_of(where: Where, asked: Fields, now: dt.datetime) -> Selection:
    """The events that filters, timeframe and timezone select. Raises Failing."""
    expression = _parse(FILTER, "filters", lambda: keen.parse_filters(asked.get("filters", []), version=where.version))
    frame = asked.get("timeframe")
    if where.version == 2:
        range_ = _parse(TIMEFRAME, "", lambda: timeframe.parse_keen2(frame, now))
    else:
        range_ = _parse(TIMEFRAME, "", lambda: timeframe.parse_keen3(frame, asked.get("timezone"), now))
    scope = Scope(projects=(where.project,), collections=(where.collection,))
    return Selection(scope, expression, range_.start_ms, range_.end_ms)


def written(asked: Fields) -> dict[str, Any]:
    """Filters and times as they were written, for whoever looks the export up."""
    names = {"filters": "filter", "timeframe": "timeframe", "timezone": "timezone"}
    return {ours: asked[name] for name, ours in names.items() if name in asked}


def email_of(asked: Fields) -> tuple[str, ...]:
    """Whom to tell: nobody, or the one address, which has two names in the documents. Raises Failing."""
    found = {name: asked[name] for name in ("email", "email_address") if name in asked}
    for name, address in found.items():
        if not isinstance(address, str):
            raise Failing(INVALID, f'{name}: {shown(address)} is no address; write a text such as "ana@example.com"')
    if len(set(found.values())) > 1:
        raise Failing(INVALID, "email and email_address name two addresses; give one of them")
    return tuple(set(found.values()))


def property_of(name: object, field: str, version: keen.Version) -> Path:
    """The path of a property. Raises Failing."""
    path = _parse(PROPERTY, field, lambda: keen.parse_property(name, version=version))
    if path == () and version == 2:
        raise Failing(PROPERTY, f"{field}: the time of the event is no property of its body; name one that is")
    return path or ("keen", "timestamp")


def distinct_property(value: object) -> Path:
    """The path in a list of one, or by itself. Raises Failing."""
    if isinstance(value, list):
        if len(value) != 1:
            raise Failing(INVALID, f'distinct_property: holds {len(value)} properties; write ["body:user:email"]')
        value = value[0]
    return property_of(value, "distinct_property", 2)


def properties_of(asked: Fields) -> tuple[Path, ...]:
    """The paths of property_names, a list or a single one; none where everything is wanted. Raises Failing."""
    names = asked.get("property_names", [])
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or len(names) > MOST_PROPERTIES:
        raise Failing(INVALID, f"property_names: {shown(names)} is no list of at most {MOST_PROPERTIES:,} properties")
    paths = [property_of(name, f"property_names[{at}]", 3) for at, name in enumerate(names)]
    return tuple(dict.fromkeys(paths))


def latest_of(asked: Fields, most: int) -> int | None:
    """How many of the newest events; None: all. Raises Failing."""
    count = asked.get("latest")
    if count is None or (type(count) is int and 1 <= count <= most):
        return count
    raise Failing(INVALID, f"latest: {shown(count)} is no number from 1 to {most:,}")


def choice_of(asked: Fields, name: str, choices: tuple[str, ...]) -> str | None:
    """A word of a few. Raises Failing."""
    word = asked.get(name)
    if word is None or word in choices:
        return word
    raise Failing(INVALID, f"{name}: {shown(word)} is not known; there are {', '.join(choices)}")


def text_of(asked: Fields, name: str) -> str:
    """A text that must be there. Raises Failing."""
    value = asked.get(name)
    if isinstance(value, str) and value:
        return value
    if value is None:
        raise Failing(MISSING, f"{name} is missing; it must be given")
    raise Failing(INVALID, f"{name}: {shown(value)} is no name")


def _parse(code: str, above: str, parse: Callable[[], _T]) -> _T:
    try:
        return parse()
    except QueryError as error:
        found = [dotted((above, *where) if above else where) for where, _ in error.problems]
        said = [f"{place}: {text}" for place, (_, text) in zip(found, error.problems, strict=True)]
        raise Failing(code, "; ".join(said)) from None
