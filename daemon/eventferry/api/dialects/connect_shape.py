"""What Connect's monitor of an export and its errors look like."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from eventferry import clock
from eventferry.api.problems import Mistake, Problem
from eventferry.exports.runner import MAKING_PERCENT
from eventferry.ledger.exports import ExportRow

Status = Literal["Pending", "Running", "Complete", "Failed"]

_STATUSES: Mapping[str, Status] = {
    "queued": "Pending",
    "running": "Running",
    "complete": "Complete",
    "expired": "Complete",  # what lies in the bucket stays there
    "failed": "Failed",
    "cancelled": "Failed",
}
_REFUSED = "X-Project-Id and X-Api-Key do not open this project"


class Said(BaseModel):
    """An error in one sentence."""

    errorMessage: str


_SENTENCE = Said.model_json_schema()
_MISTAKE = {
    "type": "object",
    "properties": {"field": {"type": "string"}, "description": {"type": "string"}},
    "required": ["field", "description"],
}
_LIST = {"type": "object", "properties": {"errors": {"type": "array", "items": _MISTAKE}}, "required": ["errors"]}
SCHEMA: Final[Mapping[str, Any]] = {"oneOf": [_SENTENCE, _LIST]}


def monitor(row: ExportRow) -> dict[str, Any]:
    """The ten properties of an export."""
    status = _STATUSES[row.state]
    reason = "the export was cancelled" if row.state == "cancelled" else row.reason
    return {
        "filename": f"{row.id}.json",
        "collection": row.details["collection"],
        "status": status,
        "created": iso(row.created_ms),
        "started": None if status == "Pending" else iso(row.started_ms),
        "finished": iso(row.finished_ms) if status in ("Complete", "Failed") else None,
        "error": reason if status == "Failed" else None,
        "percentDone": row.percent,
        "transferredBytes": _sent(row),
        "totalBytes": row.bytes,
    }


def _sent(row: ExportRow) -> int:
    """About how many bytes the bucket has: the last part of the percentage is that of the transfer."""
    return row.bytes * max(0, row.percent - MAKING_PERCENT) // (100 - MAKING_PERCENT)


def iso(ms: int | None) -> str | None:
    """2015-07-28T23:18:44.698Z."""
    return None if ms is None else clock.from_ms(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def answer(request: Request, problem: Problem) -> Response:
    """A problem: 422 with a list of fields for what is wrong with the request, else a sentence."""
    if problem.status in (400, 422):
        mistakes = problem.mistakes or (Mistake("query", problem.detail),)
        return JSONResponse({"errors": [_shape(each) for each in mistakes]}, 422)
    said = _REFUSED if problem.status == 401 else problem.detail
    return JSONResponse({"errorMessage": said}, problem.status)


def _shape(mistake: Mistake) -> dict[str, str]:
    """A place such as `body.destination.url` in the words of the request."""
    where = mistake.where.removeprefix("body.")
    field = "s3Path" if where.startswith("destination") else where.removeprefix("header.")
    return {"field": field, "description": mistake.problem}
