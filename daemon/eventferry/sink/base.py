"""The contract between the daemon and a sink type. Version 1; see docs/sinks.md.

The daemon owns everything hard: retry, back-off, deadlines, holding, bisecting, recording, logging, metrics. A sink
does transport: open, deliver one batch, close.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict

from eventferry.sink.batch import Batch

CONTRACT_VERSION = 1


class Guarantee(StrEnum):
    """What the same batch sent twice means at the sink, the strongest first; the conformance kit proves it."""

    EFFECTIVELY_ONCE = "effectively once"
    AT_LEAST_ONCE_KEYED = "at least once, keyed"
    AT_LEAST_ONCE = "at least once"


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How large a batch of a sink type is where the configuration is silent."""

    max_events: int = 10_000
    max_bytes: int = 8 * 1024 * 1024


class SinkOptions(BaseModel):
    """The keys of a sink's table that are its own; an unknown key is an error. Validation does no I/O."""

    model_config = ConfigDict(extra="forbid", frozen=True)


OptionsT = TypeVar("OptionsT", bound=SinkOptions)


class Sink(ABC, Generic[OptionsT]):
    """A destination for batches. Keeps no queue, retries nothing, logs no failure, sleeps never.

    Life: __init__ (no I/O) → open → deliver, again and again → close. One instance is used by one thread at a time,
    never before open nor after close. After a deadline the instance is abandoned and a new one is made.
    """

    Options: ClassVar[type[SinkOptions]] = SinkOptions
    # What the type promises; `open` lowers it on its instance where this table or store cannot keep it.
    guarantee: Guarantee = Guarantee.AT_LEAST_ONCE
    max_concurrency: ClassVar[int] = 1  # how many instances may deliver at the same time
    limits: ClassVar[BatchLimits] = BatchLimits()
    # Promises that `deliver` forgets all that it holds of `batch.replaces` in the transaction that takes the batch.
    can_replace: ClassVar[bool] = False
    experimental: ClassVar[bool] = False  # proved only against a stub or an emulator
    proved_against: ClassVar[str] = ""  # the other side in its contract test: "PostgreSQL 18", "a stub of the REST API"
    contract: ClassVar[int] = CONTRACT_VERSION  # a type may pin the version that it was written for
    needs: ClassVar[Mapping[str, str]] = {}  # client library (module) → what pip installs to get it

    def __init__(self, options: OptionsT, name: str = "") -> None:
        self.options = options
        self.name = name
        # (what, of what) → how often, since the daemon last took them.
        self.counts: Counter[tuple[str, str]] = Counter()

    def open(self) -> None:
        """Connect. Leaves nothing behind if it fails. Raises SinkUnavailable or SinkMisconfigured."""

    @abstractmethod
    def deliver(self, batch: Batch) -> None:
        """Deliver the whole batch. Returning is the sink's own proof that every event is durably held."""

    def was_delivered(self, batch: Batch) -> bool | None:
        """Whether an earlier attempt of this batch took effect; None where the sink cannot tell."""
        return None

    def check(self) -> Iterator[str]:
        """Steps that prove that a delivery could work, one sentence each, in order; called after `open`.

        Leaves nothing behind. Raises SinkErrors where a step fails.
        """
        return iter(())

    def count(self, what: str, of: str = "", number: int = 1) -> None:
        """Count something that people should be able to see: `count("values.misfitted", of="elapsed")`.

        What an attempt counted is kept only if it was taken.
        """
        self.counts[what, of] += number

    def close(self) -> None:
        """Let go of everything. Called once after a successful open; twice is harmless."""

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
