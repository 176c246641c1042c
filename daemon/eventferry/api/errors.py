"""Turns everything that is raised while a request is answered into an answer of its surface's shape."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, ExceptionHandler, Message, Receive, Scope, Send

from eventferry.api.abandoning import Abandoned
from eventferry.api.problems import Mistake, Problem, invalid
from eventferry.api.surface import Surface, answer
from eventferry.errors import EventferryError, StoreError
from eventferry.exports import refusals
from eventferry.exports.formats.parquet import ParquetMissing
from eventferry.exports.reading import Missing
from eventferry.exports.survey import TooManyProperties
from eventferry.logs import get_logger
from eventferry.query.problems import QueryError, dotted

logger = get_logger()

# Of fields whose values open something; a webhook's address is often all that one needs to write to it.
_SECRET = re.compile(r"secret|token|password|access_?key|api_?key|webhook", re.IGNORECASE)
_KINDS = {404: "not-found", 405: "method-not-allowed", 413: "too-large", 415: "wrong-media-type"}
_SAYS = {
    404: "there is nothing at this path",
    405: "this path does not know this method; the Allow header names those that it knows",
}


def install(app: FastAPI, surfaces: Sequence[Surface]) -> None:
    """Have every exception answered by the surface that the path belongs to."""
    for kind, translate in _TRANSLATORS.items():
        app.add_exception_handler(kind, _handler(surfaces, translate))


class Unexpected:
    """Answers what nobody expected as a 500 of the path's shape; inside of what adds headers and writes the log."""

    def __init__(self, app: ASGIApp, surfaces: Sequence[Surface]) -> None:
        self._app = app
        self._surfaces = surfaces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        started = False

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except (Abandoned, ClientDisconnect):
            return  # nobody is there to be answered
        except Exception as error:
            problem = _from_failure(error)
            if not started and scope["type"] == "http":
                await answer(self._surfaces, Request(scope), problem)(scope, receive, send)


def _handler(surfaces: Sequence[Surface], translate: Any) -> ExceptionHandler:
    def handle(request: Request, error: Exception) -> Response:
        problem = translate(error)
        if problem.status == 405:
            problem.headers["Allow"] = ", ".join(_methods_at(request))
        return answer(surfaces, request, problem)

    return handle


def _methods_at(request: Request) -> list[str]:
    """Every method of the path; the framework names those of its first route only."""
    routes = [each for each in request.app.routes if each.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for each in routes for method in getattr(each, "methods", None) or ()})


def _from_problem(problem: Problem) -> Problem:
    return problem


def _from_http(error: HTTPException) -> Problem:
    if error.status_code == 400:  # only FastAPI raises it, for what json.loads refuses without a position
        said = "the body is not JSON: not UTF-8, or nested too deeply"
        return Problem(400, "bad-json", said, mistakes=[Mistake("body", said)])
    kind = _KINDS.get(error.status_code, "refused")
    detail = _SAYS.get(error.status_code, str(error.detail))
    return Problem(error.status_code, kind, detail, headers=error.headers)


def _from_query(error: QueryError) -> Problem:
    mistakes = [Mistake(dotted(where), text) for where, text in error.problems]
    return Problem(422, "invalid", str(error), mistakes=mistakes)


def _from_refusal(error: refusals.ExportRefused) -> Problem:
    said = str(error)
    match error:
        case refusals.Gone():
            return Problem(410, "gone", said)
        case refusals.NotFound():
            return Problem(404, "not-found", said)
        case refusals.NotReady():
            return Problem(409, "not-ready", said)
        case refusals.NotPossible():
            return invalid(f"body.{error.field}", said)
        case refusals.Conflict():
            return Problem(409, "conflict", said)
        case refusals.TooMany():
            return Problem(429, "too-many", said, headers={"Retry-After": str(error.retry_after)})
    return Problem(400, "refused", said)


def _from_store(error: StoreError) -> Problem:
    logger.warning("store.failed", error=str(error))
    said = "the store does not answer; try again later"  # its own words name buckets, paths and files: not the client's
    return Problem(503, "unavailable", said, headers={"Retry-After": "30"})


def _from_missing(error: Missing) -> Problem:
    return Problem(410, "gone", error.sentence)


def _from_unwritable(error: EventferryError) -> Problem:
    said = error.sentence if isinstance(error, ParquetMissing) else str(error)
    return Problem(422, "invalid", said, mistakes=[Mistake("format", said)])


def _from_failure(error: Exception) -> Problem:
    logger.error("request.failed", error=f"{type(error).__name__}: {error}", exc_info=error)
    return Problem(500, "internal", "the server failed to answer; its log says why")


def _from_validation(error: RequestValidationError) -> Problem:
    for each in error.errors():
        if each["type"] == "json_invalid":
            return _from_bad_json(each)
        if tuple(each["loc"]) == ("body",) and isinstance(each.get("input"), bytes):  # it was not even parsed
            said = "the body must be JSON and say so: send Content-Type: application/json"
            return Problem(415, "wrong-media-type", said, mistakes=[Mistake("body", said)])
    mistakes = [mistake_of(each) for each in error.errors()[:20]]
    said = "; ".join(f"{each.where}: {each.problem}" for each in mistakes[:3])
    return Problem(422, "invalid", said, mistakes=mistakes)


def _from_bad_json(detail: Mapping[str, Any]) -> Problem:
    reason = detail.get("ctx", {}).get("error", "it cannot be parsed")
    place = detail["loc"][-1]
    said = f"the body is not JSON: {reason} at character {place}"
    return Problem(400, "bad-json", said, mistakes=[Mistake("body", said)])


def mistake_of(detail: Mapping[str, Any]) -> Mistake:
    """One finding of pydantic with the place as people write it, the value, and what to write instead."""
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in detail["loc"]).lstrip(".")
    kind, message = detail["type"], re.sub(r"^Value error, ", "", detail["msg"])
    if kind == "missing":
        return Mistake(where, "is missing; it must be given")
    if kind in {"model_type", "model_attributes_type", "dict_type"}:
        return Mistake(where, "must be a JSON object")
    if kind == "extra_forbidden":
        return Mistake(where, "is not known; leave it out, or see /openapi.json for the names")
    said = message[:1].lower() + message[1:]
    if isinstance(detail.get("input"), dict | list) or _SECRET.search(where):
        return Mistake(where, said)  # clients write into their logs what they are answered
    value = repr(detail.get("input"))
    shown = value if len(value) <= 60 else f"{value[:57]}…"
    return Mistake(where, said if shown in said else f"{shown}: {said}")


_TRANSLATORS: dict[type[Exception], Any] = {
    Problem: _from_problem,
    HTTPException: _from_http,
    RequestValidationError: _from_validation,
    QueryError: _from_query,
    refusals.ExportRefused: _from_refusal,
    StoreError: _from_store,
    Missing: _from_missing,
    TooManyProperties: _from_unwritable,
    ParquetMissing: _from_unwritable,
}
