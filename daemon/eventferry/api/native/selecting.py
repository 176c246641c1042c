"""From what a native request says to the events it selects: filter, timeframe and scope checked and resolved."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from eventferry import clock
from eventferry.access.keys import Key
from eventferry.api.native.bodies import QueryForm
from eventferry.api.problems import Mistake, Problem, not_found
from eventferry.exports.model import Selection
from eventferry.query.native import parse_filter
from eventferry.query.problems import QueryError, Where, dotted
from eventferry.query.scope import Scope
from eventferry.query.timeframe import parse_native


def select(key: Key, form: QueryForm, place: str = "body") -> Selection:
    """The events that are asked for, before the limits of the key. Raises Problem."""
    with placed(place, "filter"):
        expression = parse_filter(form.filter)
    with placed(place):
        during = parse_native(form.timeframe, form.timezone, clock.now())
    return Selection(scope_of(key, form), expression, during.start_ms, during.end_ms)


def scope_of(key: Key, form: QueryForm) -> Scope:
    """Whose events are asked for. Raises Problem, 404, for what the key cannot see, whether or not it exists."""
    asked = {"tenants": form.tenants, "projects": form.projects, "collections": form.collections}
    for what, names in asked.items():
        allowed = getattr(key.realm, what)
        for name in names or ():
            if allowed is not None and name not in allowed:
                raise not_found(f"there is no {what.removesuffix('s')} {name!r} for this key")
    return Scope(*(None if names is None else tuple(names) for names in asked.values()))


@contextmanager
def placed(*place: str) -> Iterator[None]:
    """Have a QueryError say where in the request it is: body.filter[0].op. Raises Problem."""
    try:
        yield
    except QueryError as error:
        raise _at(place, error.problems) from None


def _at(place: Where, problems: Sequence[tuple[Where, str]]) -> Problem:
    mistakes = [Mistake(dotted((*place, *where)), text) for where, text in problems]
    said = "; ".join(f"{each.where}: {each.problem}" for each in mistakes[:3])
    return Problem(422, "invalid", said, mistakes=mistakes)


def json_parameter(text: str, name: str) -> Any:
    """The value of a query parameter that holds JSON. Raises Problem."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        said = "is nested too deeply"
    except ValueError as error:
        said = f"is not JSON: {error}"
    raise Problem(422, "invalid", f"query.{name}: {said}", mistakes=[Mistake(f"query.{name}", said)])


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON number")
