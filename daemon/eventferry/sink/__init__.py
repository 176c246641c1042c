"""The public, versioned contract for sinks: all that a sink type may import of eventferry."""

from eventferry.sink.base import (
    CONTRACT_VERSION,
    BatchLimits,
    Guarantee,
    Sink,
    SinkOptions,
)
from eventferry.sink.batch import Batch, Part
from eventferry.sink.errors import (
    BatchRejected,
    BatchTooLarge,
    EventsRejected,
    SinkError,
    SinkMisconfigured,
    SinkUnavailable,
)

__all__ = [
    "CONTRACT_VERSION",
    "Batch",
    "BatchLimits",
    "BatchRejected",
    "BatchTooLarge",
    "EventsRejected",
    "Guarantee",
    "Part",
    "Sink",
    "SinkError",
    "SinkMisconfigured",
    "SinkOptions",
    "SinkUnavailable",
]
