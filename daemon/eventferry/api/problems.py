"""What can go wrong with a request, in words that every dialect translates into its own shape."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response

MEDIA_TYPE = "application/problem+json"

_TEXT = {"type": "string"}
SCHEMA: Mapping[str, Any] = {
    "title": "Problem",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "instance": _TEXT,
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["where", "problem"],
                "properties": {"where": _TEXT, "problem": _TEXT},
            },
        },
    },
}


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong with what was sent: where it stands (`body.filter[2].op`), and what to do about it."""

    where: str
    problem: str


class Problem(Exception):
    """An answer other than success. `kind` is a stable slug for programs, `detail` a sentence for people."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        mistakes: Sequence[Mistake] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status = status
        self.kind = kind
        self.detail = detail
        self.mistakes = tuple(mistakes)
        self.headers = dict(headers or {})
        super().__init__(detail)

    @property
    def title(self) -> str:
        """The status in words: Not Found."""
        return HTTPStatus(self.status).phrase


def invalid(where: str, problem: str, status: int = 422) -> Problem:
    """One mistake in the request."""
    return Problem(status, "invalid", f"{where}: {problem}", mistakes=[Mistake(where, problem)])


def not_found(what: str = "There is nothing here.") -> Problem:
    """What does not exist, and what belongs to others: the same words for both."""
    return Problem(404, "not-found", what)


def as_data(problem: Problem, instance: str | None = None) -> dict[str, Any]:
    """The members of RFC 9457 problem details."""
    data: dict[str, Any] = {
        "type": f"urn:eventferry:problem:{problem.kind}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
    }
    if instance:
        data["instance"] = instance
    if problem.mistakes:
        data["errors"] = [{"where": each.where, "problem": each.problem} for each in problem.mistakes]
    return data


def shape(request: Request, problem: Problem) -> Response:
    """A problem as RFC 9457 problem details: the shape of the native API and of everything without a dialect."""
    body = json.dumps(as_data(problem, request.url.path), ensure_ascii=True).encode()
    return Response(body, problem.status, problem.headers, MEDIA_TYPE)
