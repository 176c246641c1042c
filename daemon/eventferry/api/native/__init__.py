"""The native API below /v1."""

from fastapi import APIRouter

from eventferry.api.native import events, exports, files, properties, queries, status
from eventferry.api.parts import Parts
from eventferry.api.surface import Surface


def _build(parts: Parts) -> APIRouter:
    routes = APIRouter(prefix="/v1")
    for module in (exports, files, queries, events, properties, status):
        module.add_to(routes, parts)
    return routes


SURFACE = Surface("native", ("/v1",), _build)
