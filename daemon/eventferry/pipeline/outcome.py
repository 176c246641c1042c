"""What an attempt's ending means: pure judgement of the answers that sinks give."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import dropwhile
from traceback import walk_tb

from eventferry.sink import (
    BatchRejected,
    BatchTooLarge,
    EventsRejected,
    SinkMisconfigured,
    SinkUnavailable,
)
from eventferry.sink.safe import safe_text

# The same unknown exception so often in a row is taken for something in the batch: bisect.
BUGS_BEFORE_BISECT = 5
# A sink may ask for patience, but not for ever.
MAX_RETRY_AFTER = 3600.0
# So much of a sink's words reaches journal, ledger and people, and less of those that no contract bounds.
REASON_CHARACTERS = 200
REMEDY_CHARACTERS = 1000  # what a person is to run: a CREATE TABLE, some GRANTs
UNKNOWN_CHARACTERS = 100
PLACE_CHARACTERS = 150


class Overdue(Exception):
    """The call did not return within its total deadline; its instance and its result are lost."""


class Ending(StrEnum):
    """What to do after an attempt."""

    DELIVERED = "delivered"
    RETRY = "retry"  # later, the same batch
    HOLD = "hold"  # a person must mend the sink
    REFUSED = "refused"  # bisect, or believe it of a single event
    TOO_LARGE = "too_large"  # halve
    SOME_REFUSED = "some_refused"  # these events; the rest is taken
    BUG = "bug"  # unknown exception


@dataclass(frozen=True, slots=True)
class Verdict:
    """An attempt's ending, with what there is to know of it."""

    ending: Ending
    reason: str = ""
    unknown: bool = False  # the attempt may have taken effect
    retry_after: float | None = None  # seconds, the sink's own wish
    refused: Mapping[int, str] = field(default_factory=dict)


def judge(error: BaseException | None, events: int) -> Verdict:
    """The verdict on a call that returned (None) or raised, for a batch of `events` events."""
    match error:
        case None:
            return Verdict(Ending.DELIVERED)
        case SinkUnavailable():
            after = error.retry_after
            after = None if after is None else min(max(after, 0.0), MAX_RETRY_AFTER)
            return Verdict(Ending.RETRY, _words(error), unknown=not error.untouched, retry_after=after)
        case Overdue():
            return Verdict(Ending.RETRY, _words(error), unknown=True)
        case SinkMisconfigured():
            return Verdict(Ending.HOLD, _words(error, REMEDY_CHARACTERS))
        case BatchTooLarge():
            return Verdict(Ending.TOO_LARGE, _words(error))
        case BatchRejected():
            return Verdict(Ending.REFUSED, _words(error))
        case EventsRejected():
            return _judge_some(error, events)
        case _:
            return Verdict(Ending.BUG, describe(error), unknown=True)


def _judge_some(error: EventsRejected, events: int) -> Verdict:
    refused = {position: _words(why) for position, why in error.reasons.items() if 0 <= position < events}
    if len(refused) != len(error.reasons) or not refused:
        words = _words(f"EventsRejected names positions outside the batch of {events}: {error}")
        return Verdict(Ending.BUG, words, unknown=True)
    if len(refused) == events:  # nothing was taken: judged like any whole refusal
        return Verdict(Ending.REFUSED, next(iter(refused.values())))
    return Verdict(Ending.SOME_REFUSED, _words(error), refused=refused)


def _words(said: object, limit: int = REASON_CHARACTERS) -> str:
    """The first line of what a sink said, bounded: it may quote a whole batch."""
    lines = str(said)[: 10 * limit].strip().splitlines()
    return safe_text(lines[0], limit) if lines else ""


def describe(error: BaseException) -> str:
    """The type of an unknown exception, its first words as far as no event can be among them, and where it came from.

    The place is the innermost line of the code that eventferry called: a sink's own bug is found by it, where a
    library that it uses is at the innermost line of all.
    """
    name = type(error).__name__
    words = _words(str(error).partition("{")[0], UNKNOWN_CHARACTERS).removeprefix(f"{name}:").strip()
    place = _place(error)
    return (f"{name}: {words}" if words else name) + (f" (at {place})" if place else "")


def _place(error: BaseException) -> str:
    """`file:line`, or nothing where the exception was raised by eventferry itself."""
    frames = [(frame.f_globals.get("__name__", "?"), frame, line) for frame, line in walk_tb(error.__traceback__)]
    called = list(dropwhile(lambda each: _package(each[0]) in ("eventferry", "contextlib"), frames))
    own = [(frame, line) for name, frame, line in called if _package(name) == _package(called[0][0])]
    if not own:
        return ""
    frame, line = own[-1]
    path = frame.f_code.co_filename
    return safe_text(path if len(path) <= PLACE_CHARACTERS else f"…{path[1 - PLACE_CHARACTERS :]}") + f":{line}"


def _package(module: str) -> str:
    return module.partition(".")[0]


def backoff_ms(attempt: int, first: float, most: float, retry_after: float | None) -> int:
    """How long to wait after `attempt` failures, in ms: capped, full jitter, never before the sink's own wish."""
    ceiling = min(most, first * 2 ** min(attempt - 1, 30))
    wait = random.uniform(first / 2, max(ceiling, first / 2))  # noqa: S311 - jitter, not a secret
    if retry_after is not None:
        wait = retry_after + random.uniform(0, first)  # noqa: S311
    return int(wait * 1000)
