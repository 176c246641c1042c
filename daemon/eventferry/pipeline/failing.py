"""Says why a single batch does not go on, while its sink takes others."""

import sqlalchemy as sa

from eventferry.ledger import alerts, batches
from eventferry.ledger.batches import BatchRow

ATTEMPTS_BEFORE_ALERT = 10


def tell(tx: sa.Connection, sink: str, row: BatchRow, reason: str) -> None:
    """Tell people of a batch that fails again and again, from its tenth attempt on."""
    if row.attempts < ATTEMPTS_BEFORE_ALERT:
        return
    alerts.open_condition(
        tx,
        cause=_cause(sink),
        level="error",
        event="batch.failing",
        subject=f"A batch of {row.events:,} events for sink {sink} fails again and again, while others are taken",
        detail=f"batch {row.id}, {row.attempts} attempts: {reason}",
        command=f"journalctl -u eventferry -g {row.id}; eventferry status --sink {sink}",
        fields={"sink": sink, "batch": row.id},
    )


def end(tx: sa.Connection, sink_id: int, sink: str) -> None:
    """End that alert where no batch is left that was tried so often."""
    if alerts.opened_ms(tx, _cause(sink)) is None or batches.is_any_tried(tx, sink_id, ATTEMPTS_BEFORE_ALERT):
        return
    alerts.close_condition(tx, _cause(sink), subject=f"No batch of sink {sink} fails again and again any more")


def why_not_repeated(row: BatchRow, fingerprint: str) -> str:
    """Why a batch cannot be repeated as it was sent; `fingerprint` is of the transform that it would have now."""
    if fingerprint != row.transform:
        return (
            f"redact_salt was changed while batch {row.id} was under way, which is repeated only as it was; "
            "put the old salt back until it is through"
        )
    return f"batch {row.id} would not be sent with the same bytes again"


def _cause(sink: str) -> str:
    return f"batch.failing:{sink}"
