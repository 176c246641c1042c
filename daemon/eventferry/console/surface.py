"""The console as a surface of the server: its routes, and pages for what goes wrong."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from eventferry.api.parts import Parts
from eventferry.api.problems import Problem
from eventferry.api.surface import Surface
from eventferry.console import assets, creating, downloading, ending, listing, pages, sessions, sign_in

_TITLES = {
    400: "That did not work",
    403: "Not allowed",
    404: "Nothing here",
    405: "Not like this",
    410: "No longer here",
    409: "Not yet",
    413: "Too large",
    429: "Too many requests",
    500: "Something went wrong",
}
_SAYS = {
    404: "This page does not exist, or not for the key that you signed in with.",
    405: "This address is part of a form. Open the page from the menu instead.",
    500: "The server failed to answer, and wrote the reason into its log. Your exports are not affected.",
}


def _build(parts: Parts) -> APIRouter:
    routes = APIRouter(prefix=pages.PREFIX, include_in_schema=False)
    for module in (sign_in, assets, creating, listing, downloading, ending):
        module.add_routes(routes)
    return routes


def _shape(request: Request, problem: Problem) -> Response:
    """A problem as a page; without a session the way to one."""
    if problem.status == 401:
        return _to_sign_in(request)
    if listing.is_piece(request):
        return PlainTextResponse(problem.title, problem.status)
    title = _TITLES.get(problem.status, problem.title)
    said = _SAYS.get(problem.status) or problem.detail[:1].upper() + problem.detail[1:] + "."
    session = pages.session_of(request)
    leads_on = problem.kind != sessions.LACKS_SCOPE  # the page that the button leads to is the one that was refused
    values = {"title": title, "said": said, "code": problem.status, "leads_on": leads_on}
    return pages.show(request, "problem.html", session, problem.status, **values)


def _to_sign_in(request: Request) -> Response:
    if listing.is_piece(request):
        return PlainTextResponse("signed out", 401)  # the script then asks for the whole page
    said = "&said=ended" if sessions.had_one(request) else ""
    there = request.url.path.removeprefix(pages.PREFIX) if request.method == "GET" else ""
    return pages.go_to(request, f"/sign-in?next={there if sign_in.is_inside(there) else ''}{said}")


SURFACE = Surface("console", (pages.PREFIX,), _build, _shape)
