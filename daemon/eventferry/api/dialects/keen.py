"""Keen's extractions and unique values, in the words of its API 2.0 and of 3.0."""

from fastapi import APIRouter

from eventferry.api.dialects import keen_shape, keen_three, keen_two
from eventferry.api.parts import Parts
from eventferry.api.surface import Surface


def _build(parts: Parts) -> APIRouter:
    routes = APIRouter()
    keen_two.add_to(routes, parts)
    keen_three.add_to(routes, parts)
    return routes


SURFACE = Surface("keen", ("/2.0/", "/3.0/"), _build, keen_shape.answer, keen_shape.SCHEMA)
