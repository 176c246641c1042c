"""The saved queries of Gooee's dialect: a name with a filter and a timeframe in the native forms."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Body, Response
from pydantic import BaseModel, Field

from eventferry import clock
from eventferry.api.dialects.gooee_forms import QueryForm, read_form
from eventferry.api.dialects.gooee_pages import After, Limit, MayExport, link_next, moment, request_body
from eventferry.api.parts import Parts
from eventferry.api.problems import Mistake, Problem
from eventferry.exports import queries
from eventferry.exports.model import Selection
from eventferry.ledger.saved_queries import SavedQuery
from eventferry.query import native
from eventferry.query.expression import Path, split_path
from eventferry.query.problems import QueryError, dotted
from eventferry.query.scope import Scope
from eventferry.query.timeframe import parse_native


class AnalyticsQuery(BaseModel):
    """A saved query; filter, timeframe, timezone and fields are as they were written."""

    id: str
    created: str
    modified: str
    created_by: str = Field(description="The id of the key that made it.")
    name: str
    notes: str
    tags: list[str]
    filter: list[Any] | dict[str, Any]
    timeframe: str | dict[str, Any] | None
    timezone: str | None
    fields: list[str]


def add_to(routes: APIRouter, parts: Parts) -> None:
    """Register the routes below /queries, with and without a slash at the end."""

    def create_query(key: MayExport, data: Annotated[Any, Body()]) -> AnalyticsQuery:
        """Save a query; exports name it by its id."""
        form = _read(data)
        return _shown(queries.save(parts.desk, key, form.name, _written(form), notes=form.notes, tags=form.tags))

    def list_queries(
        key: MayExport, response: Response, limit: Limit = 100, after: After = None
    ) -> list[AnalyticsQuery]:
        """The saved queries that this key may see, newest first; the Link header names the next page."""
        page = queries.list_page(parts.desk, key, limit=limit, after=after)
        link_next(response, parts, "/analytics/queries/", limit, page.next)
        return [_shown(row) for row in page.rows]

    def get_query(id: str, key: MayExport) -> AnalyticsQuery:
        """One saved query."""
        return _shown(queries.get(parts.desk, key, id))

    def replace_query(id: str, key: MayExport, data: Annotated[Any, Body()]) -> AnalyticsQuery:
        """Say all of a saved query anew; exports that were made from it stay as they are."""
        queries.get(parts.desk, key, id)
        form = _read(data)
        changed = queries.change(
            parts.desk, key, id, name=form.name, notes=form.notes, tags=form.tags, query=_written(form)
        )
        return _shown(changed)

    def delete_query(id: str, key: MayExport) -> None:
        """Forget a saved query; exports that were made from it stay."""
        queries.delete(parts.desk, key, id)

    body = request_body(QueryForm)
    for slash in ("", "/"):
        routes.post(f"/queries{slash}", status_code=201, openapi_extra=body)(create_query)
        routes.get(f"/queries{slash}")(list_queries)
        routes.get(f"/queries/{{id}}{slash}")(get_query)
        routes.put(f"/queries/{{id}}{slash}", openapi_extra=body)(replace_query)
        routes.delete(f"/queries/{{id}}{slash}", status_code=204)(delete_query)


def resolve(saved: SavedQuery) -> tuple[Selection, tuple[Path, ...]]:
    """What the query selects if it is asked now, and the fields that it wants. Raises QueryError."""
    query = saved.query
    filter_ = native.parse_filter(query.get("filter") or [])
    during = parse_native(query.get("timeframe"), query.get("timezone"), clock.now())
    fields = tuple(split_path(text) for text in query.get("fields") or [])
    return Selection(Scope.from_data(json.loads(saved.scope)), filter_, during.start_ms, during.end_ms), fields


def _read(data: object) -> QueryForm:
    """A query that can be asked. Raises Problem with everything that is wrong."""
    form = read_form(QueryForm, data)
    mistakes: list[Mistake] = []
    with _gathered(mistakes, "filter"):
        native.parse_filter(form.filter)
    with _gathered(mistakes):
        parse_native(form.timeframe, form.timezone, clock.now())
    for number, text in enumerate(form.fields):
        try:
            split_path(text)
        except ValueError as error:
            mistakes.append(Mistake(f"fields[{number}]", str(error)))
    if mistakes:
        raise Problem(400, "invalid", "the query is not valid", mistakes=mistakes[:20])
    return form


@contextmanager
def _gathered(mistakes: list[Mistake], *place: str) -> Iterator[None]:
    """Add what is wrong with a part of the query to the mistakes."""
    try:
        yield
    except QueryError as error:
        mistakes += [Mistake(dotted((*place, *where)), text) for where, text in error.problems]


def _written(form: QueryForm) -> dict[str, Any]:
    return form.model_dump(include={"filter", "timeframe", "timezone", "fields"})


def _shown(row: SavedQuery) -> AnalyticsQuery:
    return AnalyticsQuery(
        id=row.id,
        created=moment(row.created_ms),
        modified=moment(row.modified_ms),
        created_by=row.key_id,
        name=row.name,
        notes=row.notes,
        tags=list(row.tags),
        filter=row.query.get("filter") or [],
        timeframe=row.query.get("timeframe"),
        timezone=row.query.get("timezone"),
        fields=row.query.get("fields") or [],
    )
