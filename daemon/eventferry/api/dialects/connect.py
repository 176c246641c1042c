"""Connect's export of events: a few at once, many into the S3 bucket of whoever asks, and its monitor."""

from threading import Event
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from eventferry import clock
from eventferry.access.keys import Key
from eventferry.api.abandoning import run_while_connected
from eventferry.api.auth import Credential, Requires, Way
from eventferry.api.dialects import connect_request, connect_shape, inline
from eventferry.api.dialects.json_text import read_body
from eventferry.api.events import start_read
from eventferry.api.parts import Parts
from eventferry.api.problems import Problem, not_found
from eventferry.api.streaming import Stream
from eventferry.api.surface import Surface
from eventferry.exports import requests
from eventferry.exports.egress import Egress
from eventferry.exports.model import Output, Selection
from eventferry.exports.wanted import Wanted

MOST_AT_ONCE = 10_000
MOST_TO_S3 = 1_000_000
NAME = "{id}.json"


def _find(request: Request) -> Credential | None:
    project, token = (request.headers.get(name, "").strip() for name in ("x-project-id", "x-api-key"))
    return Credential(token, project) if project and token else None


def _is_of_project(key: Key, credential: Credential) -> bool:
    """A project that the key does not know is answered as a wrong key is."""
    return key.realm.projects is None or credential.user in key.realm.projects


PROJECT_KEY = Way("connect", {"type": "apiKey", "in": "header", "name": "X-Api-Key"}, _find)
EVENTS = Requires("events", (PROJECT_KEY,), _is_of_project)
EXPORTS = Requires("exports", (PROJECT_KEY,), _is_of_project)

Collection = Annotated[str, Path(description="The collection to export.")]
Project = Annotated[str, Header(alias="X-Project-Id", description="The project that the collection belongs to.")]

_TOO_MANY: dict[int | str, dict[str, Any]] = {413: {"description": "Too Many Results", "model": connect_shape.Said}}

_MONITOR = {"description": "The absolute URL of its monitor.", "schema": {"type": "string", "format": "uri"}}
_CREATED: dict[int | str, dict[str, Any]] = {201: {"description": "Created", "headers": {"Location": _MONITOR}}}


class Results(BaseModel):
    """Raw events."""

    results: list[dict[str, Any]]


class Monitor(BaseModel):
    """How far an export to S3 is. Times are UTC; bytes are those of the file."""

    model_config = ConfigDict(extra="forbid")

    filename: str
    collection: str
    status: connect_shape.Status
    created: str
    started: str | None
    finished: str | None
    error: str | None
    percentDone: int
    transferredBytes: int
    totalBytes: int


def _build(parts: Parts) -> APIRouter:
    routes = APIRouter(prefix="/events")

    @routes.get("/{collection}/export", response_model=Results, responses=_TOO_MANY)
    async def export_at_once(
        request: Request,
        collection: Collection,
        project: Project,
        key: Annotated[Key, Depends(EVENTS)],
        query: Annotated[str, Query(description="The query as JSON: filter, timeframe, timezone.")] = "",
    ) -> Response:
        """Up to 10,000 events of a collection."""
        connect_request.check_parameters(request.query_params)
        selection = connect_request.parse_text(query).selection(project, collection, clock.now())
        return await run_while_connected(request, lambda gone: _at_once(request, parts, key, selection, gone))

    @routes.post(
        "/{collection}/export",
        status_code=201,
        response_class=Response,
        responses=_CREATED,
        openapi_extra=connect_request.BODY,
    )
    def export_to_s3(
        collection: Collection,
        project: Project,
        key: Annotated[Key, Depends(EXPORTS)],
        body: Annotated[bytes, Depends(read_body)],
    ) -> Response:
        """Up to 1,000,000 events of a collection into a bucket, with the credentials given; Location is the monitor."""
        asked = connect_request.parse_body(body, Egress(parts.config.exports.allow_endpoints))
        made = requests.create(parts.desk, key, _wanted(asked, project, collection))
        monitor = f"{parts.desk.base_url}/events/{quote(collection, safe='')}/export/{made.id}"
        return Response(status_code=201, headers={"Location": monitor})

    @routes.get("/{collection}/export/{id}", response_model=Monitor)
    def monitor(collection: Collection, id: str, project: Project, key: Annotated[Key, Depends(EXPORTS)]) -> Response:
        """How far an export to S3 is."""
        row = requests.get(parts.desk, key, id)
        if (row.dialect, row.details) != ("connect", {"project": project, "collection": collection}):
            raise not_found(f"there is no export {id}")
        return JSONResponse(connect_shape.monitor(row))

    return routes


def _at_once(request: Request, parts: Parts, key: Key, selection: Selection, gone: Event) -> Response:
    """The events in one response. Raises Problem, 413, where they are too many for that."""
    try:
        found = inline.gather(start_read(parts, key, selection), MOST_AT_ONCE, gone)
    except inline.TooManyEvents as error:
        said = f"{error}, too many for one response; POST the query to export up to {MOST_TO_S3:,} to Amazon S3"
        raise Problem(413, "too-large", said) from None
    return Stream(found.stream(b'{"results":'), "application/json", gzip_for=request)


def _wanted(asked: connect_request.AskedToS3, project: str, collection: str) -> Wanted:
    return Wanted(
        selection=asked.query.selection(project, collection, clock.now()),
        output=Output("ndjson", part_bytes=None, max_events=MOST_TO_S3),
        asked=asked.query.written,
        destination=asked.destination(NAME),
        dialect="connect",
        details={"project": project, "collection": collection},
    )


SURFACE = Surface("connect", ("/events/",), _build, connect_shape.answer, connect_shape.SCHEMA)
