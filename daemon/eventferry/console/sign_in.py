"""Signing in with a key, and out."""

import re
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from eventferry.access import keys
from eventferry.api.parts import parts_of
from eventferry.console import pages, sessions
from eventferry.console.forms import Form
from eventferry.console.sessions import Session

HOME = "/exports"
_INSIDE = re.compile(r"/exports[A-Za-z0-9/_-]{0,100}", re.ASCII)
_WRONG = "This key does not open anything here. It may be mistyped, revoked or expired."
_NOTES = {"ended": "Your session has ended. Sign in again to go on.", "out": "You are signed out."}


def add_routes(routes: APIRouter) -> None:
    """The routes that need no session, and the end of one."""

    @routes.get("/sign-in")
    def ask(request: Request, next: str = "", said: str = "") -> Response:
        """The form; whoever is signed in goes on."""
        if sessions.find(request) is not None:
            return pages.go_to(request, _inside(next))
        return _form(request, 200, next, note=_NOTES.get(said, ""))

    @routes.post("/sign-in")
    def sign_in(request: Request, form: Annotated[Form, Depends(sessions.sign_in_form)]) -> Response:
        """On to the page that was wanted, or the form again: with the same words for every key that opens nothing."""
        parts = parts_of(request)
        try:
            key = keys.authenticate(parts.ledger, form.one("key"))
        except keys.Refused:
            if wait := parts.failures.note(request.client.host if request.client else ""):
                return _slow_down(request, form, wait)
            return _form(request, 401, form.one("next"), mistake=_WRONG)
        response = pages.go_to(request, _inside(form.one("next")))
        sessions.begin(parts, response, key)
        return response

    @routes.post("/sign-out", dependencies=[Depends(sessions.checked_form)])
    def sign_out(request: Request) -> Response:
        """End the session."""
        response = pages.go_to(request, "/sign-in?said=out")
        sessions.end(parts_of(request), response)
        return response

    @routes.get("")
    @routes.get("/")
    def home(request: Request, session: Annotated[Session, Depends(sessions.signed_in)]) -> Response:
        """The first section."""
        return pages.go_to(request, HOME)


def _slow_down(request: Request, form: Form, wait: int) -> Response:
    said = f"Too many attempts failed. Wait {wait} seconds, then try again."
    response = _form(request, 429, form.one("next"), mistake=said)
    response.headers["Retry-After"] = str(wait)
    return response


def _form(request: Request, status: int, next: str, *, note: str = "", mistake: str = "") -> Response:
    cookies = Response()
    token = sessions.visit_token(request, cookies)
    page = pages.show(request, "sign_in.html", status=status, token=token, next=next[:200], note=note, mistake=mistake)
    page.headers.raw.extend(each for each in cookies.headers.raw if each[0] == b"set-cookie")
    return page


def is_inside(path: str) -> bool:
    """Whether it is a page that signing in may lead to; the console's own only."""
    return _INSIDE.fullmatch(path) is not None


def _inside(next: str) -> str:
    return next if is_inside(next) else HOME
