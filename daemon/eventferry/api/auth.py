"""Who asks: credentials found in a request, checked, counted, and turned into a key."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import Request

from eventferry.access import keys
from eventferry.access.keys import Key
from eventferry.api.parts import parts_of
from eventferry.api.problems import Problem
from eventferry.api.strict import refuse_unknown_query

KeyScope = Literal["events", "exports", "admin"]


@dataclass(frozen=True, slots=True)
class Credential:
    """A token as it was presented, with the user name where Basic brought one."""

    token: str
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """One way to present a token: its name and description in OpenAPI, and where it is found."""

    name: str
    scheme: dict[str, Any]
    find: Callable[[Request], Credential | None]
    challenge: str | None = None  # for WWW-Authenticate

    @property
    def is_parameter(self) -> bool:
        """Whether the token stands in the query string."""
        return bool(self.scheme.get("in") == "query")


def _after(scheme: str, request: Request) -> str | None:
    found, _, rest = request.headers.get("authorization", "").partition(" ")
    return rest.strip() if found.lower() == scheme and rest.strip() else None


def _bearer(request: Request) -> Credential | None:
    token = _after("bearer", request)
    return None if token is None else Credential(token)


def _basic(request: Request) -> Credential | None:
    text = _after("basic", request)
    if text is None:
        return None
    try:
        user, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except ValueError:  # no base64, no UTF-8, or not even ASCII
        return None
    return Credential(password, user) if colon and password else None


def _bare(request: Request) -> Credential | None:
    text = request.headers.get("authorization", "").strip()
    return Credential(text) if text and " " not in text else None


def _header(request: Request) -> Credential | None:
    text = request.headers.get("x-api-key", "").strip()
    return Credential(text) if text else None


def _parameter(request: Request) -> Credential | None:
    text = request.query_params.get("api_key", "").strip()
    return Credential(text) if text else None


BEARER = Way("bearer", {"type": "http", "scheme": "bearer"}, _bearer, "Bearer")
BASIC = Way("basic", {"type": "http", "scheme": "basic"}, _basic, 'Basic realm="eventferry", charset="UTF-8"')
BARE = Way("bare", {"type": "apiKey", "in": "header", "name": "Authorization"}, _bare)
X_API_KEY = Way("x-api-key", {"type": "apiKey", "in": "header", "name": "X-Api-Key"}, _header)
API_KEY_PARAMETER = Way("api_key", {"type": "apiKey", "in": "query", "name": "api_key"}, _parameter)

NATIVE = (BEARER, X_API_KEY, BASIC)


class Requires:
    """A dependency that gives the key of the request: `key: Annotated[Key, Depends(Requires("exports"))]`.

    `ways` are tried in order. `check` may refuse what the key alone does not show, such as a user name that is not the
    owner's, by returning False. `strict` refuses unknown query parameters, once the key is known. Raises Problem: 401
    without a valid key, 403 without the scope, 429 above a limit.
    """

    def __init__(
        self,
        scope: KeyScope,
        ways: tuple[Way, ...] = NATIVE,
        check: Callable[[Key, Credential], bool] | None = None,
        *,
        strict: bool = False,
    ) -> None:
        self.scope = scope
        self.ways = ways
        self.query_names = tuple(way.scheme["name"] for way in ways if way.is_parameter)
        self._check = check
        self._strict = strict

    def __call__(self, request: Request) -> Key:
        """The key, with `scope`, within its limits. Runs on a thread: it asks the ledger."""
        credential = next((found for way in self.ways if (found := way.find(request))), None)
        if credential is None:
            raise self._unauthenticated("this needs a key; the WWW-Authenticate header names a way to send it")
        key = self._authenticate(request, credential)
        parts = parts_of(request)
        if (wait := parts.rate.take(key.id)) > 0:
            raise _too_many(f"more than {parts.config.api.rate} requests a minute with this key", wait)
        if not key.may(self.scope):
            raise Problem(403, "forbidden", f"this key lacks the scope {self.scope!r}, which this request needs")
        request.state.key = key
        if self._strict:
            refuse_unknown_query(request)
        return key

    def _authenticate(self, request: Request, credential: Credential) -> Key:
        parts = parts_of(request)
        try:
            key = keys.authenticate(parts.ledger, credential.token)
            if self._check is None or self._check(key, credential):
                return key
        except keys.Refused:
            pass
        # A valid key passes whatever others behind the same address do: a secret of 256 bits is not found by trying.
        address = request.client.host if request.client else ""
        if (wait := parts.failures.note(address)) > 0:
            raise _too_many("too many invalid keys from this address", wait)
        raise self._unauthenticated("the key is not valid: unknown, expired or revoked")

    def _unauthenticated(self, why: str) -> Problem:
        challenges = [way.challenge for way in self.ways if way.challenge] or ["Bearer"]
        return Problem(401, "unauthenticated", why, headers={"WWW-Authenticate": ", ".join(challenges)})


def _too_many(what: str, wait: int) -> Problem:
    said = f"{what}; try again in {wait} s"
    return Problem(429, "too-many", said, headers={"Retry-After": str(wait)})
