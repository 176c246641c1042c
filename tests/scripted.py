"""A sink that does what a test tells it, and remembers every call: type = "tests.scripted:ScriptedSink"."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from eventferry.sink import (
    Batch,
    BatchLimits,
    BatchRejected,
    BatchTooLarge,
    EventsRejected,
    Sink,
    SinkOptions,
    SinkUnavailable,
)

Behaviour = Callable[[Batch, "Script"], None]


@dataclass
class Script:
    """What one sink shall do, and what came of it. Shared by all instances of the sink."""

    behave: Behaviour = lambda batch, script: None
    knows: Callable[[Batch], bool | None] = lambda batch: None
    on_open: Callable[[], None] = lambda: None
    steps: Callable[[], Iterable[str]] = tuple  # of a check
    tells: "Callable[[ScriptedSink], None]" = lambda sink: None  # beside its answers: counts, a lowered guarantee
    calls: list[Batch] = field(default_factory=list)
    taken: list[Batch] = field(default_factory=list)  # in the order in which they were committed
    asked: list[str] = field(default_factory=list)  # ids that was_delivered was asked about
    released: threading.Event = field(default_factory=threading.Event)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def deliver(self, batch: Batch) -> None:
        with self.changed:
            self.calls.append(batch)
            self.changed.notify_all()
        self.behave(batch, self)
        self.commit(batch)

    def commit(self, batch: Batch) -> None:
        with self.changed:
            self.taken.append(batch)
            self.changed.notify_all()

    def await_calls(self, count: int, timeout: float = 20) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.calls) >= count, timeout), f"only {len(self.calls)} calls"

    def await_taken(self, events: int, timeout: float = 20) -> None:
        with self.changed:
            enough = self.changed.wait_for(lambda: len(self.lines()) >= events, timeout)
        assert enough, f"only {len(self.lines())} of {events} events"

    def lines(self) -> list[bytes]:
        """Every event taken, as often as it was taken, in order."""
        return [line for batch in list(self.taken) for line in batch.lines()]

    def lines_once(self) -> list[bytes]:
        """The events of each batch id once: what a sink that knows ids ends up with."""
        return [line for batch in {batch.id: batch for batch in self.taken}.values() for line in batch.lines()]

    def ids(self) -> list[str]:
        return [batch.id for batch in self.calls]


SCRIPTS: defaultdict[str, Script] = defaultdict(Script)


class ScriptedOptions(SinkOptions):
    script: str


class ScriptedSink(Sink[ScriptedOptions]):
    Options = ScriptedOptions
    max_concurrency = 8
    limits = BatchLimits(max_events=1000)

    def open(self) -> None:
        SCRIPTS[self.options.script].on_open()

    def check(self) -> Iterator[str]:
        script = SCRIPTS[self.options.script]
        script.tells(self)
        yield from script.steps()

    def deliver(self, batch: Batch) -> None:
        SCRIPTS[self.options.script].tells(self)
        SCRIPTS[self.options.script].deliver(batch)

    def was_delivered(self, batch: Batch) -> bool | None:
        script = SCRIPTS[self.options.script]
        script.asked.append(batch.id)
        return script.knows(batch)


# -- behaviours -------------------------------------------------------------------------------------------------------


def take(batch: Batch, script: Script) -> None:
    """Accept everything."""


def hang(batch: Batch, script: Script) -> None:
    """Do not return until the script is released; then accept."""
    script.released.wait(60)


def raising(error: Exception) -> Behaviour:
    """Answer every call with this error."""

    def behave(batch: Batch, script: Script) -> None:
        raise error

    return behave


def unavailable(**how: object) -> Behaviour:
    return raising(SinkUnavailable("answered 503", **how))  # type: ignore[arg-type]


def too_large(most: int) -> Behaviour:
    """Take no body of more than `most` bytes."""

    def behave(batch: Batch, script: Script) -> None:
        if len(batch.body) > most:
            raise BatchTooLarge(f"more than {most} bytes")

    return behave


def refusing(marker: bytes, words: str = "column `amount` is no number") -> Behaviour:
    """Refuse every batch that holds the marker."""

    def behave(batch: Batch, script: Script) -> None:
        if marker in batch.body:
            raise BatchRejected(words)

    return behave


def refusing_events(marker: bytes, words: str = "no such type") -> Behaviour:
    """Take a batch but for the events that hold the marker."""

    def behave(batch: Batch, script: Script) -> None:
        bad = {position: words for position, line in enumerate(batch.lines()) if marker in line}
        if bad:
            raise EventsRejected(bad)

    return behave


def buggy(marker: bytes) -> Behaviour:
    """Raise what no sink should raise, whenever the batch holds the marker."""

    def behave(batch: Batch, script: Script) -> None:
        if marker in batch.body:
            raise KeyError("amount")

    return behave


def commit_then_raise(error: Exception) -> Behaviour:
    """Take the batch, and say that it failed: the answer was lost."""

    def behave(batch: Batch, script: Script) -> None:
        script.commit(batch)
        raise error

    return behave


def first(count: int, behaviour: Behaviour, then: Behaviour = take) -> Behaviour:
    """This behaviour for the first `count` calls, another one after them."""

    def behave(batch: Batch, script: Script) -> None:
        (behaviour if len(script.calls) <= count else then)(batch, script)

    return behave
