"""What the errors of a server that speaks PostgreSQL's protocol mean to the daemon, by SQLSTATE."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from eventferry.sink.errors import BatchRejected, SinkError, SinkMisconfigured, SinkUnavailable
from eventferry.sink.safe import safe_text

_LATER = (
    "08",  # connection exceptions
    "25",  # invalid transaction state; a server that only reads, after a failover
    "40",  # rolled back: serialization, deadlock
    "53",  # no memory, no disk space, no free connection
    "55",  # a lock that was not to be had in time
    "57",  # cancelled, shutting down, starting up
    "58",  # the operating system under the server
    "XX",  # internal
)
_HELD = (
    "0A",  # not supported: COPY into what cannot be copied into
    "0L", "0P", "28",  # who may log in
    "3B", "3D", "3F",  # no such database, no such schema
    "42",  # no such table or column, no right to it
    "F0",  # the server's configuration file
    "HV",  # a foreign table
)  # fmt: skip
_REFUSED = (
    "21", "22", "23", "27", "44",  # values: not of the type, against a constraint
    "38", "39", "P0",  # a trigger raised
    "54",  # too long for an index, too deep, too many
)  # fmt: skip

_DROPPED = "57P04"  # the database is gone
_CORRUPTED = ("XX001", "XX002")
# After these a COMMIT may have happened all the same.
_UNKNOWN = ("08", "57", "58", "XX", "40003")

_REASONS = {
    "25006": "it only reads, as a standby does",
    "53100": "its disk is full; free some space",
    "53300": "all its connections are in use",
    "57P03": "it is starting up, or shutting down",
}
_COPYING = re.compile(r"^COPY \w+, line \d+, column (\w{1,63})(?::|$)", re.M)
_QUOTED_VALUE = re.compile(r': ".*', re.S)  # `invalid input syntax for type bigint: "…"`


@dataclass(frozen=True, slots=True)
class Complaint:
    """What the server said. `context` and `detail` may quote events and are never shown."""

    sqlstate: str | None  # None: the connection broke
    message: str = ""  # the primary message
    context: str = ""
    column: str = ""
    constraint: str = ""


class Judge(Protocol):
    """What complaints mean: `meaning`, or what goes before it for another server."""

    def __call__(
        self, said: Complaint, who: str, *, committing: bool = ..., remedies: Mapping[str, str] | None = ...
    ) -> SinkError: ...


def meaning(
    said: Complaint, who: str, *, committing: bool = False, remedies: Mapping[str, str] | None = None
) -> SinkError:
    """The complaint of server `who` as an error of the contract.

    `committing`: COMMIT was sent, so that a lost answer leaves the outcome unknown. `remedies` say what a person may
    do, by SQLSTATE or by its first two characters.
    """
    state = said.sqlstate or "08006"
    text = f"{who}: {_words(said, state)}"
    remedy = (remedies or {}).get(state) or (remedies or {}).get(state[:2])
    if remedy:
        text = f"{text}; {remedy}"
    if state[:2] in _REFUSED:
        return BatchRejected(text)
    if state[:2] in _HELD or state == _DROPPED or state in _CORRUPTED:
        return SinkMisconfigured(text)
    unknown = committing and state.startswith(_UNKNOWN)
    if unknown:
        text = f"{text}; whether the batch was committed is unknown"
    return SinkUnavailable(text, untouched=not unknown)


def _words(said: Complaint, state: str) -> str:
    """The server's own words without what they quote of events, and what they are about."""
    message = said.message
    if state[:2] in ("22", "42"):  # `column "x" does not exist` is no value, `type bigint: "…"` is
        message = _QUOTED_VALUE.sub("", message)
    words = safe_text(message, 300) or "the connection broke"
    if column := said.column or _column_of(said.context):
        words += f" (column {safe_text(column, 70)})"
    if said.constraint and said.constraint not in words:
        words += f" (constraint {safe_text(said.constraint, 70)})"
    if reason := _REASONS.get(state):
        words += f": {reason}"
    return f"{words} [{state}]" if said.sqlstate else words


def _column_of(context: str) -> str:
    found = _COPYING.search(context)
    return found[1] if found else ""
