"""A sink at work: its identity in the ledger with what the configuration says."""

from collections.abc import Callable
from dataclasses import dataclass

from eventferry.pipeline.material import Limits
from eventferry.pipeline.record import Rules
from eventferry.pipeline.slot import AnySink
from eventferry.pipeline.source import Source
from eventferry.query.transform import Transform


@dataclass(frozen=True)
class SinkSetup:
    """A sink at work: its identity in the ledger with what the configuration says."""

    id: int
    name: str
    identity: str
    type: str
    make: Callable[[], AnySink]
    transform: Transform
    limits: Limits
    rules: Rules
    concurrency: int
    timeout: float  # s, the total deadline of one call
    max_wait_ms: int
    sources: tuple[Source, ...]
    fingerprint: str = ""  # of its configuration: what a reload compares
