"""One log line for each answered request, without what would open something for its reader."""

import re
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eventferry import clock
from eventferry.logs import get_logger

logger = get_logger()

# Parameters whose values open something: keys, and what makes a link genuine.
SECRET = frozenset({"api_key", "signature", "token", "access_token", "password", "secret_key"})
QUIET = frozenset({"/healthz", "/readyz"})  # asked every few seconds
_SHOWN = 300
_TOKEN = re.compile(r"(ef_[0-9A-Za-z]{12}_)[0-9A-Za-z]+", re.ASCII)


class AccessLog:
    """Says of each request who asked what, and what became of it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, found = clock.monotonic(), {"status": 0, "bytes": 0, "is_whole": False}

        async def send_and_count(message: Message) -> None:
            if message["type"] == "http.response.start":
                found["status"] = message["status"]
            elif message["type"] == "http.response.body":
                found["bytes"] += len(message.get("body", b""))
                found["is_whole"] = not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, receive, send_and_count)
        finally:
            _tell(scope, found, clock.monotonic() - begun)


def _tell(scope: Scope, found: dict[str, Any], seconds: float) -> None:
    say = logger.debug if scope["path"] in QUIET else logger.info
    key = scope.get("state", {}).get("key")
    say(
        "request.answered" if found["is_whole"] else "request.abandoned",
        method=scope["method"],
        path=without_tokens(scope["path"]),
        query=shown_query(scope["query_string"]),
        status=found["status"] or None,
        bytes=found["bytes"],
        ms=round(seconds * 1000),
        client=(scope.get("client") or ("",))[0],
        key=None if key is None else key.handle,
    )


def shown_query(query: bytes) -> str:
    """The query string with the values of secrets masked, cut short."""
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    masked = [(name, "***" if name.lower() in SECRET else value) for name, value in pairs]
    return without_tokens(urlencode(masked, safe="*:/,"))[:_SHOWN]


def without_tokens(text: str) -> str:
    """The text with the secrets of tokens masked, wherever somebody has put one; what names their keys stays."""
    return _TOKEN.sub(r"\1***", text)
