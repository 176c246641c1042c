"""The native routes that answer with events at once."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi import Path as InPath

from eventferry.access.keys import Key
from eventferry.api.auth import Requires
from eventferry.api.events import MEDIA_TYPES, start_read, stream_events
from eventferry.api.native.asking import Asked, AskedRange, asked_day, check_day, selection_of
from eventferry.api.native.exports import paths_of
from eventferry.api.parts import Parts
from eventferry.api.problems import Problem
from eventferry.exports.model import Output, Selection

Written = Literal["json", "ndjson", "csv"]
FORMATS: tuple[Written, ...] = ("json", "ndjson", "csv")
MayRead = Annotated[Key, Depends(Requires("events", strict=True))]
Format = Annotated[Written | None, Query(description="Without it the Accept header decides, then json.")]
Fields = Annotated[
    list[Annotated[str, Query(min_length=1, max_length=2000)]],
    Query(max_length=20, description="Only these fields, dotted paths, repeated or with commas between them."),
]
_HEADERS = {
    "X-Total": {
        "description": "How many events there are, where that is known beforehand.",
        "schema": {"type": "integer"},
    },
    "X-Complete": {
        "description": "Whether all events of the range are indexed.",
        "schema": {"enum": ["true", "false"]},
    },
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The events. A body that breaks off (no last chunk) is not complete.",
        "headers": _HEADERS,
        "content": {kind.partition(";")[0]: {} for kind in MEDIA_TYPES.values()},
    },
    406: {"description": "No format that the Accept header names.", "content": {"application/problem+json": {}}},
}


def add_to(routes: APIRouter, parts: Parts) -> None:
    """Register the routes."""

    @routes.get("/events", response_class=Response, responses=RESPONSES)
    def get_events(
        request: Request,
        key: MayRead,
        asked: Annotated[Asked, Depends(AskedRange())],
        format: Format = None,
        fields: Fields = [],  # noqa: B006
    ) -> Response:
        """The events of a day, a range or a timeframe, streamed."""
        return _answer(parts, request, key, selection_of(key, asked), format, fields)

    @routes.get("/events/{date}", response_class=Response, responses=RESPONSES)
    def get_events_of_day(
        request: Request,
        key: MayRead,
        asked: Annotated[Asked, Depends(asked_day)],
        date: Annotated[str, InPath(description="A day: 2026-01-02")],
        format: Format = None,
        fields: Fields = [],  # noqa: B006
    ) -> Response:
        """The events of a day, streamed."""
        check_day(date, "path", "date")
        return _answer(parts, request, key, selection_of(key, asked, date), format, fields)


def _answer(
    parts: Parts, request: Request, key: Key, selection: Selection, format: str | None, fields: list[str]
) -> Response:
    names = [each for text in fields for each in text.split(",")]
    output = Output(format=_format(request, format), fields=paths_of(names, "query", "fields"))
    return stream_events(request, start_read(parts, key, selection), output)


def _format(request: Request, asked: str | None) -> Written:
    """The format that was asked for, else the first that the Accept header names, else JSON. Raises Problem, 406."""
    accepted = [each.partition(";")[0].strip().lower() for each in request.headers.get("accept", "*/*").split(",")]
    for format in FORMATS:
        if asked == format:
            return format
    for kind in accepted:
        for format in FORMATS:
            if kind in (MEDIA_TYPES[format].partition(";")[0], "*/*", "", f"{MEDIA_TYPES[format].partition('/')[0]}/*"):
                return format
    raise Problem(406, "not-acceptable", f"Accept names none of {', '.join(MEDIA_TYPES.values())}; or say format=json")
