"""Threads for what takes long: apart from those of short answers, and shared among keys."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

Result = TypeVar("Result")

# Reads of events at work at once; more take turns, a piece each, so that signing in and looking at exports wait for none.
MOST = 12
# Of one key, so that nobody takes all of them.
MOST_OF_KEY = 4

_all: RunVar[CapacityLimiter] = RunVar("eventferry long work")
_keys: RunVar[WeakValueDictionary[str, CapacityLimiter]] = RunVar("eventferry long work by key")


async def run_long(state: Any, work: Callable[..., Result], *args: Any) -> Result:
    """What `work` returns, done on a thread when it is its turn; `state` is the request's, with its key if it has one."""
    async with AsyncExitStack() as turn:
        key = state.get("key")
        if key is not None:
            await turn.enter_async_context(_limiter_of(key.id))
        return await to_thread.run_sync(work, *args, limiter=_limiter())


def _limiter() -> CapacityLimiter:
    """Of this server: of its event loop."""
    try:
        return _all.get()
    except LookupError:
        limiter = CapacityLimiter(MOST)
        _all.set(limiter)
        return limiter


def _limiter_of(key_id: str) -> CapacityLimiter:
    try:
        known = _keys.get()
    except LookupError:
        known = WeakValueDictionary()
        _keys.set(known)
    limiter = known.get(key_id)
    if limiter is None:
        limiter = known[key_id] = CapacityLimiter(MOST_OF_KEY)
    return limiter
