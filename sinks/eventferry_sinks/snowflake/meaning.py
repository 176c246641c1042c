"""Says what Snowflake's error numbers mean for a batch, in the errors of the contract."""

import re
from typing import Any

from eventferry.sink import BatchRejected, SinkError, SinkMisconfigured, SinkUnavailable
from eventferry.sink.safe import safe_text

_LATER = {
    603: "Snowflake had an internal problem",
    604: "the statement was cancelled",
    625: "another transaction holds the lock; if a killed eventferry left it behind, Snowflake ends it within minutes,"
    " an account administrator at once: SHOW TRANSACTIONS IN ACCOUNT, SELECT SYSTEM$ABORT_TRANSACTION(<its id>)",
    630: "the statement took longer than it may",
    **dict.fromkeys((390110, 390111, 390112, 390113, 390114, 390115), "the session is over"),
}
_FOR_A_PERSON = {
    606: "name a running warehouse in `warehouse`",
    2003: "it is missing, or the role may not see it: the README of this type has the GRANTs",
    2043: "it is missing, or the role may not use it: the README of this type has the GRANTs",
    3001: "grant the role what the README of this type says",
    90073: "a resource monitor has stopped the warehouse",
}
_DATA = range(100_000, 101_000)  # values that do not fit: a number, a time, a text that is too long
_PAYLOAD = re.compile(r"'[^']*'|\"[^\"]*\"", re.S)
_CONNECTING = 250_001
_UNREACHABLE = "Could not connect to Snowflake backend"
_LOGIN = range(390_000, 395_000)  # Snowflake's own numbers for a refused login, unless a session is over
_HTTP = range(290_400, 290_500)  # the driver's numbers for statuses such as 404: no such account


def meaning_of(who: str, error: Any, *, untouched: bool) -> SinkError:
    """The contract's error for one of the driver's; `untouched` where no COMMIT was sent."""
    number = int(error.errno or 0)
    text = str(error.raw_msg or error.msg or error)
    if number in _DATA:
        return BatchRejected(f"{who}: {_PAYLOAD.sub('…', _said(text))} ({number})")
    if number in _LATER:
        return SinkUnavailable(f"{who}: {_said(text)} ({number}); {_LATER[number]}", untouched=untouched)
    if number == _CONNECTING and _UNREACHABLE in text:
        return SinkUnavailable(f"{who}: {_said(text)} ({number})", untouched=untouched)
    if number == _CONNECTING or number in _LOGIN or number in _HTTP:
        return SinkMisconfigured(
            f"{who} refuses to log in ({_said(text)}, {number}); check account, user, key, role, warehouse, and network"
            " policies"
        )
    if number in _FOR_A_PERSON:
        return SinkMisconfigured(f"{who}: {_said(text)} ({number}); {_FOR_A_PERSON[number]}")
    from snowflake.connector import errors

    if isinstance(error, errors.ProgrammingError) and not isinstance(error, errors.ServiceUnavailableError):
        return SinkMisconfigured(f"{who}: {_said(text)} ({number})")
    return SinkUnavailable(f"{who}: {_said(text)} ({number})", untouched=untouched)


def _said(text: str) -> str:
    """The first words of an answer; what follows quotes the statement."""
    lines = [line for line in text.splitlines() if line.strip()]
    # "SQL compilation error:" alone says nothing.
    return safe_text(" ".join(lines[:2]) if lines and lines[0].rstrip().endswith(":") else "".join(lines[:1]), 250)
