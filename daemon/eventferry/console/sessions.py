"""Who is signed in: the session cookie, the key behind it, and the tokens that tie a form to it."""

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from fastapi import Depends, Request, Response

from eventferry import clock
from eventferry.access import keys
from eventferry.access.keys import Key
from eventferry.api.auth import KeyScope
from eventferry.api.parts import Parts, parts_of
from eventferry.api.problems import Problem
from eventferry.console.forms import Form, read_form

LIFE_SECONDS = 12 * 3600
LACKS_SCOPE = "lacks-scope"  # the kind of a problem
_SESSION: Final = "session"  # names of cookies
_VISIT: Final = "visit"
_SIGNED, _FORM, _SIGN_IN = "console-session", "console-form", "console-sign-in"  # purposes of signatures
_MADE_HERE = re.compile(r"[A-Za-z0-9_-]{24}", re.ASCII)
_STRANGER = "sign in to see this page"
_FORGED = "this form was not sent from a page of this session; go back, reload the page and send it again"


@dataclass(frozen=True, slots=True)
class Session:
    """A key that was signed in with, checked anew for this request; `ticket` is what the cookie holds, signed."""

    key: Key
    ticket: str
    form_token: str  # every form of this session carries it


def begin(parts: Parts, response: Response, key: Key) -> None:
    """Sign this key in: its id goes into the cookie, never its token."""
    ticket = f"{key.id}~{clock.now_ms()}~{secrets.token_urlsafe(12)}"
    _set(parts, response, _SESSION, f"{ticket}~{parts.keyring.sign(_SIGNED, ticket.encode())}", LIFE_SECONDS)
    _set(parts, response, _VISIT, "", 0)


def end(parts: Parts, response: Response) -> None:
    """Sign out."""
    _set(parts, response, _SESSION, "", 0)


def find(request: Request) -> Session | None:
    """The session of the request; None where there is none, or its key is revoked or has expired. Asks the ledger."""
    parts = parts_of(request)
    ticket = _ticket(parts, request.cookies.get(_name(parts, _SESSION), ""))
    if ticket is None:
        return None
    with parts.ledger.read() as tx:
        key = keys.get_key(tx, ticket.partition("~")[0])
    if key is None or key.state(clock.now_ms()) != "active":
        return None
    return Session(key, ticket, parts.keyring.sign(_FORM, ticket.encode()))


def had_one(request: Request) -> bool:
    """Whether the request came with a session's cookie, valid or not."""
    return bool(request.cookies.get(_name(parts_of(request), _SESSION)))


def signed_in(request: Request) -> Session:
    """A dependency that gives the session. Raises Problem 401 and 429."""
    session = find(request)
    if session is None:
        raise Problem(401, "unauthenticated", _STRANGER)
    request.state.session = session  # pages about problems show who is signed in, too
    parts = parts_of(request)
    if wait := parts.rate.take(session.key.id):
        said = f"more than {parts.config.api.rate} requests a minute with this key; try again in {wait} s"
        raise Problem(429, "too-many", said, headers={"Retry-After": str(wait)})
    return session


def allowed(scope: KeyScope) -> Callable[[Session], Session]:
    """A dependency that gives the session of a key with that scope. Raises Problem 401 and 403."""

    def check(session: Annotated[Session, Depends(signed_in)]) -> Session:
        if not session.key.may(scope):
            said = f"the key that you signed in with lacks the scope {scope!r}; sign in with one that has it"
            raise Problem(403, LACKS_SCOPE, said)
        return session

    return check


async def checked_form(request: Request, session: Annotated[Session, Depends(signed_in)]) -> Form:
    """A dependency that gives the form of a page of this session. Raises Problem 401, 403, 415 and 400."""
    form = await read_form(request)
    _check_site(request)
    if not parts_of(request).keyring.verify(_FORM, form.one("token"), session.ticket.encode()):
        raise Problem(403, "forbidden", _FORGED)
    return form


def visit_token(request: Request, response: Response) -> str:
    """The token of the sign-in form, bound to a cookie of this browser, which is set with the response if need be."""
    parts = parts_of(request)
    visit = request.cookies.get(_name(parts, _VISIT), "")
    if not _MADE_HERE.fullmatch(visit):
        visit = secrets.token_urlsafe(18)
    _set(parts, response, _VISIT, visit, LIFE_SECONDS)
    return parts.keyring.sign(_SIGN_IN, visit.encode())


async def sign_in_form(request: Request) -> Form:
    """A dependency that gives the sign-in form of this browser. Raises Problem 403, 415 and 400."""
    form = await read_form(request)
    _check_site(request)
    parts = parts_of(request)
    visit = request.cookies.get(_name(parts, _VISIT), "")
    if not visit or not parts.keyring.verify(_SIGN_IN, form.one("token"), visit.encode()):
        raise Problem(403, "forbidden", "this form is too old, or cookies are blocked; reload the page and try again")
    return form


def _check_site(request: Request) -> None:
    """Browsers say from where a form comes; the token alone would do for those that do not."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Problem(403, "forbidden", _FORGED)


def _ticket(parts: Parts, cookie: str) -> str | None:
    """What was signed, if it was, and not too long ago."""
    ticket, _, signature = cookie.rpartition("~")
    pieces = ticket.split("~")
    if len(pieces) != 3 or not pieces[1].isascii() or not pieces[1].isdigit():
        return None
    if not parts.keyring.verify(_SIGNED, signature, ticket.encode()):
        return None
    age = clock.now_ms() - int(pieces[1])
    return ticket if age + 60_000 >= 0 and age < LIFE_SECONDS * 1000 else None


def _name(parts: Parts, name: Literal["session", "visit"]) -> str:
    """With the prefix no neighbouring host can set it, but browsers take it over https only."""
    return f"__Host-eventferry-{name}" if _is_https(parts) else f"eventferry-{name}"


def _set(parts: Parts, response: Response, name: Literal["session", "visit"], value: str, life: int) -> None:
    response.set_cookie(
        _name(parts, name), value, max_age=life, path="/", httponly=True, samesite="lax", secure=_is_https(parts)
    )


def _is_https(parts: Parts) -> bool:
    return parts.config.api.base_url.startswith("https:")
