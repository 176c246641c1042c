"""Puts the application together: surfaces, limits, errors, the OpenAPI document."""

from collections.abc import Sequence

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.middleware import Middleware
from starlette.routing import Route

from eventferry import __version__
from eventferry.api import errors, health, openapi
from eventferry.api.access_log import AccessLog
from eventferry.api.dialects import load_surfaces
from eventferry.api.limits import BodyLimit, SafeHeaders
from eventferry.api.native import SURFACE as NATIVE
from eventferry.api.parts import Parts
from eventferry.api.surface import Surface


def surfaces_of(parts: Parts) -> list[Surface]:
    """Every surface that the configuration switches on."""
    return [NATIVE, *load_surfaces(parts.config.api.dialects)]


def make_server(parts: Parts, more: Sequence[Surface] = ()) -> FastAPI:
    """The application over these parts, with surfaces of higher layers, such as the console."""
    surfaces = [*surfaces_of(parts), *more]
    limits = [
        Middleware(AccessLog),
        Middleware(SafeHeaders),
        Middleware(BodyLimit, max_bytes=parts.config.api.max_body, surfaces=surfaces),
        Middleware(errors.Unexpected, surfaces=surfaces),
    ]
    app = FastAPI(
        title="eventferry",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        middleware=limits,
    )
    app.state.parts = parts
    app.state.parameters = {}  # of routes, for strict.py
    errors.install(app, surfaces)
    _add_routes(app, "health", health.router(parts))
    for surface in surfaces:
        _add_routes(app, surface.name, surface.build(parts))
    openapi.install(app, surfaces)
    return app


def _add_routes(app: FastAPI, name: str, router: APIRouter) -> None:
    """The routes themselves, not their router: OpenAPI and the check of parameters look at each."""
    for route in router.routes:
        if not isinstance(route, Route):
            raise TypeError(
                f"surface {name}: {route!r} is no plain route; give one flat router, without include_router"
            )
        if isinstance(route, APIRoute):
            route.tags = [name]
        app.router.routes.append(route)
