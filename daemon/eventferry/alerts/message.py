"""What people are told: one message, the same for every channel."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from eventferry.ledger.alerts import LEVELS, StoredMessage

Level = Literal["debug", "info", "warning", "error"]
Kind = Literal["problem", "reminder", "recovered", "over", "notice", "digest", "test", "failure"]

__all__ = ["LEVELS", "Kind", "Level", "Message", "from_stored"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message to people. Times are epoch milliseconds."""

    id: int  # unique in its ledger; 0 outside of one
    cause: str  # the same for a problem, its reminders and its end
    kind: str  # a Kind
    level: str  # a Level
    event: str  # sink.held, as in the log
    subject: str  # one sentence
    detail: str = ""
    command: str = ""  # what to run now
    fields: Mapping[str, Any] = field(default_factory=dict)  # how much waits and the like
    since_ms: int = 0
    count: int = 1  # how often it was seen
    instance: str = "eventferry"
    host: str = ""
    created_ms: int = 0


def from_stored(stored: StoredMessage, instance: str, host: str) -> Message:
    """The message as it is sent, with who sends it."""
    return Message(
        id=stored.id,
        cause=stored.cause,
        kind=stored.kind,
        level=stored.level,
        event=stored.event,
        subject=stored.subject,
        detail=stored.detail,
        command=stored.command,
        fields=stored.fields,
        since_ms=stored.since_ms,
        count=stored.count,
        instance=instance,
        host=host,
        created_ms=stored.created_ms,
    )
