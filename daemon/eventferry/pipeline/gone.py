"""Objects that vanished or changed between index and delivery: awaited for a while, then dead letters by place."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import sqlalchemy as sa

from eventferry import clock
from eventferry.ledger import alerts, batches, dead_letters, log, objects, sinks
from eventferry.ledger.batches import BatchRow, PlannedBatch
from eventferry.ledger.dead_letters import DeadLetter
from eventferry.ledger.identity import batch_id
from eventferry.ledger.log import LogSegment
from eventferry.pipeline.record import Rules
from eventferry.pipeline.sink_alerts import alert_dead
from eventferry.pipeline.source import Source
from eventferry.sink import Part
from eventferry.sink.safe import named

# The field of the alert that holds the object whose turn it is.
_AWAITED = "object"
_GIVEN_UP = "it was given up: see the dead letters"


class Setup(Protocol):
    """What this stage needs of a sink's set-up."""

    @property
    def id(self) -> int: ...
    @property
    def identity(self) -> str: ...
    @property
    def rules(self) -> Rules: ...


def give_up(
    tx: sa.Connection,
    setup: Setup,
    source: Source,
    lost: LogSegment,
    reason: str,
    row: BatchRow | None,
    *,
    is_replaced: bool,
) -> bool:
    """Note that a range cannot be read; True once it has been so for `gone_after` and was given up.

    Where the content of a later version was seen in its place, released by a person or by `on_change`, nothing waits.
    What was already indexed when a sink first missed a file of the source shares that file's patience: files are
    deleted together, and waiting for them one after another would hold the sink up for days.
    """
    subject = f"Events for sink {setup.rules.name} are missing: their file is gone"
    if is_replaced and objects.is_replaced(tx, lost.object_id):
        subject = f"Events for sink {setup.rules.name} are missing: their file was rewritten before the sink read it"
        reason = "it was rewritten, and its new content is delivered in place of this"
        if row is not None and _keeps(row):
            subject = f"Sink {setup.rules.name} keeps some events as they were: their file was rewritten"
    elif not _is_patience_over(tx, setup, source, lost, reason):
        return False
    elif row is not None and _keeps(row):
        subject = f"Sink {setup.rules.name} keeps some events as they were: their file is gone"
    if row is None:
        events = _skip_segment(tx, setup, source, lost, reason)
    else:
        events = _split_around(tx, setup, source, row, lost, reason)
    alert_dead(tx, setup.rules.name, events, named(lost.key, reason), subject)
    _close_if_passed(tx, source, setup.rules.name, setup.id)
    return True


def _keeps(row: BatchRow) -> bool:
    """Whether the sink goes on holding what this batch was to replace; a half's twin may have deleted it."""
    return bool(row.replaced_ids) and row.parent_seq is None


def _is_patience_over(tx: sa.Connection, setup: Setup, source: Source, lost: LogSegment, reason: str) -> bool:
    """Whether files have been missed for `gone_after`, this one among them; people are told when that begins."""
    cause = _cause(source, setup.rules.name)
    opened = alerts.opened_ms(tx, cause)
    if opened is not None and opened < lost.appended_ms and _is_long_ago(source, opened):
        _tell_given_up(tx, source, cause)  # this one was still there then: it is awaited anew
    alerts.open_condition(
        tx,
        cause=cause,
        level="warning",
        event="file.gone",
        subject=f"A file of source {source.name} vanished or changed after it was indexed: {lost.key}",
        detail=reason,
        command=f"eventferry files list --source {source.name}",
        fields={"source": source.name, "sink": setup.rules.name, "key": lost.key, _AWAITED: lost.object_id},
    )
    opened = alerts.opened_ms(tx, cause)
    return opened is not None and _is_long_ago(source, opened)


def _is_long_ago(source: Source, opened_ms: int) -> bool:
    return clock.now_ms() - opened_ms >= int(source.settings.gone_after.total_seconds() * 1000)


def is_back(tx: sa.Connection, source: Source, sink: str, object_ids: Iterable[int]) -> bool:
    """Objects could be read: end the alert if one of them is awaited or none older is left; whether none is open."""
    cause = _cause(source, sink)
    missed = next((each for each in alerts.open_conditions(tx) if each.cause == cause), None)
    if missed is None:
        return True
    # After `gone_after` nothing is awaited any more: what is read then may be another range of a file that changed.
    if missed.fields.get(_AWAITED) in set(object_ids) and not _is_long_ago(source, missed.opened_ms):
        told = f"A file of source {source.name} that was gone can be read again: {missed.fields.get('key')}"
        return alerts.close_condition(tx, cause, subject=told)
    row = sinks.get_sink(tx, sink)
    return row is not None and _close_if_passed(tx, source, sink, row.id)


def _cause(source: Source, sink: str) -> str:
    return f"file.gone:{source.name}:{sink}"


def _close_if_passed(tx: sa.Connection, source: Source, sink: str, sink_id: int) -> bool:
    """End the alert once the sink is past all that was indexed before it, and may have been lost at the same time."""
    cause = _cause(source, sink)
    opened, cursor = alerts.opened_ms(tx, cause), sinks.cursor_of(tx, sink_id, source.id)
    if opened is None or cursor is None:
        return opened is None
    ahead = log.segments_after(tx, source.id, cursor.position, cursor.byte, 1)
    unread = [each for each in batches.open_batches(tx, sink_id, [source.id]) if each.state != "sending"]
    if unread or any(segment.appended_ms <= opened for segment in ahead):
        return False
    return _tell_given_up(tx, source, cause)


def _tell_given_up(tx: sa.Connection, source: Source, cause: str) -> bool:
    subject = f"Files of source {source.name} that were gone are awaited no more"
    return alerts.close_condition(tx, cause, _GIVEN_UP, subject=subject, proven=False)


def _skip_segment(tx: sa.Connection, setup: Setup, source: Source, segment: LogSegment, reason: str) -> int:
    """Plan the segment's remaining range as missing and move the cursor past it; returns its events."""
    cursor = sinks.cursor_of(tx, setup.id, source.id)
    assert cursor is not None
    is_begun = cursor.position == segment.position and cursor.byte > segment.start
    start = cursor.byte if is_begun else segment.start
    events = cursor.left_events if is_begun else segment.events
    epoch = sinks.get_sink_by_id(tx, setup.id).epoch
    lost = Range(segment, start, segment.end, events)
    _plan(tx, setup, source, [lost], "missing", epoch=epoch, reason=reason)
    sinks.move_cursor(tx, setup.id, source.id, segment.position, segment.end)
    return events


@dataclass(frozen=True, slots=True)
class Range:
    """A part of a batch, with the segment that it lies in."""

    segment: LogSegment
    start: int
    end: int
    events: int


def _split_around(tx: sa.Connection, setup: Setup, source: Source, row: BatchRow, lost: LogSegment, reason: str) -> int:
    """Split a batch that was written down: what lies before and after the lost range stays to be sent.

    Returns how many events are lost.
    """
    segments = log.segments_between(tx, row.source_id, row.from_position, row.to_position)
    ranges = [
        Range(segment, start, end, events)
        for segment, (_, start, end, events) in zip(segments, batches.parts_of(tx, row.seq), strict=True)
    ]
    at = next(number for number, each in enumerate(ranges) if each.segment.position == lost.position)
    # A child of the same range would have the same id; and what cannot be written anew must not be deleted.
    is_whole = len(ranges) == 1 or _keeps(row)
    if not batches.end_batch(tx, row.seq, "missing" if is_whole else "split", error=reason):
        return 0
    if is_whole:
        dead_letters.bury(tx, setup.id, [_letter(ranges[at], row.seq, reason)])
        return ranges[at].events
    for part, state in ((ranges[:at], "planned"), ([ranges[at]], "missing"), (ranges[at + 1 :], "planned")):
        if part:
            _plan(tx, setup, source, part, state, epoch=row.epoch, reason=reason, parent=row)
    return ranges[at].events


def _plan(
    tx: sa.Connection,
    setup: Setup,
    source: Source,
    ranges: Sequence[Range],
    state: str,
    *,
    epoch: int,
    reason: str,
    parent: BatchRow | None = None,
) -> None:
    """Write a batch down without having read it; a missing one with its dead letters."""
    transform = "missing" if parent is None else parent.transform
    parts = [
        Part(source.identity, each.segment.key, each.segment.object_digest, each.start, each.end, each.events)
        for each in ranges
    ]
    events = sum(each.events for each in ranges)
    planned = PlannedBatch(
        id=batch_id(setup.identity, epoch, transform, parts),
        source_id=source.id,
        epoch=epoch,
        start=(ranges[0].segment.position, ranges[0].start),
        end=(ranges[-1].segment.position, ranges[-1].end),
        parts=tuple((each.segment.object_id, each.start, each.end, each.events) for each in ranges),
        read_events=events,
        events=events,
        body_bytes=0,
        body_digest="",
        transform="" if parent is None else parent.transform,
        parent_seq=None if parent is None else parent.seq,
        root_seq=None if parent is None else parent.root_seq or parent.seq,
        replay_id=None if parent is None else parent.replay_id,
        replaces=None if parent is None else parent.replaces_as_parent,
        repeatable=parent is not None and (parent.repeatable or parent.unknown),
    )
    seq = batches.plan(tx, setup.id, planned, state)
    if state == "missing":
        dead_letters.bury(tx, setup.id, [_letter(each, seq, reason) for each in ranges])


def _letter(lost: Range, seq: int, reason: str) -> DeadLetter:
    segment, line = lost.segment, lost.segment.first_line
    if lost.end == segment.end and segment.lines == segment.events:  # else nobody can count its lines any more
        line += segment.events - lost.events
    return DeadLetter(
        source_id=lost.segment.source_id,
        batch_seq=seq,
        kind="source_gone",
        place=f"{segment.key}:{line}",
        reason=reason,
        events=lost.events,
        body=None,
        object_id=lost.segment.object_id,
        start=lost.start,
        end=lost.end,
    )
