"""The exports of a key: the list, single ones, and the pieces that the script keeps up to date."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from eventferry import clock
from eventferry.access import links
from eventferry.api.parts import Parts, parts_of
from eventferry.console import pages, sessions
from eventferry.console.sessions import Session
from eventferry.console.views import ExportView, view
from eventferry.exports import requests
from eventferry.exports.model import STATES

PAGE = 25
_ROWS = "/exports/rows"
_NOTES = {
    "queued": "The export is queued. It starts within a few seconds.",
    "cancelled": "The export is being cancelled.",
    "deleted": "The export and its files are deleted.",
}

Allowed = Annotated[Session, Depends(sessions.allowed("exports"))]


def router() -> APIRouter:
    """The routes that only look."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/exports")
    def list_exports(
        request: Request,
        session: Allowed,
        after: Annotated[str, Query(max_length=20)] = "",
        state: Annotated[str, Query(max_length=20)] = "",
        said: Annotated[str, Query(max_length=20)] = "",
    ) -> Response:
        """The list, newest first."""
        chosen = state if state in STATES else ""
        start = int(after) if after.isascii() and after.isdigit() else None
        desk = parts_of(request).desk
        page = requests.list_page(desk, session.key, limit=PAGE, after=start, state=chosen or None)
        return pages.show(
            request,
            "exports.html",
            session,
            exports=[view(row) for row in page.rows],
            following=page.next,
            is_first=start is None,
            state=chosen,
            states=STATES,
            note=_NOTES.get(said, ""),
        )

    @routes.get(_ROWS)
    def list_rows(
        request: Request, session: Allowed, id: Annotated[list[str] | None, Query(max_length=PAGE)] = None
    ) -> Response:
        """The rows of these exports, as far as they exist, for the script to put in place of the old ones."""
        found = [each for export_id in id or [] if (each := _find(parts_of(request), session, export_id))]
        return pages.show(request, "rows.html", session, exports=found)

    @routes.get("/exports/{id}")
    def show_export(
        id: str, request: Request, session: Allowed, said: Annotated[str, Query(max_length=20)] = ""
    ) -> Response:
        """One export, with its files."""
        parts = parts_of(request)
        row = requests.get(parts.desk, session.key, id)
        files = requests.files(parts.desk, session.key, id)
        return pages.show(
            request, "export.html", session, export=view(row), files=files, note=_NOTES.get(said, ""), row=row
        )

    @routes.get("/exports/{id}/files/{name}")
    def download(id: str, name: str, request: Request, session: Allowed) -> Response:
        """On to a link made for this click: from there browsers can take up a broken download again."""
        parts = parts_of(request)
        requests.open_file(parts.desk, session.key, id, name).file.close()
        life = int(parts.config.exports.link_life.total_seconds() * 1000)
        link = links.make_link(parts.keyring, id, name, clock.now_ms() + life)
        return pages.go_elsewhere(request, link)

    return routes


def is_piece(request: Request) -> bool:
    """Whether the script asks, rather than a person."""
    return request.url.path.endswith(_ROWS)


def _find(parts: Parts, session: Session, export_id: str) -> ExportView | None:
    try:
        return view(requests.get(parts.desk, session.key, export_id))
    except requests.NotFound:
        return None
