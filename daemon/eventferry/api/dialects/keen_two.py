"""Keen's API 2.0: extractions of a collection to a CSV file, and the unique values of a property."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from eventferry import clock
from eventferry.access.keys import Key
from eventferry.api.abandoning import run_while_connected
from eventferry.api.auth import API_KEY_PARAMETER, BARE, Requires
from eventferry.api.dialects.json_text import read_body
from eventferry.api.dialects.keen_project import Project, answer_unique, check_project
from eventferry.api.dialects.keen_request import (
    Where,
    distinct_property,
    email_of,
    read_object,
    read_parameters,
    selection_of,
    written,
)
from eventferry.api.dialects.keen_shape import MISSING, Extraction, Failing, shape_row
from eventferry.api.parts import Parts
from eventferry.api.problems import not_found
from eventferry.exports import requests
from eventferry.exports.model import Output
from eventferry.exports.wanted import Notify, Wanted
from eventferry.ledger.exports import ExportRow

MOST_ROWS = 1000  # of a list
NAMES = ("_extract", "_extracts")  # the page and the reference disagree; both are the same

EXPORTS = Requires("exports", (BARE,))
EVENTS = Requires("events", (API_KEY_PARAMETER, BARE))

Collection = Annotated[str, Path(description="The collection that is extracted.")]
Exporting = Annotated[Key, Depends(EXPORTS)]

_PLACE = "/2.0/projects/{project}/{collection}"
_FIELDS = ("filters", "timeframe", "email", "email_address")
_FILTER = {
    "type": "object",
    "properties": {"property_name": {"type": "string"}, "operator": {"type": "string"}, "property_value": {}},
    "required": ["property_name", "operator"],
}
_BODY = {
    "type": "object",
    "properties": {
        "filters": {"type": "array", "items": _FILTER},
        "timeframe": {"type": ["string", "object"]},
        "email": {"type": "string"},
        "email_address": {"type": "string"},
    },
    "required": ["filters"],
    "additionalProperties": False,
}
_REQUEST: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/json": {"schema": _BODY}}}}


def add_to(routes: APIRouter, parts: Parts) -> None:
    """Register the routes."""
    for name in NAMES:
        _add_extractions(routes, parts, f"{_PLACE}/{name}")

    @routes.get(f"{_PLACE}/_select_unique", response_model=dict[str, list[Any]])
    async def select_unique(
        request: Request,
        project: Project,
        collection: Collection,
        key: Annotated[Key, Depends(EVENTS)],
        distinct_property_: Annotated[str, Query(alias="distinct_property", description='["body:user:email"]')] = "",
        filters: Annotated[str, Query(description="A list of filters as JSON.")] = "[]",
        timeframe: Annotated[str, Query(description='A word such as last_7_days, or {"start", "end"} as JSON.')] = "",
    ) -> Response:
        """The unique values of one property."""
        check_project(key, project)
        asked = read_parameters(request.query_params, ("distinct_property", "filters", "timeframe", "api_key"))
        if "distinct_property" not in asked:
            raise Failing(MISSING, 'distinct_property is missing; write ["body:user:email"]')
        path = distinct_property(asked["distinct_property"])
        selection = selection_of(Where(2, project, collection), asked, clock.now())
        return await run_while_connected(
            request, lambda gone: answer_unique(parts, key, selection, path, "results", gone)
        )


def _add_extractions(routes: APIRouter, parts: Parts, path: str) -> None:
    @routes.post(path, response_model=Extraction, response_model_exclude_none=True, openapi_extra=_REQUEST)
    def extract(
        project: Project, collection: Collection, key: Exporting, body: Annotated[bytes, Depends(read_body)]
    ) -> Response:
        """Extract events to a CSV file."""
        check_project(key, project)
        asked = read_object(body, _FIELDS)
        if "filters" not in asked:
            raise Failing(MISSING, "filters is missing; write [] where every event is wanted")
        email = email_of(asked)
        wanted = Wanted(
            selection=selection_of(Where(2, project, collection), asked, clock.now()),
            output=Output("csv", part_bytes=None, formula_guard=bool(email)),
            asked=written(asked),
            notify=Notify(email),
            dialect="keen",
            details=_place(project, collection),
        )
        return JSONResponse(shape_row(parts, key, requests.create(parts.desk, key, wanted)))

    def listed(project: Project, collection: Collection, key: Exporting) -> Response:
        """The newest extractions of a collection, newest first."""
        check_project(key, project)
        rows = _newest(parts, key, _place(project, collection))
        return JSONResponse([shape_row(parts, key, row) for row in rows])

    def one(project: Project, collection: Collection, id: str, key: Exporting) -> Response:
        """An extraction, with the link to its file once it is complete."""
        check_project(key, project)
        row = requests.get(parts.desk, key, id)
        if row.dialect != "keen" or row.details != _place(project, collection):
            raise not_found(f"there is no export {id}")
        return JSONResponse(shape_row(parts, key, row))

    for way in (routes.get, routes.head):
        way(path, response_model=list[Extraction])(listed)
        way(f"{path}/{{id}}", response_model=Extraction)(one)


def _place(project: str, collection: str) -> dict[str, str]:
    return {"project": project, "collection": collection}


def _newest(parts: Parts, key: Key, place: dict[str, str]) -> list[ExportRow]:
    found: list[ExportRow] = []
    after: int | None = None
    while len(found) < MOST_ROWS:
        page = requests.list_page(parts.desk, key, limit=MOST_ROWS, after=after, dialect="keen")
        found += [row for row in page.rows if row.details == place]
        after = page.next
        if after is None:
            break
    return found[:MOST_ROWS]
