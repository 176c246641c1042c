"""Which of a project's events a key of Keen's ways may see, and their unique values."""

from typing import Annotated

from fastapi import Path, Response

from eventferry import clock
from eventferry.access.keys import Key
from eventferry.api.dialects import inline
from eventferry.api.dialects.keen_request import Fields, Where, selection_of
from eventferry.api.dialects.keen_shape import TOO_MANY, Failing
from eventferry.api.parts import Parts
from eventferry.api.problems import not_found
from eventferry.exports.distinct import distinct
from eventferry.query import Path as PropertyPath

MOST_VALUES = 100_000

Project = Annotated[str, Path(description="The project that the collection belongs to.")]


def check_project(key: Key, project: str) -> None:
    """A project of others, or of nobody, is not there. Raises Problem."""
    if key.realm.projects is not None and project not in key.realm.projects:
        raise not_found("there is no such project")


def answer_unique(parts: Parts, key: Key, where: Where, asked: Fields, path: PropertyPath, name: str) -> Response:
    """The unique values of a property, as the member `name`. Raises Failing where there are too many."""
    bodies = inline.bodies_of(parts, key, selection_of(where, asked, clock.now()))
    found = distinct(bodies, path, MOST_VALUES)
    bodies.close()
    if not found.is_complete:
        raise Failing(TOO_MANY, f"there are more than {MOST_VALUES:,} values; narrow filters or timeframe", 413)
    return Response(b'{"%b":%b}' % (name.encode(), found.as_json()), media_type="application/json")
