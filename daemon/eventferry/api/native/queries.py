"""The native routes of saved queries."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from eventferry.access.keys import Key
from eventferry.api.auth import Requires
from eventferry.api.native.bodies import SavedQueryForm
from eventferry.api.native.cursors import make_cursor, read_cursor
from eventferry.api.native.exports import paths_of
from eventferry.api.native.selecting import select
from eventferry.api.native.shown import QueriesShown, QueryShown, show_query
from eventferry.api.parts import Parts
from eventferry.exports import queries

MayExport = Annotated[Key, Depends(Requires("exports", strict=True))]


def add_to(routes: APIRouter, parts: Parts) -> None:
    """Register the routes."""
    desk = parts.desk

    @routes.post("/queries", status_code=201)
    def save_query(form: SavedQueryForm, key: MayExport, response: Response) -> QueryShown:
        """Keep a query under a name; exports refer to it by its id."""
        selection = select(key, form)  # what can never be exported is not kept either
        paths_of(form.fields, "body", "fields")
        saved = queries.save(
            desk, key, form.name, _written(form), notes=form.notes, tags=form.tags, scope=selection.scope
        )
        response.headers["Location"] = f"/v1/queries/{saved.id}"
        return show_query(saved)

    @routes.get("/queries")
    def list_queries(
        key: MayExport,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        cursor: Annotated[str | None, Query(max_length=100)] = None,
    ) -> QueriesShown:
        """The saved queries that this key may see, newest first."""
        page = queries.list_page(desk, key, limit=limit, after=read_cursor(cursor))
        return QueriesShown(queries=[show_query(row) for row in page.rows], next=make_cursor(page.next))

    @routes.get("/queries/{query_id}")
    def get_query(query_id: str, key: MayExport) -> QueryShown:
        """One saved query."""
        return show_query(queries.get(desk, key, query_id))

    @routes.put("/queries/{query_id}")
    def replace_query(query_id: str, form: SavedQueryForm, key: MayExport) -> QueryShown:
        """Say all of a saved query anew; exports that were made from it stay as they are."""
        queries.get(desk, key, query_id)
        selection = select(key, form)
        paths_of(form.fields, "body", "fields")
        values = {"name": form.name, "notes": form.notes, "tags": form.tags, "query": _written(form)}
        return show_query(queries.change(desk, key, query_id, scope=selection.scope, **values))

    @routes.delete("/queries/{query_id}", status_code=204)
    def delete_query(query_id: str, key: MayExport) -> None:
        """Forget a saved query; exports that were made from it stay."""
        queries.delete(desk, key, query_id)


def _written(form: SavedQueryForm) -> dict[str, Any]:
    return form.model_dump(include={"filter", "timeframe", "timezone", "fields"})
