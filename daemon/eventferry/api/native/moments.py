"""Times in query parameters."""

from eventferry.api.native.selecting import placed
from eventferry.query.timeframe import parse_instant


def moment(text: str | None, name: str) -> int | None:
    """Epoch ms of an ISO 8601 time, UTC where it says nothing else; None for None. Raises Problem."""
    if text is None:
        return None
    with placed("query"):
        return parse_instant(text, (name,))
