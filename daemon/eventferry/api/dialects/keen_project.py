"""Which of a project's events a key of Keen's ways may see, and their unique values."""

from contextlib import closing
from threading import Event
from typing import Annotated

from fastapi import Path, Response

from eventferry.access.keys import Key
from eventferry.api.abandoning import until_gone
from eventferry.api.dialects.keen_shape import TOO_MANY, Failing
from eventferry.api.events import start_read
from eventferry.api.parts import Parts
from eventferry.api.problems import not_found
from eventferry.exports.distinct import distinct
from eventferry.exports.model import Selection
from eventferry.query import Path as PropertyPath

MOST_VALUES = 100_000

Project = Annotated[str, Path(description="The project that the collection belongs to.")]


def check_project(key: Key, project: str) -> None:
    """A project of others, or of nobody, is not there. Raises Problem."""
    if key.realm.projects is not None and project not in key.realm.projects:
        raise not_found("there is no such project")


def answer_unique(parts: Parts, key: Key, selection: Selection, path: PropertyPath, name: str, gone: Event) -> Response:
    """The unique values of a property, as the member `name`. Raises Failing where there are too many."""
    with closing(until_gone(start_read(parts, key, selection).bodies(), gone)) as bodies:
        found = distinct(bodies, path, MOST_VALUES)
    if not found.is_complete:
        raise Failing(TOO_MANY, f"there are more than {MOST_VALUES:,} values; narrow filters or timeframe", 413)
    return Response(b'{"%b":%b}' % (name.encode(), found.as_json()), media_type="application/json")
