"""Renders templates into answers that a browser runs nothing foreign in."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jinja2
from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from eventferry import __version__
from eventferry.api.parts import parts_of
from eventferry.console import assets, wording
from eventferry.console.sessions import Session

PREFIX = "/console"
_SELF = ("style-src", "script-src", "img-src", "connect-src", "form-action")
POLICY = "; ".join(
    ["default-src 'none'", *(f"{each} 'self'" for each in _SELF), "base-uri 'none'", "frame-ancestors 'none'"]
)


@dataclass(frozen=True, slots=True)
class Section:
    """One entry of the menu."""

    name: str
    path: str  # below the console's own
    icon: str  # of templates/icons.html


# What the console has today; the next section is one line here and its routes in surface.py.
SECTIONS = (Section("Data export", "/exports", "export"),)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": wording.count, "size": wording.size, "iso": wording.iso, "at": wording.at}
    environment.globals |= {"sections": SECTIONS, "version": __version__}
    return environment


def base_of(request: Request) -> str:
    """What the console's paths begin with, also behind a proxy that serves us below a path of its own."""
    return urlsplit(parts_of(request).config.api.base_url).path + PREFIX


def show(
    request: Request, template: str, session: Session | None = None, status: int = 200, **values: Any
) -> HTMLResponse:
    """A page, or a piece of one; `values` are what its template names."""
    base = base_of(request)
    text = _environment().get_template(template).render(
        base=base,
        asset=lambda name: assets.address(base, name),
        instance=parts_of(request).config.instance,
        session=session,
        here=request.url.path.removeprefix(PREFIX),
        **values,
    )  # fmt: skip
    return HTMLResponse(text, status, {"Content-Security-Policy": POLICY})


def go_to(request: Request, path: str) -> Response:
    """On to a page of the console, by GET."""
    return RedirectResponse(base_of(request) + path, 303)


def session_of(request: Request) -> Session | None:
    """The session that the request was found to have; asks nobody."""
    found: Session | None = getattr(request.state, "session", None)
    return found
