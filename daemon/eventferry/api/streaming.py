"""Answers made piece by piece: constant memory, stopped when the client leaves, never complete by mistake."""

import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import anyio
from anyio import to_thread
from fastapi import Request, Response
from starlette.types import Message, Receive, Scope, Send

from eventferry.logs import get_logger

logger = get_logger()

_GZIP_LEVEL = 1
_END: Any = object()


class Stream(Response):
    """A body of pieces. Each is made on a thread, when the one before has gone out; empty ones are left out.

    The generator is closed however it ends, also where the client leaves. An exception in the middle aborts the
    connection: the client sees a body without its end, never one that seems complete. One before the first piece is
    raised as any other. `gzip_for` packs on the wire where that request accepts it.
    """

    def __init__(
        self,
        pieces: Iterator[bytes],
        media_type: str,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        gzip_for: Request | None = None,
    ) -> None:
        self.status_code = status
        self.media_type = media_type
        self.background = None
        self._pieces = pieces
        self.init_headers(dict(headers or {}))
        if gzip_for is not None:
            self.headers["Vary"] = "Accept, Accept-Encoding"
            if accepts_gzip(gzip_for):
                self.headers["Content-Encoding"] = "gzip"
                self._pieces = gzipped(pieces)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One answer."""
        try:
            first = await to_thread.run_sync(_next, self._pieces)  # raises before anything was said
            async with anyio.create_task_group() as group:
                group.start_soon(_until_gone, receive, group.cancel_scope.cancel)
                await self._send(scope, send, first)
                group.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(_close, self._pieces)

    async def _send(self, scope: Scope, send: Send, piece: Any) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        while piece is not _END:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            try:
                piece = await to_thread.run_sync(_next, self._pieces)
            except Exception as error:
                logger.error("response.aborted", path=scope["path"], error=str(error), exc_info=error)
                return  # without its end: the server closes the connection
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_gone(receive: Receive, cancel: Callable[[], None]) -> None:
    while True:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            cancel()
            return


def _next(pieces: Iterator[bytes]) -> Any:
    """The next piece that holds something, or the mark of the end: StopIteration cannot leave a thread."""
    return next((piece for piece in pieces if piece), _END)


def _close(pieces: Iterator[bytes]) -> None:
    close: Callable[[], Awaitable[None] | None] | None = getattr(pieces, "close", None)
    if close is not None:
        close()


def gzipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces as one gzip stream, flushed after each so that none waits for the next."""
    packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    try:
        for piece in pieces:
            yield packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH)
        yield packer.flush()
    finally:
        _close(pieces)


def accepts_gzip(request: Request) -> bool:
    """Whether the request's Accept-Encoding allows gzip."""
    for part in request.headers.get("accept-encoding", "").lower().split(","):
        name, _, quality = part.strip().partition(";")
        if name.strip() in ("gzip", "*"):
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
