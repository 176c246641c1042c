"""Selections that are asked for in query strings: a day, a range or a timeframe, a filter, whose events."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Query, Request

from eventferry.access.keys import Key
from eventferry.api.native.bodies import QueryForm
from eventferry.api.native.selecting import json_parameter, placed, select
from eventferry.api.problems import Mistake, Problem, invalid
from eventferry.exports.model import Selection
from eventferry.query.timeframe import parse_instant

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)

Name = Annotated[str, Query(min_length=1, max_length=200)]
Text = Annotated[str | None, Query(min_length=1, max_length=200)]
Filter = Annotated[
    str | None,
    Query(max_length=16_000, description='JSON in the native form: [{"field": "event_type", "eq": "pageView"}]'),
]
Day = Annotated[str | None, Query(max_length=40, description="A day, 2026-01-02, in the timezone.")]
Start = Annotated[str | None, Query(max_length=40, description="ISO 8601, inclusive.")]
End = Annotated[str | None, Query(max_length=40, description="ISO 8601, exclusive.")]
Timeframe = Annotated[
    str | None, Query(max_length=1000, description='A word such as yesterday or last_7_days, or JSON: {"start": …}')
]
Zone = Annotated[str | None, Query(max_length=100, description="An IANA name; UTC where there is none.")]
Several = Annotated[list[Name], Query(max_length=20)]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a query string says of a selection."""

    filter: str | None
    timeframe: Any
    timezone: str | None
    tenants: Sequence[str]
    projects: Sequence[str]
    collections: Sequence[str]


def asked_day(
    filter: Filter = None,
    timezone: Zone = None,
    tenant: Several = [],  # noqa: B006
    project: Several = [],  # noqa: B006
    collection: Several = [],  # noqa: B006
) -> Asked:
    """A dependency: all but the time, which stands in the path."""
    return Asked(filter, None, timezone, tenant, project, collection)


class AskedRange:
    """A dependency: a selection with its time in one of three forms; `needs` are other parameters of the route.

    Those are named together with a time that is missing: who sends nothing is told all of it at once.
    """

    def __init__(self, *needs: str) -> None:
        self._needs = needs

    def __call__(
        self,
        request: Request,
        date: Day = None,
        start: Start = None,
        end: End = None,
        timeframe: Timeframe = None,
        filter: Filter = None,
        timezone: Zone = None,
        tenant: Several = [],  # noqa: B006
        project: Several = [],  # noqa: B006
        collection: Several = [],  # noqa: B006
    ) -> Asked:
        """What was asked for. Raises Problem."""
        forms = [date is not None, start is not None or end is not None, timeframe is not None]
        if sum(forms) != 1:
            raise self._without_time(request, "query.timeframe" if any(forms) else "query.date")
        when: Any = date
        if date is not None:
            check_day(date, "query", "date")
        elif timeframe is not None:
            when = json_parameter(timeframe, "timeframe") if timeframe.startswith("{") else timeframe
        else:
            when = _range(start, end)
        return Asked(filter, when, timezone, tenant, project, collection)

    def _without_time(self, request: Request, where: str) -> Problem:
        missing = [each for each in self._needs if each not in request.query_params]
        mistakes = [Mistake(f"query.{each}", "is missing; it must be given") for each in missing]
        mistakes.append(Mistake(where, "give one of date, start with end, or timeframe"))
        said = "; ".join(f"{each.where}: {each.problem}" for each in mistakes)
        return Problem(422, "invalid", said, mistakes=mistakes)


def check_day(text: str, *place: str) -> None:
    """Refuse what is not a day of the calendar. Raises Problem."""
    if not _DAY.fullmatch(text):
        raise invalid(".".join(place), f"{text[:40]!r} is not a day; write 2026-01-02")
    with placed(*place[:-1]):
        parse_instant(text, (place[-1],))


def _range(start: str | None, end: str | None) -> dict[str, str]:
    written = {name: text for name, text in (("start", start), ("end", end)) if text is not None}
    for name, text in written.items():
        with placed("query"):
            parse_instant(text, (name,))
    return written


def selection_of(key: Key, asked: Asked, day: str | None = None) -> Selection:
    """The events that are asked for, before the limits of the key. Raises Problem."""
    form = QueryForm.model_construct(
        filter=[] if asked.filter is None else json_parameter(asked.filter, "filter"),
        timeframe=day or asked.timeframe,
        timezone=asked.timezone,
        tenants=list(asked.tenants) or None,
        projects=list(asked.projects) or None,
        collections=list(asked.collections) or None,
    )
    return select(key, form, "query")
