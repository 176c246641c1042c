"""The conformance kit: a sink type that passes SinkPromises keeps the contract. Needs pytest."""

from eventferry.sink.kit.batches import cut_batch, make_batch, replacing_batch, sample_events
from eventferry.sink.kit.breaking import breaking
from eventferry.sink.kit.promises import SinkPromises
from eventferry.sink.kit.proxy import CuttingProxy
from eventferry.sink.kit.target import Target

__all__ = [
    "CuttingProxy",
    "SinkPromises",
    "Target",
    "breaking",
    "cut_batch",
    "make_batch",
    "replacing_batch",
    "sample_events",
]
