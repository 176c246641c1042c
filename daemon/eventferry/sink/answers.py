"""Says what an HTTP answer means for a batch: a pure table from status and headers to the errors of the contract."""

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from eventferry.sink.errors import BatchRejected, BatchTooLarge, SinkError, SinkMisconfigured, SinkUnavailable
from eventferry.sink.safe import safe_url

LONGEST_WAIT = 86400.0  # seconds; a Retry-After beyond a day is a mistake of the other side

_LATER = {
    408: "took too long to receive the batch",
    409: "is still working on this batch",
    423: "is locked",
    425: "says it is too early",
    429: "asks for fewer requests",
}
_FOR_A_PERSON = {
    401: "refuses the credentials",
    403: "refuses access",
    404: "knows no such path",
    405: "does not allow the method",
    407: "wants credentials for a proxy",
    410: "says that the path is gone",
}


def classify(
    status: int,
    headers: Mapping[str, str],
    words: str,
    *,
    expect: Collection[int],
    who: str,
    now: datetime,
) -> SinkError | None:
    """What an answer with `status` means; None where `expect` lists it.

    `headers` are looked up by their usual spelling, so the mapping should ignore case; `words` is the answer's text,
    already safe for messages; `who` names the receiver.
    """
    if status in expect:
        return None
    said = f"{who} answered {status}" + (f": {words}" if words else "")
    if 200 <= status < 300:
        return SinkMisconfigured(f"{said}; add {status} to the expected statuses if it means that all was taken")
    if 300 <= status < 400:
        target = safe_url(headers.get("Location", "")) or "nowhere"
        return SinkMisconfigured(f"{who} answered {status} and points to {target}; configure the final URL")
    if status in _FOR_A_PERSON:
        return SinkMisconfigured(f"{who} {_FOR_A_PERSON[status]} ({said})")
    if status == 413:
        return BatchTooLarge(f"{said}; the batch is too large for it")
    if status in _LATER:
        wait = retry_after(headers.get("Retry-After"), now)
        return SinkUnavailable(f"{who} {_LATER[status]} ({said})", retry_after=wait, untouched=status == 429)
    if 400 <= status < 500:
        return BatchRejected(said)
    return SinkUnavailable(said, retry_after=retry_after(headers.get("Retry-After"), now))


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait by a Retry-After header: whole seconds or an HTTP date; None for a past date or garbage."""
    text = (value or "").strip()
    if re.fullmatch(r"[0-9]{1,12}", text):
        return min(float(text), LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(text)
        wait = ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(wait, LONGEST_WAIT) if wait >= 0 else None
