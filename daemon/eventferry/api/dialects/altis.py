"""The dialect of Altis' events endpoint: the events of a day, streamed as JSON or CSV."""

import datetime as dt
import re
import threading
from collections.abc import Generator
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import JSONResponse

from eventferry import clock
from eventferry.access.keys import Key
from eventferry.api import auth
from eventferry.api.abandoning import run_while_connected, stop_when
from eventferry.api.auth import Credential, Requires, Way
from eventferry.api.dialects.altis_accept import prefers_csv
from eventferry.api.events import DAY_MS, Read, cache_of, pieces_of, start_read
from eventferry.api.parts import Parts
from eventferry.api.problems import Problem, invalid, not_found
from eventferry.api.streaming import Stream
from eventferry.api.surface import Surface
from eventferry.exports import shape, surveying
from eventferry.exports.model import Output, Selection

MOST_AT_ONCE = 10_000
USUAL_AT_ONCE = 3000
# The plugin's name when the document was written, and since.
NAMESPACES = ("/wp-json/analytics/v1", "/wp-json/accelerate/v1")
MEDIA_TYPES = {"json": "application/json; charset=UTF-8", "csv": "text/csv; charset=UTF-8"}

Format = Annotated[
    Literal["json", "csv"], Query(description="An Accept header whose best match is text/csv goes first.")
]
ChunkSize = Annotated[
    float,
    Query(allow_inf_nan=False, description=f"Events per piece of the answer; below 1 is 1, above {MOST_AT_ONCE} that."),
]


def _application_password(request: Request) -> Credential | None:
    """WordPress shows application passwords in groups, with blanks between them that mean nothing."""
    found = auth.BASIC.find(request)
    return None if found is None else Credential("".join(found.token.split()), found.user)


def _is_owner(key: Key, credential: Credential) -> bool:
    """WordPress' user names differ in more than their case."""
    return credential.user is not None and credential.user.strip().casefold() == key.owner.casefold()


PASSWORD = Way("application-password", auth.BASIC.scheme, _application_password, auth.BASIC.challenge)
MayRead = Annotated[Key, Depends(Requires("events", ways=(PASSWORD,), check=_is_owner))]


@dataclass(frozen=True, slots=True)
class ChunkedRead(Read):
    """A read in pieces of at most so many events."""

    chunk: int

    @property
    def headers(self) -> dict[str, str]:
        """X-Complete alone: the total has another name here."""
        return {"X-Complete": "true" if self.is_complete else "false"}

    def bodies(self) -> Generator[bytes]:
        """Canonical NDJSON, piece by piece."""
        for body in Read.bodies(self):
            yield from shape.pieces_of(body, self.chunk)


_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The events. A body that breaks off (no last chunk) is not complete.",
        "headers": {
            "X-WP-Total": {"description": "How many events there are.", "schema": {"type": "integer"}},
            "X-Complete": {
                "description": "Whether the day is wholly indexed.",
                "schema": {"type": "string", "enum": ["true", "false"]},
            },
        },
        "content": {"application/json": {"schema": {"type": "array", "items": {"type": "object"}}}, "text/csv": {}},
    },
    400: {"description": "No day of the calendar, or a bad argument.", "content": {"application/json": {}}},
}


def _build(parts: Parts) -> APIRouter:
    routes = APIRouter()

    async def get_events_of_day(
        request: Request,
        key: MayRead,
        day: Annotated[str, InPath(description="YYYY-MM-DD, in UTC", json_schema_extra={"format": "date"})],
        format: Format = "json",
        chunk_size: ChunkSize = USUAL_AT_ONCE,
    ) -> Response:
        """The events of a day, streamed."""
        start = _start_of(day)
        chosen: Literal["json", "csv"] = "csv" if prefers_csv(request.headers.get("accept", "")) else format
        chunk = int(min(max(chunk_size, 1), MOST_AT_ONCE))

        def work(gone: threading.Event) -> tuple[Read, int]:
            found = start_read(parts, key, Selection(start_ms=start, end_ms=start + DAY_MS))
            planned, cache = list(found.planned), cache_of(parts)
            total = surveying.count(planned, found.sources, found.selection, cache, stop_when(gone))
            return replace(found, planned=iter(planned)), total

        found, total = await run_while_connected(request, work)
        gone = threading.Event()
        chunked = ChunkedRead(**{each.name: getattr(found, each.name) for each in fields(found)}, chunk=chunk)
        headers = {**chunked.headers, "X-WP-Total": str(total), "X-Accel-Buffering": "no"}
        pieces = pieces_of(chunked, Output(chosen), gone)
        return Stream(pieces, MEDIA_TYPES[chosen], headers=headers, gzip_for=request, gone=gone)

    for namespace in NAMESPACES:
        for slash in ("", "/"):
            path = f"{namespace}/events/{{day}}{slash}"
            routes.get(path, response_class=Response, responses=_RESPONSES)(get_events_of_day)
    return routes


def _start_of(day: str) -> int:
    """Epoch ms at which the day begins. Raises Problem: 404 for what does not look like a day, 400 for what is none."""
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", day, re.ASCII):
        raise not_found("no route was found matching the URL; it ends in a day, such as 2026-01-31")
    try:
        return clock.to_ms(dt.datetime.fromisoformat(f"{day}T00:00:00+00:00"))
    except ValueError:
        raise invalid("path.date", f"{day} is not a day of the calendar; write one as YYYY-MM-DD", 400) from None


_CODES = {
    "invalid": "rest_invalid_param",
    "unauthenticated": "rest_forbidden",
    "forbidden": "rest_forbidden",
    "not-found": "rest_no_route",
    "method-not-allowed": "rest_no_route",
    "internal": "internal_server_error",
}


def _shape(request: Request, problem: Problem) -> Response:
    """`{"code": "rest_…", "message": "…", "data": {"status": 400}}`, as WordPress answers."""
    status = 400 if problem.status == 422 else problem.status
    data: dict[str, Any] = {"status": status}
    message = problem.detail
    if problem.kind == "invalid" and problem.mistakes:
        data["params"] = {each.where.rpartition(".")[2]: each.problem for each in problem.mistakes}
        message = f"Invalid parameter(s): {', '.join(data['params'])}"
    code = _CODES.get(problem.kind, f"rest_{problem.kind.replace('-', '_')}")
    return JSONResponse({"code": code, "message": message, "data": data}, status)


_FAILURE = {
    "title": "WordPressFailure",
    "type": "object",
    "required": ["code", "message", "data"],
    "properties": {
        "code": {"type": "string"},
        "message": {"type": "string"},
        "data": {
            "type": "object",
            "required": ["status"],
            "properties": {
                "status": {"type": "integer"},
                "params": {"type": "object", "additionalProperties": {"type": "string"}},
            },
        },
    },
}

SURFACE = Surface("altis", ("/wp-json",), _build, _shape, _FAILURE)
