"""What Gooee's routes have in common: who may ask, pages with a Link header, times, bodies."""

from typing import Annotated, Any

from fastapi import Depends, Query, Request, Response

from eventferry import clock
from eventferry.access.keys import Key
from eventferry.api import auth
from eventferry.api.auth import Credential, Requires, Way
from eventferry.api.dialects.gooee_forms import READ_ONLY, Form
from eventferry.api.parts import Parts


def _jwt(request: Request) -> Credential | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return Credential(token.strip()) if scheme.upper() == "JWT" and token.strip() else None


JWT = Way(
    "jwt",
    {"type": "apiKey", "in": "header", "name": "Authorization", "description": "`Authorization: JWT <token>`"},
    _jwt,
    "JWT",
)

MayExport = Annotated[Key, Depends(Requires("exports", ways=(JWT, auth.BEARER, auth.BARE)))]
Limit = Annotated[int, Query(ge=1, le=1000)]
After = Annotated[int | None, Query(ge=1, le=2**62, description="Of the next page, as its link has it.")]


def link_next(response: Response, parts: Parts, path: str, limit: int, after: int | None) -> None:
    """Name the next page in the Link header, where there is one."""
    if after is not None:
        response.headers["Link"] = f'<{parts.desk.base_url}{path}?limit={limit}&after={after}>; rel="next"'


def moment(ms: int) -> str:
    """`2026-01-02T03:04:05.678000Z`."""
    return clock.from_ms(ms).isoformat(timespec="microseconds").replace("+00:00", "Z")


def request_body(form: type[Form]) -> dict[str, Any]:
    """The body for OpenAPI of a route that reads it by hand."""
    schema = form.model_json_schema()
    schema["properties"] |= {name: {"readOnly": True} for name in READ_ONLY}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
