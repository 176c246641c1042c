"""Objects that vanished or changed between index and delivery: awaited for a while, then dead letters by place."""

from collections.abc import Sequence
from typing import Protocol

import sqlalchemy as sa

from eventferry import clock
from eventferry.ledger import alerts, batches, dead_letters, sinks
from eventferry.ledger.batches import BatchRow, PlannedBatch
from eventferry.ledger.dead_letters import DeadLetter
from eventferry.ledger.identity import batch_id
from eventferry.ledger.log import LogSegment
from eventferry.pipeline.record import Rules
from eventferry.pipeline.source import Source
from eventferry.sink import Part


class Setup(Protocol):
    """What this stage needs of a sink's set-up."""

    @property
    def id(self) -> int: ...
    @property
    def identity(self) -> str: ...
    @property
    def rules(self) -> Rules: ...


def give_up(
    tx: sa.Connection, setup: Setup, source: Source, segments: Sequence[LogSegment], reason: str, row: BatchRow | None
) -> bool:
    """Note that a range cannot be read; True once it has been so for `gone_after` and was given up."""
    lost = segments[0]
    cause = f"file.gone:{source.name}:{lost.object_id}"
    alerts.open_condition(
        tx,
        cause=cause,
        level="warning",
        event="file.gone",
        subject=f"A file of source {source.name} vanished or changed after it was indexed: {lost.key}",
        detail=reason,
        command=f"eventferry files list --source {source.name}",
        fields={"source": source.name, "key": lost.key},
    )
    since = alerts.opened_ms(tx, cause)
    patience_ms = int(source.settings.gone_after.total_seconds() * 1000)
    if since is None or clock.now_ms() - since < patience_ms:
        return False
    if row is None:
        _skip_segment(tx, setup, source, lost, reason)
    else:
        _end_missing(tx, setup, row, segments, reason)
    alerts.open_condition(
        tx,
        cause=f"events.dead:{setup.rules.name}",
        level="error",
        event="events.dead",
        subject=f"Events for sink {setup.rules.name} are missing: their file is gone",
        detail=f"{lost.key}: {reason}",
        command=f"eventferry dead-letters list --sink {setup.rules.name}",
        fields={"sink": setup.rules.name},
    )
    return True


def _skip_segment(tx: sa.Connection, setup: Setup, source: Source, segment: LogSegment, reason: str) -> None:
    """Plan the segment's remaining range as missing and move the cursor past it."""
    cursor = sinks.cursor_of(tx, setup.id, source.id)
    assert cursor is not None
    is_begun = cursor.position == segment.position and cursor.byte > segment.start
    start = cursor.byte if is_begun else segment.start
    events = cursor.left_events if is_begun else segment.events
    sink = sinks.get_sink_by_id(tx, setup.id)
    part = Part(source.identity, segment.key, segment.object_digest, start, segment.end, events)
    planned = PlannedBatch(
        id=batch_id(setup.identity, sink.epoch, "missing", [part]),
        source_id=source.id,
        epoch=sink.epoch,
        start=(segment.position, start),
        end=(segment.position, segment.end),
        parts=((segment.object_id, start, segment.end, events),),
        read_events=events,
        events=events,
        body_bytes=0,
        body_digest="",
        transform="",
    )
    seq = batches.plan(tx, setup.id, planned, "missing")
    sinks.move_cursor(tx, setup.id, source.id, segment.position, segment.end)
    dead_letters.bury(tx, setup.id, [_letter(segment, start, segment.end, events, seq, reason)])


def _end_missing(tx: sa.Connection, setup: Setup, row: BatchRow, segments: Sequence[LogSegment], reason: str) -> None:
    if not batches.end_batch(tx, row.seq, "missing", error=reason):
        return
    letters = []
    for segment in segments:
        start = row.from_byte if segment.position == row.from_position else segment.start
        end = row.to_byte if segment.position == row.to_position else segment.end
        letters.append(_letter(segment, start, end, segment.events, row.seq, reason))
    dead_letters.bury(tx, setup.id, letters)


def _letter(segment: LogSegment, start: int, end: int, events: int, seq: int, reason: str) -> DeadLetter:
    return DeadLetter(
        source_id=segment.source_id,
        batch_seq=seq,
        kind="source_gone",
        place=f"{segment.key}:{segment.first_line}",
        reason=reason,
        events=events,
        body=None,
        object_id=segment.object_id,
        start=start,
        end=end,
    )
