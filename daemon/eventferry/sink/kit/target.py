"""What a contract test tells the kit about the other side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eventferry.sink.base import Sink


def _nothing() -> None:
    """Most places need no preparation."""


@dataclass(frozen=True, slots=True)
class Target:
    """A place that sinks deliver to: `sink()` makes a new, unopened sink on it, `arrived()` reads back what is there.

    `arrived` returns the events in the order in which they came, each as JSON without its newline. `keys`, for sinks
    that are "at least once, keyed", returns the batch ids that the receiver saw, repeats included. `arm` is called once
    by the promises about lost replies and crashes: after a sink was opened, before its first delivery.
    """

    sink: Callable[[], Sink]  # type: ignore[type-arg]
    arrived: Callable[[], Sequence[bytes]] = tuple
    keys: Callable[[], Sequence[str]] | None = None
    arm: Callable[[], None] = _nothing
