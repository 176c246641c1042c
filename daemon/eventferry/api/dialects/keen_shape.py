"""What Keen's rows of extractions and its errors look like."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from eventferry import clock
from eventferry.access import links
from eventferry.api.parts import Parts
from eventferry.api.problems import Mistake, Problem
from eventferry.exports.requests import CSV_NAME
from eventferry.ledger.exports import ExportRow

Status = Literal["not started", "complete", "failed"]

# The documents know no word for an extraction at work: it is not started until it is complete.
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
    "expired": "the file has expired; make the extraction again",
}
# Words of Keen's own for what goes wrong, as far as they are known; the others follow their pattern.
_CODES = {
    "bad-json": "InvalidJSONError",
    "invalid": "InvalidRequestError",
    "unauthenticated": "InvalidApiKeyError",
    "forbidden": "AccessDeniedError",
    "not-found": "ResourceNotFoundError",
    "gone": "ResourceNotFoundError",
    "method-not-allowed": "MethodNotAllowedError",
    "too-large": "RequestTooLargeError",
    "too-many": "TooManyRequestsError",
    "internal": "InternalServerError",
}
TIMEFRAME, FILTER, PROPERTY = "TimeframeDefinitionError", "FilterDefinitionError", "InvalidPropertyNameError"
MISSING, UNKNOWN = "MissingRequiredRequestFieldError", "UnknownRequestFieldError"


class Row(BaseModel):
    """An extraction. `results_url` is there once it is complete, for as long as its file is kept."""

    model_config = ConfigDict(json_schema_extra={"required": ["_id", "status"]})

    status: Status
    results_url: str | None = None
    reason: str | None = None


class Failing(Problem):
    """A problem with a code of Keen's."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(status, "invalid", message)
        self.code = code


SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {"message": {"type": "string"}, "error_code": {"type": "string"}},
    "required": ["message", "error_code"],
}
_ROW = {
    "type": "object",
    "properties": {
        "_id": {"type": "string"},
        "status": {"enum": ["not started", "complete", "failed"]},
        "results_url": {"type": "string", "description": "CSV; there once the extraction is complete."},
        "reason": {"type": "string", "description": "Why there is no file."},
    },
    "required": ["_id", "status"],
}
