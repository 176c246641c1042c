"""fakesnow's server on loopback: Snowflake's wire protocol over DuckDB, which can lose replies and break off."""

import gzip
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest


@dataclass
class SnowflakeServer:
    """A running server. `arm(end, statement)` sets a trap for the next statement, or `METHOD /path`, that begins so.

    Ends: "after" (it is done, its reply lost), "before" (it never gets there), "stall" (it is done, never answered), or
    an answer: its status, and what it says.
    """

    url: str
    trap: tuple[Any, str] | None = None
    snapped: int = 0
    statements: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def arm(self, end: Any, statement: str) -> None:
        self.trap = (end, statement)

    def options(self, database: str, **more: Any) -> dict[str, Any]:
        """What a sink needs to reach a database of its own."""
        known = {"account": "fakesnow", "user": "ferry", "password": "snow-4711", "warehouse": "loading"}
        return {**known, "database": database, "create": True, "endpoint": self.url, **more}

    @contextmanager
    def cursor(self, database: str) -> Iterator[Any]:
        """A cursor of the driver's own, in the schema PUBLIC."""
        import snowflake.connector

        host, port = self.url.removeprefix("http://").split(":")
        address = {"host": host, "port": int(port), "protocol": "http", "account": "fakesnow"}
        with snowflake.connector.connect(
            **address, user="test", password="test", database=database.upper(), schema="PUBLIC"
        ) as connection:
            yield connection.cursor()


@contextmanager
def snowflake_server() -> Iterator[SnowflakeServer]:
    """Run fakesnow until the block ends. Where it is not installed: the test skips, in CI it fails."""
    try:
        import uvicorn
        from fakesnow.server import app
    except ImportError as error:
        message = f"fakesnow is not installed here ({error}): run make test-snowflake"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    listener = socket.create_server(("127.0.0.1", 0))
    server = SnowflakeServer(f"http://127.0.0.1:{listener.getsockname()[1]}")
    config = uvicorn.Config(_trapping(app, server), log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopped.set()
        running.should_exit = True
        thread.join(10)
        listener.close()


def _trapping(app: Any, server: SnowflakeServer) -> Callable[..., Any]:
    """The application behind a door that does what the server's trap says."""

    async def door(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", scope["type"] == "http"
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        statement = _statement(scope, body)
        server.statements.append(statement)
        trap = server.trap
        if trap is None or not statement.startswith(trap[1]):
            await app(scope, _again(body, receive), send)
            return
        server.trap, end = None, trap[0]
        server.snapped += 1
        if isinstance(end, tuple):
            await _answer(send, *end)
            return
        if end != "before":
            await app(scope, _again(body, receive), _swallow)
        if end == "stall":
            await _wait(server.stopped)
        raise ConnectionAbortedError  # uvicorn closes the connection, answering 500 where it still can

    return door


def _statement(scope: Any, body: bytes) -> str:
    if scope["type"] != "http":
        return ""
    if scope["path"] != "/queries/v1/query-request":
        return f"{scope['method']} {scope['path']}"
    text = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
    return str(json.loads(text)["sqlText"])


def _again(body: bytes, receive: Any) -> Callable[[], Any]:
    given = []

    async def give() -> Any:
        if given:
            return await receive()
        given.append(body)
        return {"type": "http.request", "body": body, "more_body": False}

    return give


async def _answer(send: Any, status: int, said: bytes, headers: Any = ()) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": said})


async def _swallow(message: Any) -> None:
    """What nobody hears."""


async def _wait(event: threading.Event) -> None:
    import asyncio

    while not event.is_set():
        await asyncio.sleep(0.02)
