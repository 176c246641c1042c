"""Threads for what takes long: apart from those of short answers, and shared among keys."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

from eventferry.api.problems import Problem

Result = TypeVar("Result")

# Reads of events at work at once; more take turns, a piece each. Signing in and looking at exports wait for none.
MOST = 12
# Of one key, so that nobody takes all of them.
MOST_OF_KEY = 4
# Answers with events that a key may have under way: each holds a segment in memory, also for a reader that stopped.
MOST_OPEN_OF_KEY = 64
RETRY_SECONDS = 5

_all: RunVar[CapacityLimiter] = RunVar("eventferry long work")
_keys: RunVar[WeakValueDictionary[str, CapacityLimiter]] = RunVar("eventferry long work by key")
_open: RunVar[Counter[str]] = RunVar("eventferry open answers by key")


async def run_long(state: Any, work: Callable[..., Result], *args: Any) -> Result:
    """What `work` returns, done on a thread when its turn comes; `state` is the request's, with its key if any."""
    async with AsyncExitStack() as turn:
        key = state.get("key")
        if key is not None:
            await turn.enter_async_context(_limiter_of(key.id))
        return await to_thread.run_sync(work, *args, limiter=_limiter())


@contextmanager
def count_open(state: Any) -> Iterator[None]:
    """Count an answer with events as under way while the block lasts. Raises Problem, 429, where it is one too many."""
    key, counts = state.get("key"), _counts()
    name = "" if key is None else key.id
    if key is not None and counts[name] >= MOST_OPEN_OF_KEY:
        said = f"more than {MOST_OPEN_OF_KEY} answers with events are under way for this key; read some to their end"
        raise Problem(429, "too-many", said, headers={"Retry-After": str(RETRY_SECONDS)})
    counts[name] += 1
    try:
        yield
    finally:
        counts[name] -= 1
        if not counts[name]:
            del counts[name]


def _counts() -> Counter[str]:
    try:
        return _open.get()
    except LookupError:
        counts: Counter[str] = Counter()
        _open.set(counts)
        return counts


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
