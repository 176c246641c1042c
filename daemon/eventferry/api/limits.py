"""Bounds what comes in, and adds the headers that every answer has."""

from collections.abc import Sequence

import anyio
from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eventferry.api.problems import Problem
from eventferry.api.surface import Surface, answer

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}

# Of a body that is refused, what is read and dropped: clients that are still sending see the answer only then.
DRAINED = 16 * 1024 * 1024
# As long as they go on sending: some wait for the answer with the body.
DRAIN_SECONDS = 0.5


class SafeHeaders:
    """Gives every answer the headers above; those that a route sets itself stay."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class BodyLimit:
    """Refuses a body above the limit with 413; of it no more is held than the limit."""

    def __init__(self, app: ASGIApp, max_bytes: int, surfaces: Sequence[Surface]) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._surfaces = surfaces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._max_bytes:
            if b"expect" not in headers and int(announced) <= DRAINED:
                await _drain(receive)
            await answer(self._surfaces, Request(scope), self._too_large())(scope, receive, send)
            return
        taken = 0

        async def receive_bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._max_bytes:
                if message.get("more_body", False):
                    await _drain(receive)
                raise HTTPException(413, self._too_large().detail)  # FastAPI would make 400 of another exception
            return message

        await self._app(scope, receive_bounded, send)

    def _too_large(self) -> Problem:
        said = f"the body is larger than {self._max_bytes:,} bytes, the most that [api] max_body allows"
        return Problem(413, "too-large", said, headers={"Connection": "close"})


async def _drain(receive: Receive) -> None:
    left, is_more = DRAINED, True
    while is_more and left > 0:
        is_more = False
        with anyio.move_on_after(DRAIN_SECONDS):
            message = await receive()
            left -= len(message.get("body", b""))
            is_more = message.get("more_body", False)
