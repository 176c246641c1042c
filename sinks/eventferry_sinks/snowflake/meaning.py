"""Says what Snowflake's error numbers mean for a batch, in the errors of the contract."""

import re
from typing import Any

from eventferry.sink import BatchRejected, SinkError, SinkMisconfigured, SinkUnavailable
from eventferry.sink.safe import safe_text

_LATER = {
    604: "the statement was cancelled",
    625: "another transaction holds the lock; if a killed eventferry left it behind, find it by SHOW TRANSACTIONS IN"
    " ACCOUNT and end it by SELECT SYSTEM$ABORT_TRANSACTION(<its id>)",
    630: "the statement took longer than it may",
    300002: "Snowflake had an internal problem",
    300010: "Snowflake had an internal problem",
    370001: "Snowflake had an internal problem",
    390110: "the session is over",
    390111: "the session is over",
    390114: "the session is over",
    390195: "the session is over",
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
_CODE = re.compile(r"\b(\d{6})\b")


def meaning_of(who: str, error: Any, *, untouched: bool) -> SinkError:
    """The contract's error for one of the driver's; `untouched` where no COMMIT was sent."""
    number = int(error.errno or 0)
    text = str(error.raw_msg or error.msg or error)
    if number == _CONNECTING:  # the driver's own number; Snowflake's is in the text
        return SinkMisconfigured(
            f"{who} refuses to log in ({_said(text)}); check account, user, key, role, warehouse, and network policies"
        )
    if number in _DATA:
        return BatchRejected(f"{who}: {_PAYLOAD.sub('…', _said(text))} ({number})")
    if number in _LATER:
        return SinkUnavailable(f"{who}: {_said(text)} ({number}); {_LATER[number]}", untouched=untouched)
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
