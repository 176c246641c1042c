"""The native routes that look at all selected events and tell what is in them: unique values, properties."""

import json
import threading
from contextlib import closing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field

from eventferry.access.keys import Key
from eventferry.api.abandoning import run_while_connected, stop_when, until_gone
from eventferry.api.auth import Requires
from eventferry.api.events import Read, cache_of, start_read
from eventferry.api.native.asking import Asked, AskedRange, selection_of
from eventferry.api.native.exports import paths_of
from eventferry.api.parts import Parts
from eventferry.exports import surveying
from eventferry.exports.distinct import Distinct, distinct
from eventferry.exports.survey import Survey

MayRead = Annotated[Key, Depends(Requires("events", strict=True))]


class ValuesShown(BaseModel):
    """Unique values: booleans, then numbers, then strings, each sorted."""

    field: str
    values: list[Any]
    all: bool = Field(description="False: there are more than `limit`.")


class PropertyShown(BaseModel):
    """A property with the JSON types that it has, and in how many events."""

    field: str
    types: dict[str, int]


class SchemaShown(BaseModel):
    """The properties of the selected events."""

    events: int
    properties: list[PropertyShown]


def add_to(routes: APIRouter, parts: Parts) -> None:
    """Register the routes."""

    @routes.get("/values", response_model=ValuesShown)
    async def get_values(
        request: Request,
        key: MayRead,
        asked: Annotated[Asked, Depends(AskedRange("field"))],
        field: Annotated[str, Query(min_length=1, max_length=1000, description="A dotted path.")],
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    ) -> Response:
        """The unique values of a field over a selection."""
        (path,) = paths_of([field], "query", "field")

        def work(gone: threading.Event) -> tuple[Read, Distinct]:
            found = start_read(parts, key, selection_of(key, asked))
            with closing(until_gone(found.bodies(), gone)) as bodies:
                return found, distinct(bodies, path, limit)

        read, result = await run_while_connected(request, work)
        # The values' own spelling: what Python would make of 1e400 or 0.1000 is not what is in the events.
        head = json.dumps({"field": field, "all": result.is_complete})[:-1].encode()
        return Response(head + b', "values": ' + result.as_json() + b"}", 200, read.headers, "application/json")

    @routes.get("/schema")
    async def get_schema(
        request: Request, response: Response, key: MayRead, asked: Annotated[Asked, Depends(AskedRange())]
    ) -> SchemaShown:
        """The properties that occur in a selection, those of nested objects by their paths."""

        def work(gone: threading.Event) -> tuple[Read, Survey]:
            found = start_read(parts, key, selection_of(key, asked))
            progress = stop_when(gone)
            return found, surveying.survey(found.planned, found.sources, found.selection, cache_of(parts), progress)

        read, survey = await run_while_connected(request, work)
        response.headers.update(read.headers)
        return SchemaShown(
            events=survey.events, properties=[PropertyShown(field=name, types=types) for name, types in survey.rows()]
        )
