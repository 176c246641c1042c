"""Refuses query parameters that a route does not know, and single ones that are given twice."""

from collections.abc import Iterator
from typing import Any

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from eventferry.api.problems import Mistake, Problem


def refuse_unknown_query(request: Request) -> None:
    """For after the key was checked: a misspelt parameter must not silently select everything. Raises Problem (422)."""
    known, lists = _parameters_of(request)
    mistakes = []
    for name in dict.fromkeys(request.query_params.keys()):
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            mistakes.append(Mistake(f"query.{name[:80]}", f"is not a parameter of this path; known are: {listed}"))
        elif name not in lists and len(request.query_params.getlist(name)) > 1:
            mistakes.append(Mistake(f"query.{name}", "is given more than once; give it once"))
    if mistakes:
        said = "; ".join(f"{each.where}: {each.problem}" for each in mistakes[:3])
        raise Problem(422, "invalid", said, mistakes=mistakes[:20])


def _parameters_of(request: Request) -> tuple[frozenset[str], frozenset[str]]:
    """The names of the route's query parameters, and which of them are lists; found out once."""
    route: APIRoute = request.scope["route"]
    name = (route.path, request.method)
    known: dict[tuple[str, str], Any] = request.app.state.parameters
    if name not in known:
        known[name] = _parameters(route)
    found: tuple[frozenset[str], frozenset[str]] = known[name]
    return found


def _parameters(route: APIRoute) -> tuple[frozenset[str], frozenset[str]]:
    fields = list(_query_fields(route.dependant))
    keys = set(_names_of_keys(route.dependant))
    lists = {each.alias for each in fields if _is_list(each.field_info.annotation)}
    return frozenset({each.alias for each in fields} | keys), frozenset(lists)


def _query_fields(dependant: Dependant) -> Iterator[Any]:
    yield from dependant.query_params
    for each in dependant.dependencies:
        yield from _query_fields(each)


def _names_of_keys(dependant: Dependant) -> Iterator[str]:
    """What auth.Requires reads from the query string itself."""
    yield from getattr(dependant.call, "query_names", ())
    for each in dependant.dependencies:
        yield from _names_of_keys(each)


def _is_list(annotation: Any) -> bool:
    return "array" in str(TypeAdapter[Any](annotation).json_schema())
