"""The create form as it was filled in, kept as typed, and the export that it asks for."""

import datetime as dt
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from eventferry import clock
from eventferry.alerts.channels.smtp import check_address
from eventferry.console import conditions
from eventferry.console.conditions import Row
from eventferry.console.forms import Form
from eventferry.exports.model import Compression, Format, Output, Selection
from eventferry.exports.wanted import Notify, Wanted
from eventferry.query import QueryError, Scope, parse_filter, timeframe
from eventferry.query.expression import Expression
from eventferry.query.problems import dotted
from eventferry.query.zones import named_zone

TIMEFRAMES = {
    "today": "Today so far",
    "yesterday": "Yesterday",
    "last_24_hours": "The last 24 full hours",
    "last_7_days": "The 7 days before today",
    "last_30_days": "The 30 days before today",
    "this_week": "This week so far (from Sunday)",
    "last_week": "Last week",
    "this_month": "This month so far",
    "last_month": "Last month",
    "this_year": "This year so far",
    "other": "Another timeframe…",
}
FORMATS = ("csv", "ndjson", "json", "parquet")
COMPRESSIONS = {"none": "None", "gzip": "gzip", "zstd": "zstd"}
DIMENSIONS = ("tenants", "projects", "collections")
LONGEST_NAME = 200
MOST_ROWS = 50

_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


class Unfit(Exception):
    """The form asks for nothing that can be had; `mistakes` maps the form's fields to sentences."""

    def __init__(self, mistakes: Mapping[str, str]) -> None:
        self.mistakes = dict(mistakes)
        super().__init__("; ".join(f"{name}: {said}" for name, said in mistakes.items()))


@dataclass(frozen=True, slots=True)
class Draft:
    """The fields of the form, each as typed. `once` makes one export of two clicks."""

    once: str
    name: str = ""
    range: str = "days"  # days | timeframe | all
    first: str = ""  # days, both inclusive
    last: str = ""
    timezone: str = "UTC"
    timeframe: str = "yesterday"
    words: str = ""  # another timeframe than those of the list
    match: str = "all"
    rows: tuple[Row, ...] = (Row(),)
    filter_json: str = ""
    format: str = "csv"
    compression: str = "none"
    formula_guard: bool = True
    email: str = ""
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of DIMENSIONS


def blank() -> Draft:
    """The form before anything is typed: the events of yesterday, as CSV."""
    yesterday = (clock.now().date() - dt.timedelta(days=1)).isoformat()
    return Draft(secrets.token_urlsafe(12), first=yesterday, last=yesterday)


def from_form(form: Form) -> Draft:
    """What was sent, whatever it is."""
    columns = (form.all(f"condition_{part}") for part in ("field", "op", "value", "kind"))
    rows = tuple(Row(*each) for each in zip(*columns, strict=False))[:MOST_ROWS]
    return Draft(
        once=form.one("once")[:40] or secrets.token_urlsafe(12),
        name=form.one("name"),
        range=form.one("range", "days"),
        first=form.one("first"),
        last=form.one("last"),
        timezone=form.one("timezone") or "UTC",
        timeframe=form.one("timeframe", "yesterday"),
        words=form.one("words"),
        match=form.one("match", "all"),
        rows=rows or (Row(),),
        filter_json=form.one("filter_json"),
        format=form.one("format", "csv"),
        compression=form.one("compression", "none"),
        formula_guard=form.one("formula_guard") == "on",
        email=form.one("email"),
        names={each: tuple(form.all(each)) for each in DIMENSIONS},
    )


def wanted(draft: Draft, realm: Scope, part_bytes: int) -> Wanted:
    """The export that the form asks for. Raises Unfit with everything that is wrong."""
    mistakes: dict[str, str] = {}
    asked_time, range_ = _range(draft, mistakes)
    asked_filter, filter_ = _filter(draft, mistakes)
    scope = _scope(draft, realm, mistakes)
    output = _output(draft, part_bytes, mistakes)
    addresses = _addresses(draft, mistakes)
    if len(draft.name) > LONGEST_NAME:
        mistakes["name"] = f"has {len(draft.name)} characters; {LONGEST_NAME} are the most"
    if mistakes:
        raise Unfit(mistakes)
    return Wanted(
        selection=Selection(scope, filter_, range_.start_ms, range_.end_ms),
        output=output,
        asked={"filter": asked_filter, **asked_time},
        notify=Notify(email=addresses),
        name=draft.name,
        dialect="console",
        idempotency_key=f"console {draft.once}",
    )


# -- which events -----------------------------------------------------------------------------------------------------


def _range(draft: Draft, mistakes: dict[str, str]) -> tuple[dict[str, Any], timeframe.Range]:
    """What was asked for, as the native form writes it, and what it means now."""
    zone = draft.timezone
    try:
        named_zone(zone)
    except ValueError as error:
        mistakes["timezone"] = str(error)
        zone = "UTC"  # the rest is looked at all the same
    asked = _timeframe(draft, mistakes)
    try:
        found = timeframe.parse_native(asked, zone, clock.now())
    except QueryError as error:
        place = {"days": "first", "timeframe": "words" if draft.timeframe == "other" else "timeframe"}
        if not mistakes.keys() & {"first", "last", "words", "timeframe"}:
            mistakes[place.get(draft.range, "range")] = "; ".join(said for _, said in error.problems)
        return {}, timeframe.Range()
    return {"timeframe": asked, "timezone": zone}, found


def _timeframe(draft: Draft, mistakes: dict[str, str]) -> Any:
    if draft.range == "all":
        return None
    if draft.range == "timeframe":
        if draft.timeframe != "other":
            return draft.timeframe
        if not draft.words:
            mistakes["words"] = "is empty; write a timeframe such as last_3_months"
        return draft.words
    if draft.range != "days":
        mistakes["range"] = "choose days, a timeframe, or all events"
        return None
    first, last = _day(draft.first, "first", mistakes), _day(draft.last or draft.first, "last", mistakes)
    if first is None or last is None:
        return None
    if last < first:
        mistakes["last"] = f"{last.isoformat()} is before the first day, {first.isoformat()}"
        return None
    return {"start": first.isoformat(), "end": (last + dt.timedelta(days=1)).isoformat()}


def _day(text: str, name: str, mistakes: dict[str, str]) -> dt.date | None:
    if not text:
        mistakes[name] = "choose a day"
        return None
    try:
        day = dt.date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        mistakes[name] = f"{text} does not exist"
        return None
    if day is None:
        mistakes[name] = f"{text[:40]!r} is not a day; write it as 2026-01-31"
    elif not 1970 <= day.year < 9999:
        mistakes[name] = f"{text} is not within the years 1970 to 9998"
        return None
    return day


def _filter(draft: Draft, mistakes: dict[str, str]) -> tuple[Any, Expression | None]:
    """The filter as the native form writes it, and its expression."""
    is_typed = any(not row.is_blank for row in draft.rows)
    place = "filter_json" if draft.filter_json else "filter"
    if draft.filter_json and is_typed:
        mistakes[place] = "goes instead of the conditions above; empty one of them"
        return [], None
    try:
        asked = conditions.parse_json(draft.filter_json) if draft.filter_json else conditions.as_filter(
            draft.rows, draft.match
        )  # fmt: skip
        return asked, parse_filter(asked)
    except QueryError as error:
        mistakes[place] = "; ".join(_at(where, said, draft) for where, said in error.problems[:3])
    except ValueError as error:
        mistakes[place] = str(error)
    return [], None


def _at(where: tuple[str | int, ...], said: str, draft: Draft) -> str:
    """With the number of the condition, where the conditions were typed as rows."""
    if draft.filter_json:
        return f"{dotted(where)}: {said}" if where else said
    number = next((each + 1 for each in where if isinstance(each, int)), 1)
    return f"condition {number}: {said}"


def _scope(draft: Draft, realm: Scope, mistakes: dict[str, str]) -> Scope:
    chosen: dict[str, tuple[str, ...] | None] = {}
    for dimension in DIMENSIONS:
        limit = getattr(realm, dimension)
        typed = draft.names.get(dimension, ())
        if limit is None:  # one text field; else a box for each name
            typed = tuple(name.strip() for text in typed for name in text.split(","))
        names = tuple(sorted({name for name in typed if name}))
        unknown = [name for name in names if limit is not None and name not in limit]
        if unknown:
            mistakes[dimension] = f"{unknown[0][:40]!r} is not among those of your key"
        chosen[dimension] = names or None
    return Scope(**chosen)


# -- in which form ----------------------------------------------------------------------------------------------------


def _output(draft: Draft, part_bytes: int, mistakes: dict[str, str]) -> Output:
    if draft.format not in FORMATS:
        mistakes["format"] = f"choose one of {', '.join(FORMATS)}"
        return Output()
    if draft.compression not in COMPRESSIONS:
        mistakes["compression"] = f"choose one of {', '.join(COMPRESSIONS)}"
        return Output()
    # Parquet is compressed inside; its choice is hidden, so that what stands there does not count.
    packed = "none" if draft.format == "parquet" else draft.compression
    return Output(
        format=cast(Format, draft.format),
        compression=cast(Compression, packed),
        part_bytes=part_bytes,
        formula_guard=draft.formula_guard and draft.format == "csv",
    )


def _addresses(draft: Draft, mistakes: dict[str, str]) -> tuple[str, ...]:
    found = tuple(each for each in re.split(r"[,;\s]+", draft.email) if each)
    for address in found:
        try:
            check_address(address)
        except ValueError as error:
            mistakes["email"] = f"{address[:60]!r} {error}"
    return found
