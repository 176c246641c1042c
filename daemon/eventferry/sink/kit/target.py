"""What a contract test tells the kit about the other side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eventferry.sink.base import Sink


@dataclass(frozen=True, slots=True)
class Target:
    """A place that sinks deliver to: `sink()` makes a new, unopened sink on it, `arrived()` reads back what is there.

    `arrived` returns the events in the order in which they came, each as JSON without its newline. `keys`, for sinks
    that are "at least once, keyed", returns the batch ids that the receiver saw, repeats included.
    """

    sink: Callable[[], Sink]  # type: ignore[type-arg]
    arrived: Callable[[], Sequence[bytes]] = tuple
    keys: Callable[[], Sequence[str]] | None = None
