"""Answers made piece by piece: constant memory, stopped when the client leaves, never complete by mistake."""

import threading
import zlib
from collections.abc import Generator, Mapping
from contextlib import closing, nullcontext
from typing import Any

import anyio
from anyio import to_thread
from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from eventferry.api.threads import count_open, run_long
from eventferry.logs import get_logger

logger = get_logger()

_GZIP_LEVEL = 1
_END: Any = object()


class Stream(Response):
    """A body of pieces, each made on a thread once the one before has gone out. Empty ones only give a chance to stop.

    The generator is closed however it ends, also where the client leaves. An exception after the first piece aborts
    the connection: the client sees a body without its end, never one that seems complete. One before the first piece
    is raised as any other. `gzip_for` packs on the wire where that request accepts it; `gone` is set when the client
    leaves, for a generator that works long on one piece. A `quick` one reads a file: it waits for no turn among those
    that read events, of which a key has a number open at once; one more is refused with a Problem, 429.
    """

    def __init__(
        self,
        pieces: Generator[bytes],
        media_type: str,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        gzip_for: Request | None = None,
        gone: threading.Event | None = None,
        quick: bool = False,
    ) -> None:
        self.status_code = status
        self.media_type = media_type
        self.background = None
        self._pieces = pieces
        self._gone = gone or threading.Event()
        self._is_quick = quick
        self._started = False
        self._error: Exception | None = None
        self.init_headers(dict(headers or {}))
        if gzip_for is not None:
            self.headers["Vary"] = "Accept, Accept-Encoding"
            if accepts_gzip(gzip_for):
                self.headers["Content-Encoding"] = "gzip"
                self._pieces = gzipped(pieces)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One answer."""
        try:
            with nullcontext() if self._is_quick else count_open(scope["state"]):
                async with anyio.create_task_group() as group:
                    group.start_soon(self._cancel_when_gone, receive, group.cancel_scope)
                    await self._send(scope, send)
                    group.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(self._pieces.close)
        if self._error is not None:
            raise self._error

    async def _send(self, scope: Scope, send: Send) -> None:
        while True:
            try:
                piece = await self._next(scope)
            except Exception as error:
                if self._started:
                    logger.error("response.aborted", path=scope["path"], error=str(error), exc_info=error)
                else:
                    self._error = error  # raised outside of the group, which would wrap it
                return  # without the body's end: the server closes the connection
            if piece is _END or piece:
                await self._start(send)
            if piece is _END:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            if piece:
                await send({"type": "http.response.body", "body": piece, "more_body": True})

    async def _next(self, scope: Scope) -> Any:
        if self._is_quick:
            return await to_thread.run_sync(next, self._pieces, _END)
        return await run_long(scope["state"], next, self._pieces, _END)

    async def _cancel_when_gone(self, receive: Receive, scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._gone.set()
        scope.cancel()

    async def _start(self, send: Send) -> None:
        if not self._started:
            self._started = True
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})


def gzipped(pieces: Generator[bytes]) -> Generator[bytes]:
    """The pieces as one gzip stream, flushed after each so that none waits for the next."""
    packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    with closing(pieces):
        for piece in pieces:
            yield packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH) if piece else b""
        yield packer.flush()


def accepts_gzip(request: Request) -> bool:
    """Whether the request's Accept-Encoding allows gzip."""
    for part in request.headers.get("accept-encoding", "").lower().split(","):
        name, _, quality = part.strip().partition(";")
        if name.strip() in ("gzip", "*"):
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
