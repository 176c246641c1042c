"""The OpenAPI document: FastAPI's, completed with who may ask and with every error in its surface's own shape."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from eventferry.api.auth import Requires
from eventferry.api.problems import Problem
from eventferry.api.surface import Surface, answer, surface_of

_ALWAYS = (("too-large", 413), ("internal", 500))
_WITH_KEY = (("unauthenticated", 401), ("forbidden", 403), ("too-many", 429))
_WITH_INPUT = (("invalid", 422), ("not-found", 404))
_WITH_BODY = (("bad-json", 400), ("conflict", 409))


def document() -> dict[str, Any]:
    """The document with every dialect on: needs neither configuration nor ledger."""
    from eventferry.api.parts import Parts
    from eventferry.api.server import make_server
    from eventferry.config import Config

    nothing = cast(Any, None)
    parts = Parts(Config(), Path("config.toml"), ledger=nothing, desk=nothing, rate=nothing)
    return make_server(parts).openapi()


def install(app: FastAPI, surfaces: Sequence[Surface]) -> None:
    """Have the application give the completed document at /openapi.json."""

    def openapi() -> dict[str, Any]:
        if not app.openapi_schema:
            app.openapi_schema = complete(app, surfaces)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def complete(app: FastAPI, surfaces: Sequence[Surface]) -> dict[str, Any]:
    """FastAPI's document with security and error responses."""
    found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = found.setdefault("components", {})
    schemes = components.setdefault("securitySchemes", {})
    for route in app.routes:
        if not isinstance(route, APIRoute) or not route.include_in_schema:
            continue
        requires = list(requirements(route.dependant))
        for method in route.methods or ():
            operation = found["paths"][route.path_format][method.lower()]
            for each in requires:
                schemes.update({way.name: way.scheme for way in each.ways})
            if requires:
                operation["security"] = [{way.name: [requires[0].scope]} for way in requires[0].ways]
            _add_errors(operation, route, surfaces, bool(requires))
    for unused in ("HTTPValidationError", "ValidationError"):
        components.get("schemas", {}).pop(unused, None)
    return found


def requirements(dependant: Dependant) -> Iterator[Requires]:
    """The keys that a route asks for, its dependencies' included."""
    if isinstance(dependant.call, Requires):
        yield dependant.call
    for each in dependant.dependencies:
        yield from requirements(each)


def _add_errors(operation: dict[str, Any], route: APIRoute, surfaces: Sequence[Surface], has_key: bool) -> None:
    """Every error that the route may answer with, as its surface shapes it; what the route says itself stays."""
    responses = operation.setdefault("responses", {})
    responses.pop("422", None) if "HTTPValidationError" in str(responses.get("422")) else None
    kinds = list(_ALWAYS)
    kinds += _WITH_KEY if has_key else ()
    kinds += _WITH_INPUT if has_key or operation.get("parameters") else ()
    kinds += _WITH_BODY if "requestBody" in operation else ()
    request = Request({"type": "http", "method": "GET", "path": route.path, "headers": [], "query_string": b""})
    schema = surface_of(surfaces, route.path).problem_schema
    for kind, status in kinds:
        shaped = answer(surfaces, request, Problem(status, kind, "an example"))
        content = {str(shaped.media_type): {"schema": schema}}
        entry = {"description": Problem(shaped.status_code, kind, "").title, "content": content}
        responses.setdefault(str(shaped.status_code), entry)
