"""Keen's later names: extractions in one answer or by e-mail, and the unique values of a property."""

from collections.abc import Callable, Mapping
from threading import Event
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from eventferry import clock
from eventferry.access.keys import Key
from eventferry.api.abandoning import run_while_connected
from eventferry.api.auth import API_KEY_PARAMETER, BARE, Requires
from eventferry.api.dialects import inline
from eventferry.api.dialects.json_text import read_body
from eventferry.api.dialects.keen_project import Project, answer_unique, check_project
from eventferry.api.dialects.keen_request import (
    Fields,
    Where,
    choice_of,
    email_of,
    latest_of,
    properties_of,
    property_of,
    read_object,
    read_parameters,
    selection_of,
    text_of,
    written,
)
from eventferry.api.dialects.keen_shape import INVALID, TOO_MANY, Failing
from eventferry.api.events import start_read
from eventferry.api.parts import Parts
from eventferry.api.problems import Problem
from eventferry.api.streaming import Stream
from eventferry.exports import requests
from eventferry.exports.model import Output
from eventferry.exports.wanted import Notify, Wanted

MOST_AT_ONCE = 100_000
MOST_BY_MAIL = 10_000_000
PROCESSING = "Processing. Check the specified email for the extraction results."

EVENTS = Requires("events", (BARE, API_KEY_PARAMETER))
Reading = Annotated[Key, Depends(EVENTS)]
Body = Annotated[bytes, Depends(read_body)]

_PLACE = "/3.0/projects/{project}/queries"
_CSV, _JSON = "text/csv", "application/json"
_QUERY = ("event_collection", "filters", "timeframe", "timezone")
_EXTRACTION = (*_QUERY, "email", "email_address", "latest", "property_names", "content_type", "content_encoding")
_UNIQUE = (*_QUERY, "target_property")
_TYPES: Mapping[str, Any] = {
    "filters": {"type": "array", "items": {"type": "object"}},
    "timeframe": {"type": ["string", "object"]},
    "timezone": {"type": ["string", "integer"]},
    "latest": {"type": "integer", "minimum": 1, "maximum": MOST_BY_MAIL},
    "property_names": {"type": ["array", "string"], "items": {"type": "string"}},
    "content_type": {"enum": [_CSV, _JSON]},
    "content_encoding": {"enum": ["gzip"]},
}


def add_to(routes: APIRouter, parts: Parts) -> None:
    """Register the routes."""

    async def extract(request: Request, project: str, key: Key, asked: Fields) -> Response:
        where = Where(3, project, text_of(asked, "event_collection"))
        if email_of(asked):
            return await run_in_threadpool(_mail, parts, key, where, asked)
        answer = _prepare(parts, key, where, asked)
        return await run_while_connected(request, lambda gone: answer(gone, request))

    async def list_values(request: Request, project: str, key: Key, asked: Fields) -> Response:
        where = Where(3, project, text_of(asked, "event_collection"))
        path = property_of(text_of(asked, "target_property"), "target_property", 3)
        selection = selection_of(where, asked, clock.now())
        return await run_while_connected(
            request, lambda gone: answer_unique(parts, key, selection, path, "result", gone)
        )

    @routes.get(f"{_PLACE}/extraction", openapi_extra=_parameters(_EXTRACTION, "event_collection"))
    async def extraction(request: Request, project: Project, key: Reading) -> Response:
        """Events in one answer; with an e-mail address, a file for it."""
        check_project(key, project)
        return await extract(request, project, key, read_parameters(request.query_params, (*_EXTRACTION, "api_key")))

    @routes.post(f"{_PLACE}/extraction", openapi_extra=_body(_EXTRACTION, "event_collection"))
    async def posted_extraction(request: Request, project: Project, key: Reading, body: Body) -> Response:
        """Events in one answer; with an e-mail address, a file for it."""
        check_project(key, project)
        return await extract(request, project, key, read_object(body, _EXTRACTION))

    @routes.get(f"{_PLACE}/select_unique", openapi_extra=_parameters(_UNIQUE, "event_collection", "target_property"))
    async def select_unique(request: Request, project: Project, key: Reading) -> Response:
        """The unique values of one property."""
        check_project(key, project)
        return await list_values(request, project, key, read_parameters(request.query_params, (*_UNIQUE, "api_key")))

    @routes.post(f"{_PLACE}/select_unique", openapi_extra=_body(_UNIQUE, "event_collection", "target_property"))
    async def posted_select_unique(request: Request, project: Project, key: Reading, body: Body) -> Response:
        """The unique values of one property."""
        check_project(key, project)
        return await list_values(request, project, key, read_object(body, _UNIQUE))


def _prepare(parts: Parts, key: Key, where: Where, asked: Fields) -> Callable[[Event, Request], Response]:
    """What answers with the events themselves. Raises Failing where something is wrong with the request."""
    for name, usual in (("content_type", _JSON), ("content_encoding", None)):
        if asked.get(name, usual) != usual:
            raise Failing(INVALID, f"{name} goes with email only; without it the answer is JSON")
    selection = selection_of(where, asked, clock.now())
    fields, newest = properties_of(asked), latest_of(asked, MOST_AT_ONCE)

    def answer(gone: Event, request: Request) -> Response:
        try:
            found = inline.gather(start_read(parts, key, selection), MOST_AT_ONCE, gone, fields=fields, newest=newest)
        except inline.TooManyEvents as error:
            said = f"{error}, too many for one response; narrow filters or timeframe, or give an email to get a file"
            raise Failing(TOO_MANY, said, 413) from None
        return Stream(found.stream(b'{"result":'), _JSON, gzip_for=request)

    return answer


def _mail(parts: Parts, key: Key, where: Where, asked: Fields) -> Response:
    """Queue an export whose end is told by e-mail."""
    if not key.may("exports"):
        raise Problem(403, "forbidden", "this key lacks the scope 'exports', which an extraction by e-mail needs")
    kind = choice_of(asked, "content_type", (_CSV, _JSON)) or _CSV
    packing = choice_of(asked, "content_encoding", ("gzip",))
    output = Output(
        "json" if kind == _JSON else "csv",
        "none" if packing is None else "gzip",
        part_bytes=None,
        formula_guard=kind == _CSV,
        fields=properties_of(asked),
        latest=latest_of(asked, MOST_BY_MAIL),
        max_events=MOST_BY_MAIL,
    )
    wanted = Wanted(
        selection=selection_of(where, asked, clock.now()),
        output=output,
        asked=written(asked),
        notify=Notify(email_of(asked)),
        dialect="keen",
        details={"project": where.project, "collection": where.collection},
    )
    requests.create(parts.desk, key, wanted)
    return JSONResponse({"result": PROCESSING})


def _parameters(names: tuple[str, ...], *required: str) -> dict[str, Any]:
    """OpenAPI of parameters in a URL, in which everything is text, some of it JSON."""
    return {
        "parameters": [
            {"name": name, "in": "query", "required": name in required, "schema": {"type": "string"}} for name in names
        ]
    }


def _body(names: tuple[str, ...], *required: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {name: _TYPES.get(name, {"type": "string"}) for name in names},
        "required": list(required),
        "additionalProperties": False,
    }
    return {"requestBody": {"required": True, "content": {_JSON: {"schema": schema}}}}
