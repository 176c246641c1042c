"""Ends a scan: decides what becomes of the object version, and writes that down with its alerts."""

from dataclasses import dataclass

import sqlalchemy as sa

from eventferry.ledger import alerts, objects
from eventferry.ledger.objects import ObjectEnd, ObjectRow
from eventferry.logs import get_logger
from eventferry.pipeline.scan import ScanFailure, ScanResult, ScanSpec
from eventferry.pipeline.source import Source

logger = get_logger()

# A share of bad lines means something only from this many lines on.
MIN_LINES_TO_JUDGE = 20
# An object whose store does not answer is tried again after this long.
STORE_RETRY_MS = 60_000
# A person's `files release` leaves this reason on the row: deliver it in spite of what held it.
RELEASED = "released"

Outcome = ScanResult | ScanFailure


@dataclass(frozen=True, slots=True)
class ScanItem:
    """An object version and what its worker was told."""

    row: ObjectRow
    spec: ScanSpec
    earlier: frozenset[str] = frozenset()  # digests of the contents of this key that are in the log


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of an object version after its scan."""

    state: str  # indexed | unchanged | quarantined | held | gone | later
    reason: str | None = None
    retry_ms: int = 0


def decide(source: Source, item: ScanItem, outcome: Outcome, now_ms: int) -> Decision:
    """Pure: the object's state after a scan."""
    settings, row = source.settings, item.row
    if isinstance(outcome, ScanFailure):
        return _decide_failure(source, row, outcome, now_ms)
    if outcome.unchanged or outcome.digest in item.earlier:  # also what was put back after other bytes
        return Decision("unchanged")
    judged = outcome.events + outcome.bad
    if judged >= MIN_LINES_TO_JUDGE and outcome.bad > settings.bad_share * judged and row.reason != RELEASED:
        return Decision(
            "quarantined", f"{outcome.bad} of {judged} lines are bad, more than bad_share = {settings.bad_share}"
        )
    replaced = item.spec.known is not None
    if replaced and outcome.grew_from is None and settings.on_change == "hold" and row.reason != RELEASED:
        return Decision("held", "its content was replaced by other bytes after it had been indexed")
    return Decision("indexed")


def _decide_failure(source: Source, row: ObjectRow, failure: ScanFailure, now_ms: int) -> Decision:
    if failure.kind == "unreadable":
        age_ms = now_ms - min(row.modified_ms, row.seen_ms)  # a store ahead of our clock dates files in the future
        patience_ms = int(source.settings.unreadable_after.total_seconds() * 1000)
        if age_ms < patience_ms:  # it may still be being written
            return Decision("later", failure.reason, now_ms + min(patience_ms - age_ms, 60_000))
        return Decision("quarantined", f"{failure.reason} (readable up to byte {failure.offset:,})")
    if failure.kind == "killed":
        return Decision("quarantined", failure.reason)
    if failure.kind in ("gone", "changed"):  # never indexed; the next listing brings what is there now
        return Decision("gone", failure.reason)
    return Decision("later", failure.reason, now_ms + STORE_RETRY_MS)


def end_of(row: ObjectRow, outcome: Outcome, decision: Decision) -> ObjectEnd:
    """The end state with the books; an unchanged version adds nothing to them."""
    if not isinstance(outcome, ScanResult):
        return ObjectEnd(row.id, decision.state, decision.reason)
    known = (outcome.digest, outcome.bytes, outcome.grew_from or 0)
    if decision.state == "unchanged":
        return ObjectEnd(row.id, decision.state, decision.reason, *known)
    books = (outcome.lines, outcome.events, outcome.bad, outcome.blank, outcome.untimed)
    return ObjectEnd(row.id, decision.state, decision.reason, *known, *books)


def note(tx: sa.Connection, source: Source, row: ObjectRow, outcome: Outcome, decision: Decision) -> None:
    """What is written of an object beside its end: a later try, samples of bad lines, alerts."""
    if decision.state == "later":
        reason = RELEASED if row.reason == RELEASED else decision.reason  # what a person decided outlives a bad store
        objects.postpone_object(tx, row.id, decision.retry_ms, reason or "")
        objects.uncount_attempt(tx, row.id)
        return
    if isinstance(outcome, ScanResult) and outcome.samples and decision.state != "unchanged":
        samples = [(bad.line, bad.offset, bad.length, bad.reason) for bad in outcome.samples]
        objects.record_bad_lines(tx, row.id, samples)
    _alert(tx, source, row, outcome, decision)


def _alert(tx: sa.Connection, source: Source, row: ObjectRow, outcome: Outcome, decision: Decision) -> None:
    """One condition per source and cause, however many files: a storm of bad files is one message."""
    if decision.state in ("quarantined", "held"):
        word = "quarantined" if decision.state == "quarantined" else "held"
        alerts.open_condition(
            tx,
            cause=f"file.{word}:{source.name}",
            level="error",
            event=f"file.{word}",
            subject=f"A file of source {source.name} is {word} and not delivered: {row.key}",
            detail=decision.reason or "",
            command=f"eventferry files list --state {word} --source {source.name}",
            fields={"source": source.name, "key": row.key},
        )
        logger.error(f"file.{word}", source=source.name, key=row.key, reason=decision.reason)
    if isinstance(outcome, ScanResult) and outcome.bad and decision.state == "indexed":
        first = outcome.samples[0]
        alerts.open_condition(
            tx,
            cause=f"lines.bad:{source.name}",
            level="warning",
            event="lines.bad",
            subject=f"Files of source {source.name} hold bad lines; they are skipped and recorded",
            detail=f"{outcome.bad} in {row.key}, the first in line {first.line}: {first.reason}",
            command=f"eventferry files list --bad --source {source.name}",
            fields={"source": source.name, "key": row.key},
        )
