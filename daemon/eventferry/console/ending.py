"""Cancelling and deleting exports."""

from fastapi import APIRouter, Depends, Request, Response

from eventferry.api.parts import parts_of
from eventferry.console import pages, sessions
from eventferry.console.listing import Allowed
from eventferry.console.views import view
from eventferry.exports import requests


def add_routes(routes: APIRouter) -> None:
    """The routes that end things; each is a form's, and deleting asks first."""
    from_form = [Depends(sessions.checked_form)]

    @routes.post("/exports/{id}/cancel", dependencies=from_form)
    def cancel(id: str, request: Request, session: Allowed) -> Response:
        """End one that waits or runs."""
        requests.cancel(parts_of(request).desk, session.key, id)
        return pages.go_to(request, "/exports?said=cancelled")

    @routes.get("/exports/{id}/delete")
    def ask(id: str, request: Request, session: Allowed) -> Response:
        """Whether it is really meant."""
        export = view(requests.get(parts_of(request).desk, session.key, id))
        return pages.show(request, "delete.html", session, export=export)

    @routes.post("/exports/{id}/delete", dependencies=from_form)
    def delete(id: str, request: Request, session: Allowed) -> Response:
        """Forget it with its files and links."""
        requests.delete(parts_of(request).desk, session.key, id)
        return pages.go_to(request, "/exports?said=deleted")
