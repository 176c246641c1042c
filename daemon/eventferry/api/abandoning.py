"""Work for one answer that ends when nobody waits for the answer any more."""

import threading
from collections.abc import Callable, Generator
from typing import TypeVar

import anyio
from fastapi import Request

from eventferry.api.threads import run_long

Result = TypeVar("Result")


class Abandoned(Exception):
    """The client has left; nobody reads what would be answered."""


async def run_while_connected(request: Request, work: Callable[[threading.Event], Result]) -> Result:
    """What `work` returns, done on a thread; the event that it gets is set when the client leaves."""
    gone = threading.Event()
    error: Exception | None = None
    results: list[Result] = []
    async with anyio.create_task_group() as group:
        group.start_soon(_watch, request, gone)
        try:
            results.append(await run_long(request.scope["state"], work, gone))
        except Exception as found:
            error = found  # raised outside of the group, which would wrap it
        group.cancel_scope.cancel()
    if error is not None:
        raise error
    return results[0]


def stop_when(gone: threading.Event) -> Callable[[int], None]:
    """A report of progress that raises Abandoned once nobody waits."""

    def look(_: int) -> None:
        if gone.is_set():
            raise Abandoned

    return look


def until_gone(bodies: Generator[bytes], gone: threading.Event) -> Generator[bytes]:
    """The bodies, as long as somebody waits. Raises Abandoned."""
    try:
        for body in bodies:
            if gone.is_set():
                raise Abandoned
            yield body
    finally:
        bodies.close()


async def _watch(request: Request, gone: threading.Event) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    gone.set()
