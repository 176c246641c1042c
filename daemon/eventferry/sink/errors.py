"""What a sink may say when a batch did not get through, sorted by what the daemon does next.

    SinkError
    ├── SinkUnavailable     later: the same batch may succeed
    ├── SinkMisconfigured   a person: hold this sink until somebody mends it
    ├── BatchTooLarge       halve it
    ├── BatchRejected       something in it is refused: bisect
    └── EventsRejected      these positions are refused, the rest is taken

Any other exception is a bug of the sink: retried as unknown, bisected after five times, then held.
"""

from collections.abc import Mapping


class SinkError(Exception):
    """Root of the answers a sink may give. The text is shown to the operator: no payloads, no secrets."""


class SinkUnavailable(SinkError):
    """The same batch may succeed later.

    `retry_after` is in seconds, where the sink named a time. `untouched=True` says that nothing of the batch can have
    taken effect (connection refused, 429): without it the outcome counts as unknown, and the batch is resent under the
    same id with the same bytes.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, untouched: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.untouched = untouched


class SinkMisconfigured(SinkError):
    """A person has to act: wrong credentials, a missing table, 401/403/404. The sink is held and probed slowly."""


class BatchTooLarge(SinkError):
    """The sink takes no body of this size; the daemon halves the batch."""


class BatchRejected(SinkError):
    """The sink refuses something in the batch and took nothing of it; the daemon bisects down to the refused events."""


class EventsRejected(SinkError):
    """The events at these positions are refused; every other event of the batch is taken.

    `reasons` maps a position in the batch (0-based) to the sink's own words. A resend of the same batch must raise the
    same; a sink that cannot promise that commits nothing and raises BatchRejected instead.
    """

    def __init__(self, reasons: Mapping[int, str]) -> None:
        self.reasons = dict(reasons)
        some = next(iter(self.reasons.items()), None)
        super().__init__(f"{len(self.reasons)} events refused" + (f", first at {some[0]}: {some[1]}" if some else ""))
