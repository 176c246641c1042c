"""Ends a scan: decides what becomes of the object version, and writes that down with its alerts."""

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from eventferry.ledger import alerts, objects
from eventferry.ledger.objects import ObjectEnd, ObjectRow, Stopped
from eventferry.ledger.unread import NOT_WHOLE
from eventferry.logs import get_logger
from eventferry.pipeline.scan import ScanFailure, ScanResult, ScanSpec
from eventferry.pipeline.source import Source
from eventferry.sink.safe import named

logger = get_logger()

# A share of bad lines means something only from this many lines on.
MIN_LINES_TO_JUDGE = 20
# An object whose store does not answer is tried again after this long.
STORE_RETRY_MS = 60_000
# A person's `files release` leaves this reason on the row: deliver it in spite of what held it.
RELEASED = "released"
# The states of files that wait for a person.
STOPPED = ("quarantined", "held")

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
            reason = f"{NOT_WHOLE}{failure.reason}"
            return Decision("later", reason, now_ms + min(patience_ms - age_ms, 60_000))
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
    if decision.state in STOPPED:
        logger.error(f"file.{decision.state}", source=source.name, key=row.key, reason=decision.reason)
    if isinstance(outcome, ScanResult) and outcome.bad and decision.state == "indexed":
        _alert_bad_lines(tx, source, row, outcome)


def _alert_bad_lines(tx: sa.Connection, source: Source, row: ObjectRow, outcome: ScanResult) -> None:
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


def alert_stopped(
    tx: sa.Connection, name: str, source_id: int, new: Collection[str] = (), *, by_hand: bool = False
) -> None:
    """Tell which files of the source wait for a person, in one condition for each state, however many files.

    `new` are the states of files that came to be so just now. A condition ends when no file is left, nor one that a
    person asked for again and that was not read since; `by_hand` where a person gave the last one up.
    """
    for state in STOPPED:
        times, cause = sum(each == state for each in new), f"file.{state}:{name}"
        if not times and alerts.opened_ms(tx, cause) is None:
            continue
        stopped = objects.stopped_in(tx, source_id, state)
        if stopped is not None:
            _alert_stopped(tx, name, state, stopped, times)
        elif not objects.is_any_requeued(tx, source_id):
            said = ""
            if by_hand or "gone" in new:
                said = "given up by hand" if by_hand else "the file that was to be read again is gone"
            told = f"No file of source {name} is {state} any more"
            alerts.close_condition(tx, cause, said, subject=told, proven=not said)


def alert_stopped_again(tx: sa.Connection, name: str, source_id: int) -> None:
    """Tell once more which files wait, where nothing says so: a source that was switched off is followed again."""
    for state in STOPPED:
        stopped = objects.stopped_in(tx, source_id, state)
        if stopped is not None and alerts.opened_ms(tx, f"file.{state}:{name}") is None:
            _alert_stopped(tx, name, state, stopped, stopped.files)


def _alert_stopped(tx: sa.Connection, name: str, state: str, stopped: Stopped, times: int) -> None:
    event = "file.quarantined" if state == "quarantined" else "file.held"
    listing = f"eventferry files list --state {state} --source {name}"
    reason = stopped.reason or "no reason is known"
    subject = f"A file of source {name} is {state} and not delivered: {stopped.key}"
    if stopped.files > 1:
        subject = f"{stopped.files:,} files of source {name} are {state} and not delivered"
        reason = f"The last one: {named(stopped.key, reason)}"
    alerts.open_condition(
        tx,
        cause=f"{event}:{name}",
        level="error",
        event=event,
        subject=subject,
        detail=reason,
        command=listing,
        fields={"source": name, "key": stopped.key, "files": stopped.files},
        times=times,
    )
