"""What Keen's rows of extractions and its errors look like."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from eventferry import clock
from eventferry.access.keys import Key
from eventferry.access.links import make_link
from eventferry.api.parts import Parts
from eventferry.api.problems import Problem
from eventferry.exports import requests
from eventferry.ledger.exports import ExportRow

Status = Literal["not started", "complete", "failed"]

# The documents have no word for an extraction at work: it is not started until it is complete.
_STATUSES: Mapping[str, Status] = {
    "queued": "not started",
    "running": "not started",
    "complete": "complete",
    "expired": "complete",
    "failed": "failed",
    "cancelled": "failed",
}
_REASONS = {
    "cancelled": "the extraction was cancelled",
    "expired": "its file has expired; make the extraction again",
}

# Keen's own words for what goes wrong, as far as they are known; the others follow their pattern.
MISSING, UNKNOWN = "MissingRequiredRequestFieldError", "UnknownRequestFieldError"
TIMEFRAME, FILTER, PROPERTY = "TimeframeDefinitionError", "FilterDefinitionError", "InvalidPropertyNameError"
NOT_JSON, INVALID, TOO_MANY = "InvalidJSONError", "InvalidRequestFieldError", "ResultTooLargeError"
_CODES = {
    "bad-json": NOT_JSON,
    "invalid": INVALID,
    "unauthenticated": "InvalidApiKeyError",
    "forbidden": "AccessDeniedError",
    "not-found": "ResourceNotFoundError",
    "method-not-allowed": "MethodNotAllowedError",
    "too-large": "RequestTooLargeError",
    "too-many": "TooManyRequestsError",
    "internal": "InternalServerError",
}


class Extraction(BaseModel):
    """An extraction. `results_url` leads to its CSV and is there while that is; `reason` says why it never will be."""

    id: str = Field(alias="_id")
    status: Status
    results_url: str | None = None
    reason: str | None = None


SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {"message": {"type": "string"}, "error_code": {"type": "string"}},
    "required": ["message", "error_code"],
}


class Failing(Problem):
    """A problem with one of Keen's words."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(status, "invalid", message)
        self.code = code


def shape_row(parts: Parts, key: Key, row: ExportRow) -> dict[str, str]:
    """A row; the link in it is valid from now on for as long as [exports] link_life says."""
    shown = {"status": _STATUSES[row.state], "_id": row.id}
    reason = _REASONS.get(row.state) or row.reason
    if reason and shown["status"] != "not started":
        shown["reason"] = reason
    for file in requests.files(parts.desk, key, row.id)[:1] if row.state == "complete" else ():
        link = make_link(parts.keyring, row.id, file.name, clock.now_ms() + _life_ms(parts))
        shown["results_url"] = f"{parts.desk.base_url}{link}"
    return shown


def _life_ms(parts: Parts) -> int:
    return int(parts.desk.settings.link_life.total_seconds() * 1000)


def answer(request: Request, problem: Problem) -> Response:
    """A problem with a message and a word; what is wrong with the request is always 400."""
    code = problem.code if isinstance(problem, Failing) else _CODES.get(problem.kind, "RequestError")
    said, status = (
        problem.detail.removeprefix("body.").removeprefix("notify."),
        400 if problem.status == 422 else problem.status,
    )
    return JSONResponse({"message": said, "error_code": code}, status)
