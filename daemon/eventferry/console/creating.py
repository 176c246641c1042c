"""Asking for an export: the form, again with what is wrong, and on to the list."""

import secrets
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from typing import Annotated
from zoneinfo import available_timezones

from fastapi import APIRouter, Depends, Request, Response

from eventferry.api.parts import Parts, parts_of
from eventferry.config.source import SourceConfig
from eventferry.console import conditions, draft, pages, sessions
from eventferry.console.conditions import Row
from eventferry.console.draft import Draft, Unfit
from eventferry.console.forms import Form
from eventferry.console.listing import Allowed
from eventferry.console.sessions import Session
from eventferry.exports import requests
from eventferry.exports.refusals import Conflict, NotPossible, TooMany
from eventferry.exports.wanted import Wanted
from eventferry.query import Scope

_FIELDS = {"output.compression": "compression", "output.format": "format", "notify.email": "email"}
# What the summary of mistakes calls the fields.
_NAMES = {"first": "from", "last": "to", "words": "timeframe", "timezone": "time zone", "filter": "conditions",
          "filter_json": "filter as JSON", "email": "e-mail"}  # fmt: skip


def add_routes(routes: APIRouter) -> None:
    """The routes that make exports."""

    @routes.get("/exports/new")
    def ask(request: Request, session: Allowed) -> Response:
        """The empty form."""
        return _show(request, session, draft.blank())

    @routes.post("/exports/new")
    def create(request: Request, session: Allowed, form: Annotated[Form, Depends(sessions.checked_form)]) -> Response:
        """The form with one condition more, or with what is wrong; or the export, queued."""
        filled = draft.from_form(form)
        if form.one("do") == "add":
            return _show(request, session, _with_row(filled))
        parts = parts_of(request)
        try:
            _create(parts, session, filled)
        except Unfit as error:
            return _show(request, session, filled, error.mistakes, 422)
        except NotPossible as error:
            return _show(request, session, filled, {_FIELDS.get(error.field, "form"): str(error)}, 422)
        except TooMany as error:
            return _show(request, session, filled, {"form": str(error)}, 429)
        return pages.go_to(request, "/exports?said=queued")


def _create(parts: Parts, session: Session, filled: Draft) -> None:
    asked: Wanted = draft.wanted(filled, session.key.realm, parts.config.exports.part_size)
    try:
        requests.create(parts.desk, session.key, asked)
    except Conflict:  # back in the browser, the form changed and sent again: that is another export
        requests.create(parts.desk, session.key, replace(asked, idempotency_key=f"console {secrets.token_urlsafe(12)}"))


def _with_row(filled: Draft) -> Draft:
    return replace(filled, rows=(*filled.rows, Row())[: draft.MOST_ROWS])


def _show(
    request: Request, session: Session, filled: Draft, mistakes: Mapping[str, str] | None = None, status: int = 200
) -> Response:
    parts = parts_of(request)
    realm = session.key.realm
    return pages.show(
        request,
        "new.html",
        session,
        status,
        draft=filled,
        mistakes=mistakes or {},
        operators=conditions.OPERATORS,
        kinds=conditions.KINDS,
        timeframes=draft.TIMEFRAMES,
        compressions=draft.COMPRESSIONS,
        zones=_zones(),
        realm={each: getattr(realm, each) for each in draft.DIMENSIONS},
        dimensions=_dimensions(parts, realm),
        has_mail=parts.desk.mail is not None,
        has_parquet=find_spec("pyarrow") is not None,
        fields=_NAMES,
    )


def _dimensions(parts: Parts, realm: Scope) -> dict[str, list[str]]:
    """What the form asks for of whose events, with the names that are known: only where there is a choice."""
    names = [source.name for source in parts.config.sources]
    found = {}
    for dimension in draft.DIMENSIONS:
        allowed = getattr(realm, dimension)
        known = names if dimension == "collections" and len(names) > 1 else []
        told = known or any(_tells(source, dimension.removesuffix("s")) for source in parts.config.sources)
        if len(allowed) > 1 if allowed is not None else told:
            found[dimension] = known
    return found


def _tells(source: SourceConfig, word: str) -> bool:
    """Whether keys or events of the source say whose they are."""
    return bool(getattr(source, f"{word}_field")) or f"(?P<{word}>" in (source.key_pattern or "")


@cache
def _zones() -> list[str]:
    """Names of cities, as people choose among them, and UTC."""
    return ["UTC", *sorted(each for each in available_timezones() if "/" in each and not each.startswith("Etc/"))]
