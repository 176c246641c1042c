"""The dialect of Gooee's analytics export: saved queries, and exports of all that they select as CSV."""

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from eventferry import clock
from eventferry.access import links
from eventferry.access.keys import Key
from eventferry.api.dialects import gooee_queries
from eventferry.api.dialects.gooee_forms import ExportForm, by_field, field_problem, read_form
from eventferry.api.dialects.gooee_pages import After, Limit, MayExport, link_next, moment, request_body
from eventferry.api.parts import Parts
from eventferry.api.problems import Problem, not_found
from eventferry.api.surface import Surface
from eventferry.exports import queries, requests
from eventferry.exports.model import Output
from eventferry.exports.refusals import NotFound
from eventferry.exports.wanted import Wanted
from eventferry.ledger.exports import ExportRow

LINK_MS = 3_600_000  # the document says one hour from each view, whatever links live otherwise

_STATUSES = {"queued": "queued", "running": "running", "complete": "complete", "expired": "complete"}


class Export(BaseModel):
    """An export; `url` is there only while there is a file."""

    id: str
    created: str
    modified: str
    created_by: str | None = Field(description="The id of the key that made it.")
    name: str
    notes: str
    query: str
    status: Literal["queued", "running", "complete", "failed"]
    errors: str | None = Field(description="JSON: why it failed.")
    number_of_rows: int | None
    total_bytes: int | None
    tags: list[str]
    customer_scopes: list[str]
    partner_scopes: list[str]
    url: str | None = Field(default=None, description="Its CSV file, for one hour from now.")


def _build(parts: Parts) -> APIRouter:
    routes = APIRouter(prefix="/analytics")
    _add_creation(routes, parts)

    def list_exports(key: MayExport, response: Response, limit: Limit = 100, after: After = None) -> list[Export]:
        """The exports that this key may see, newest first; the Link header names the next page."""
        page = requests.list_page(parts.desk, key, limit=limit, after=after, dialect="gooee")
        link_next(response, parts, "/analytics/exports/", limit, page.next)
        return [_shown(parts, key, row) for row in page.rows]

    def get_export(id: str, key: MayExport) -> Export:
        """One export; its `url` is signed anew each time."""
        return _shown(parts, key, _find(parts, key, id))

    def delete_export(id: str, key: MayExport) -> None:
        """Delete an export, its file and every link to it."""
        _find(parts, key, id)
        requests.delete(parts.desk, key, id)

    for slash in ("", "/"):
        routes.get(f"/exports{slash}", response_model_exclude_unset=True)(list_exports)
        routes.get(f"/exports/{{id}}{slash}", response_model_exclude_unset=True)(get_export)
        routes.delete(f"/exports/{{id}}{slash}", status_code=204)(delete_export)
    gooee_queries.add_to(routes, parts)
    return routes


def _add_creation(routes: APIRouter, parts: Parts) -> None:
    def create_export(key: MayExport, data: Annotated[Any, Body()]) -> Export:
        """Export everything that a saved query selects."""
        return _shown(parts, key, requests.create(parts.desk, key, _wanted(parts, key, read_form(ExportForm, data))))

    for path in ("/export", "/export/", "/exports", "/exports/"):
        routes.post(path, status_code=201, response_model_exclude_unset=True, openapi_extra=request_body(ExportForm))(
            create_export
        )


def _wanted(parts: Parts, key: Key, form: ExportForm) -> Wanted:
    """The export of the saved query as it is now. Raises Problem."""
    try:
        saved = queries.get(parts.desk, key, form.query)
    except NotFound:
        raise field_problem("query", f'Invalid ref "{form.query[:60]}" - there is no such query.') from None
    selection, fields = gooee_queries.resolve(saved)
    return Wanted(
        selection,
        Output("csv", part_bytes=None, fields=fields),
        asked={**saved.query, "query": saved.id},
        name=form.name,
        notes=form.notes,
        tags=tuple(form.tags),
        dialect="gooee",
        details={
            "query": saved.id,
            "customer_scopes": form.customer_scopes,
            "partner_scopes": form.partner_scopes,
        },
    )


def _find(parts: Parts, key: Key, export_id: str) -> ExportRow:
    row = requests.get(parts.desk, key, export_id)
    if row.dialect != "gooee":
        raise not_found(f"there is no export {export_id}")
    return row


def _shown(parts: Parts, key: Key, row: ExportRow) -> Export:
    is_complete = row.state in ("complete", "expired")
    shown = Export(
        id=row.id,
        created=moment(row.created_ms),
        modified=moment(row.modified_ms),
        created_by=row.key_id,
        name=row.name,
        notes=row.notes,
        query=row.details["query"],
        status=_STATUSES.get(row.state, "failed"),  # type: ignore[arg-type]
        errors=_errors(row),
        number_of_rows=row.events if is_complete else None,
        total_bytes=row.bytes if is_complete else None,
        tags=list(row.tags),
        customer_scopes=row.details["customer_scopes"],
        partner_scopes=row.details["partner_scopes"],
    )
    url = _url(parts, key, row)
    return shown if url is None else shown.model_copy(update={"url": url})


def _errors(row: ExportRow) -> str | None:
    if row.state not in ("failed", "cancelled"):
        return None
    return json.dumps({"detail": row.reason or "the export was cancelled"}, ensure_ascii=False)


def _url(parts: Parts, key: Key, row: ExportRow) -> str | None:
    """A link to the file; none where there is no file (any more)."""
    now = clock.now_ms()
    if row.expires_ms is None or row.expires_ms <= now:
        return None
    files = requests.files(parts.desk, key, row.id)
    if not files:  # it has expired just now
        return None
    until = min(now + LINK_MS, row.expires_ms)
    return parts.desk.base_url + links.make_link(parts.keyring, row.id, files[0].name, until)


def _shape(request: Request, problem: Problem) -> Response:
    """Field errors as 400, everything else as `{"detail": "…"}`: what Django's REST framework answers."""
    status = 400 if problem.status == 422 else problem.status
    is_about_fields = problem.kind == "invalid" and problem.mistakes
    return JSONResponse(by_field(problem) if is_about_fields else {"detail": problem.detail}, status)


_FAILURE = {
    "title": "GooeeFailure",
    "type": "object",
    "properties": {"detail": {"type": "string"}},
    "additionalProperties": {"type": "array", "items": {"type": "string"}},
}

SURFACE = Surface("gooee", ("/analytics",), _build, _shape, _FAILURE)
