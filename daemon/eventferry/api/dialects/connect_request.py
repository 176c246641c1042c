"""Reads what Connect's exports are asked for with. No message repeats a credential."""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from eventferry.api.dialects.json_text import NotJson, read_json
from eventferry.api.problems import Mistake, Problem
from eventferry.exports.egress import Egress
from eventferry.exports.model import Selection
from eventferry.exports.s3_target import S3Target, TargetRefused, parse_s3_path
from eventferry.exports.wanted import S3
from eventferry.query import Expression, QueryError, Scope, connect, timeframe
from eventferry.query.problems import Where, dotted, shown

_KEYS = ("filter", "timeframe", "timezone")
_CREDENTIALS = ("s3AccessKeyId", "s3SecretAccessKey")
_FIELDS = ("query", "s3Path", *_CREDENTIALS)
_LONGEST = 1024  # characters of a credential
_MOST_MISTAKES = 20
_T = TypeVar("_T")

_TEXT = {"type": "string", "minLength": 1}
_QUERY = {
    "type": "object",
    "properties": {
        "filter": {"type": "object"},
        "timeframe": {"type": ["string", "object"]},
        "timezone": {"type": ["string", "number"]},
    },
    "additionalProperties": False,
}
_BODY_SCHEMA = {
    "type": "object",
    "properties": {"query": _QUERY, "s3Path": _TEXT, "s3AccessKeyId": _TEXT, "s3SecretAccessKey": _TEXT},
    "required": ["s3Path", *_CREDENTIALS],
    "additionalProperties": False,
}
BODY: Final = {"requestBody": {"required": True, "content": {"application/json": {"schema": _BODY_SCHEMA}}}}


@dataclass(frozen=True, slots=True)
class Asked:
    """A query that is well-formed; `written` is its text as data."""

    written: Mapping[str, Any]
    filter: Expression | None

    def selection(self, project: str, collection: str, now: dt.datetime) -> Selection:
        """The events of a collection that the query selects. Raises Problem."""
        zone = self.written.get("timezone")
        range_ = _parse((), lambda: timeframe.parse_connect(self.written.get("timeframe"), zone, now))
        scope = Scope(projects=(project,), collections=(collection,))
        return Selection(scope, self.filter, range_.start_ms, range_.end_ms)


@dataclass(frozen=True, slots=True)
class AskedToS3:
    """A query, and where its events go."""

    query: Asked
    place: S3Target
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)

    def destination(self, name: str) -> S3:
        """The object of that name at the place."""
        return S3(
            url=f"s3://{self.place.bucket}/{self.place.prefix}",
            access_key=self.access_key,
            secret_key=self.secret_key,
            endpoint=self.place.endpoint,
            region=self.place.region,
            object_name=name,
        )


def mistake(field: str, description: str) -> Problem:
    """One field that is wrong."""
    return mistakes([(field, description)])


def mistakes(found: "list[tuple[str, str]]") -> Problem:
    """Several fields that are wrong."""
    said = "; ".join(f"{field}: {description}" for field, description in found)
    return Problem(422, "invalid", said, mistakes=[Mistake(*each) for each in found])


def check_parameters(names: Mapping[str, str]) -> None:
    """Refuse parameters of a URL besides the query: what is written there would be passed over. Raises Problem."""
    if unknown := sorted(names.keys() - {"query"}):
        raise mistake(unknown[0][:80], "is no parameter of an export; write everything into query")


def parse_text(text: str) -> Asked:
    """The query of a URL; without one, every event. Raises Problem."""
    if not text.strip():
        return parse_query({})
    try:
        return parse_query(read_json(text))
    except NotJson as error:
        raise mistake("query", str(error)) from None


def parse_query(data: object) -> Asked:
    """A query document. Raises Problem."""
    if not isinstance(data, Mapping):
        raise mistake("query", f'{shown(data)} is no query; write {{"filter": {{…}}, "timeframe": "today"}}')
    found = [("query", f"{shown(key)} cannot be part of the query of an export, only {', '.join(_KEYS)} can")
             for key in data if key not in _KEYS]  # fmt: skip
    if found:
        raise mistakes(found[:_MOST_MISTAKES])
    written = {key: data[key] for key in _KEYS if data.get(key) is not None}
    return Asked(written, _parse(("filter",), lambda: connect.parse_filter(written.get("filter", {}))))


def parse_body(body: bytes, egress: Egress) -> AskedToS3:
    """A request for an export to S3, where `egress` allows. Raises Problem, which names every field that is wrong."""
    try:
        data = read_json(body)
    except NotJson as error:
        raise mistake("body", str(error)) from None
    if not isinstance(data, dict):
        raise mistake("body", f"is no object; write {', '.join(_FIELDS)}")
    said = f"is no parameter of an export; there are {', '.join(_FIELDS)}"
    found = [(key[:80], said) for key in data if key not in _FIELDS]
    found += [(name, fault) for name in _CREDENTIALS if (fault := _fault_of_text(data.get(name)))]
    place, query = None, None
    try:
        place = _parse_path(data.get("s3Path"), egress)
    except TargetRefused as error:
        found.append(("s3Path", str(error)))
    try:
        query = parse_query({} if data.get("query") is None else data["query"])
    except Problem as problem:
        found += [(each.where, each.problem) for each in problem.mistakes]
    if found or place is None or query is None:
        raise mistakes(found[:_MOST_MISTAKES])
    return AskedToS3(query, place, data["s3AccessKeyId"], data["s3SecretAccessKey"])


def _parse_path(text: object, egress: Egress) -> S3Target:
    if not isinstance(text, str):
        raise TargetRefused("is missing; it must be given" if text is None else "must be a text")
    return parse_s3_path(text, egress)


def _fault_of_text(value: object) -> str:
    """What is wrong with a text that must be there; never the value, which may be a secret."""
    if value is None:
        return "is missing; it must be given"
    if not isinstance(value, str):
        return "must be a text"
    if not value or len(value) > _LONGEST or not value.isascii() or not value.isprintable():
        return f"must be a text of 1 to {_LONGEST:,} printable characters of ASCII"
    return ""


def _parse(above: Where, parse: Callable[[], _T]) -> _T:
    """What the parser gives; its findings are of the field `query`, and begin with their place in it."""
    try:
        return parse()
    except QueryError as error:
        found = [("query", f"{dotted((*above, *where))}: {said}") for where, said in error.problems]
        raise mistakes(found) from None
