"""A surface: a set of routes with one way of answering, such as the native API or one dialect."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request, Response

from eventferry.api import problems
from eventferry.api.parts import Parts
from eventferry.api.problems import Problem


@dataclass(frozen=True, slots=True)
class Surface:
    """Routes below `prefixes`, made by `build`, whose problems are answered by `shape`.

    `shape` gets every problem of these paths, also those that no route raised: unknown paths, wrong methods, bodies
    that are too large, refused keys, validation errors, failures. It may choose another status than the problem's.
    `problem_schema` describes its answers in OpenAPI. `build` opens and asks nothing: the document is made without
    ledger and configuration.
    """

    name: str
    prefixes: tuple[str, ...]
    build: Callable[[Parts], APIRouter]
    shape: Callable[[Request, Problem], Response] = problems.shape
    problem_schema: Mapping[str, Any] = field(default_factory=lambda: problems.SCHEMA)


ELSEWHERE = Surface("elsewhere", ("/",), lambda _: APIRouter())


def surface_of(surfaces: Sequence[Surface], path: str) -> Surface:
    """The surface that the path belongs to: the one with the longest matching prefix."""
    matching = [(len(prefix), each) for each in surfaces for prefix in each.prefixes if path.startswith(prefix)]
    return max(matching, key=lambda pair: pair[0])[1] if matching else ELSEWHERE


def answer(surfaces: Sequence[Surface], request: Request, problem: Problem) -> Response:
    """The problem in the shape of the surface that the path belongs to."""
    response = surface_of(surfaces, request.url.path).shape(request, problem)
    for name, value in problem.headers.items():
        response.headers.setdefault(name, value)
    return response
