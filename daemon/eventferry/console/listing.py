"""The exports of a key: the list, single ones, and the pieces that the script keeps up to date."""

import re
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from eventferry.api.health import daemon_state
from eventferry.api.parts import Parts, parts_of
from eventferry.console import pages, sessions, wording
from eventferry.console.sessions import Session
from eventferry.console.views import LABELS, ExportView, view
from eventferry.exports import requests
from eventferry.exports.model import STATES
from eventferry.exports.refusals import NotFound

PAGE = 25
_PLACE = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)  # in the list; the ledger's numbers have 64 bits
_ROWS = "/exports/rows"
_CHOICES = ("running", "complete", "failed", "expired")  # of what the list may be limited to
_NOTES = {
    "queued": "The export is queued. It starts within a few seconds.",
    "cancelled": "The export is being cancelled.",
    "deleted": "The export and its files are deleted.",
}
_WAITING_NOTE = "The export is queued."

Allowed = Annotated[Session, Depends(sessions.allowed("exports"))]


def add_routes(routes: APIRouter) -> None:
    """The routes that only look."""

    @routes.get("/exports")
    def list_exports(request: Request, session: Allowed, after: str = "", state: str = "", said: str = "") -> Response:
        """The list, newest first."""
        chosen = state if state in STATES else ""
        start = int(after) if _PLACE.fullmatch(after) else None
        parts = parts_of(request)
        waits = daemon_state(parts) != "ok"
        page = requests.list_page(parts.desk, session.key, limit=PAGE, after=start, state=chosen or None)
        return pages.show(
            request,
            "exports.html",
            session,
            exports=[view(row) for row in page.rows],
            following=page.next,
            is_first=start is None,
            state=chosen,
            states=_CHOICES,
            labels=LABELS,
            retention=wording.lasting(parts.config.exports.retention),
            waits=waits,
            note=_WAITING_NOTE if waits and said == "queued" else _NOTES.get(said, ""),
        )

    @routes.get(_ROWS)
    def list_rows(
        request: Request, session: Allowed, id: Annotated[list[str] | None, Query(max_length=PAGE)] = None
    ) -> Response:
        """The rows of these exports, as far as they exist, for the script to put in place of the old ones."""
        found = [each for export_id in id or [] if (each := _find(parts_of(request), session, export_id))]
        return pages.show(request, "rows.html", session, exports=found)

    @routes.get("/exports/{id}")
    def show_export(id: str, request: Request, session: Allowed, said: str = "") -> Response:
        """One export, with its files."""
        parts = parts_of(request)
        row = requests.get(parts.desk, session.key, id)
        files = requests.files(parts.desk, session.key, id)
        note = _NOTES.get(said, "")
        return pages.show(request, "export.html", session, export=view(row), files=files, note=note)


def is_piece(request: Request) -> bool:
    """Whether the script asks, rather than a person."""
    return request.url.path.endswith(_ROWS)


def _find(parts: Parts, session: Session, export_id: str) -> ExportView | None:
    try:
        return view(requests.get(parts.desk, session.key, export_id))
    except NotFound:
        return None
