"""Why the service over exports does not do what it was asked."""

from eventferry.errors import EventferryError


class ExportRefused(EventferryError):
    """Root of the refusals; each text is a sentence for the requester."""


class NotFound(ExportRefused):
    """There is no such export or file, or not for this key: the same words for both."""


class Gone(NotFound):
    """There was such a file, for this key too; it has expired."""


class NotReady(ExportRefused):
    """The export is not complete: there are no files yet, or there will be none."""


class NotPossible(ExportRefused):
    """What is wanted cannot be had; `field` says which part of the request: output.format, notify.email …"""

    def __init__(self, field: str, sentence: str) -> None:
        self.field = field
        super().__init__(sentence)


class Conflict(ExportRefused):
    """The same Idempotency-Key came with another request before."""


class TooMany(ExportRefused):
    """The key has as many exports waiting as it may; `retry_after` in seconds."""

    def __init__(self, limit: int, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(
            f"{limit} exports of this key are waiting already, the most it may have; wait until one has begun, or "
            "cancel one"
        )
