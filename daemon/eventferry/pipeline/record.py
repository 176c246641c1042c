"""Writes the ending of an attempt down: batch, sink, dead letters and alerts in one transaction."""

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from eventferry import clock
from eventferry.ledger import alerts, batches, books, dead_letters, sinks
from eventferry.ledger.batches import BatchRow, PlannedBatch
from eventferry.ledger.dead_letters import DeadLetter
from eventferry.ledger.identity import batch_id
from eventferry.ledger.sinks import SinkRow
from eventferry.logs import get_logger
from eventferry.pipeline import failing
from eventferry.pipeline.material import Material
from eventferry.pipeline.outcome import BUGS_BEFORE_BISECT, Ending, Verdict, backoff_ms
from eventferry.pipeline.sink_alerts import alert_dead, alert_held
from eventferry.sink import Batch

logger = get_logger()

# So many refused single events, with nothing accepted since, are taken for a fault of the sink, not of the events.
SUSPECTS_BEFORE_HOLD = 3
# A sink that fails this long needs a person.
PATIENCE_MS = 15 * 60 * 1000
FAILURES_BEFORE_WARNING = 3


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration says about the sink's failures."""

    sink_id: int
    name: str
    identity: str
    retry_first: float  # s
    retry_max: float  # s
    probe_ms: int
    max_dead_bytes: int


@dataclass(frozen=True, slots=True)
class Attempted:
    """A batch whose attempt ended, with its events in memory and its source's identity."""

    row: BatchRow
    material: Material
    source: str

    def as_batch(self, sink: str, identity: str) -> Batch:
        """What the sink of that name and identity gets."""
        low, high = self.material.times()
        # Not the epoch of the ledger: one that is rebuilt counts anew, and must find what another one sent.
        # What replaces stands where its predecessor stood: no repair and no other ledger may send that range again.
        # Where another filter chose, what was recorded is not all that this batch holds.
        is_own = self.row.replay_id is None or self.row.replaces is not None
        said = [identity, self.material.selection, "" if is_own else str(self.row.replay_id)]
        return Batch(
            id=self.row.id,
            body=self.material.body,
            events=self.material.events,
            parts=self.material.parts(self.source),
            sink=sink,
            parent=None if self.row.parent_seq is None else str(self.row.parent_seq),
            attempt=self.row.attempts,
            time_min=low,
            time_max=high,
            epoch="#".join(each for each in said if each),
            replaces=self.row.replaced_ids,
            locate=self.material.place,
            seek=self.material.position,
            starts=self.material.starts,
        )


def record(tx: sa.Connection, rules: Rules, attempted: Attempted, verdict: Verdict) -> bool:
    """Write down how the attempt ended and what follows from it; nothing where another attempt has begun since.

    True where by it, and for the first time, the events were taken.
    """
    row, material = attempted.row, attempted.material
    if verdict.ending is not Ending.DELIVERED and not batches.is_under_way(tx, row.seq, row.attempts):
        return False  # a sink abandoned by a reload answered after all: the newer attempt counts; proof always does
    match verdict.ending:
        case Ending.DELIVERED:
            return _delivered(tx, rules, attempted, {})
        case Ending.SOME_REFUSED:
            if _has_room(tx, rules, material):
                return _delivered(tx, rules, attempted, dict(verdict.refused))
            hold(tx, rules, "the store of dead letters is full", row)
        case Ending.HOLD:
            hold(tx, rules, verdict.reason, row)
        case Ending.RETRY:
            _retry(tx, rules, row, verdict)
        case Ending.REFUSED | Ending.TOO_LARGE:
            _refused(tx, rules, attempted, verdict)
        case Ending.BUG:
            logger.error("sink.raised", sink=rules.name, batch=row.id, error=verdict.reason)
            if row.bugs + 1 >= BUGS_BEFORE_BISECT:
                _refused(tx, rules, attempted, verdict)
            else:
                _retry(tx, rules, row, verdict, bugs=row.bugs + 1)
    return False


def _delivered(tx: sa.Connection, rules: Rules, attempted: Attempted, refused: dict[int, str]) -> bool:
    row = attempted.row
    if not batches.end_batch(tx, row.seq, "delivered", dead_events=len(refused)):
        return False  # a late result: another attempt has already been recorded
    sinks.note_delivered(tx, rules.sink_id)
    dead_letters.supersede_replaced(tx, rules.sink_id, rules.name, row.replaced_ids)
    _bury(tx, rules, attempted, refused.items(), "refused")
    for suspect in batches.suspects(tx, rules.sink_id):  # the sink does take events: what it refused was content
        batches.postpone(
            tx, suspect.seq, next_ms=0, error=suspect.error or "", unknown=suspect.unknown, state="planned"
        )
    end_hold(tx, rules)
    failing.end(tx, rules.sink_id, rules.name)
    return True


def end_hold(tx: sa.Connection, rules: Rules) -> None:
    """The sink took something: a probed hold is over, and so is its silence; what only a person ends stays."""
    sink = sinks.get_sink_by_id(tx, rules.sink_id)
    if sink.state == "held" and sink.probe_ms is not None:
        sinks.set_state(tx, rules.sink_id, "active")
        batches.wake(tx, rules.sink_id)
        logger.info("sink.recovered", sink=rules.name)
    if sink.state != "held" or sink.probe_ms is not None:
        alerts.close_condition(tx, f"sink.held:{rules.name}", subject=f"Sink {rules.name} takes events again")
    alerts.close_condition(tx, f"sink.unavailable:{rules.name}", subject=f"Sink {rules.name} takes events again")


def _retry(tx: sa.Connection, rules: Rules, row: BatchRow, verdict: Verdict, bugs: int = 0) -> None:
    sink = sinks.note_failure(tx, rules.sink_id)
    tries = max(sink.failures, row.attempts)  # others may be taken between the attempts of one that always fails
    wait = backoff_ms(tries, rules.retry_first, rules.retry_max, verdict.retry_after)
    batches.postpone(
        tx, row.seq, next_ms=clock.now_ms() + wait, error=verdict.reason, unknown=verdict.unknown, bugs=bugs
    )
    if sink.state == "held":
        if sink.probe_ms is not None:
            sinks.set_state(tx, rules.sink_id, "held", verdict.reason, clock.now_ms() + rules.probe_ms)
        return
    logger.warning(
        "batch.postponed",
        sink=rules.name,
        batch=row.id,
        attempt=row.attempts,
        error=verdict.reason,
        seconds=wait / 1000,
    )
    if sink.failures < FAILURES_BEFORE_WARNING:
        failing.tell(tx, rules.name, row, verdict.reason)
        return
    failing_ms = clock.now_ms() - (sink.failing_since_ms or clock.now_ms())
    alerts.open_condition(
        tx,
        cause=f"sink.unavailable:{rules.name}",
        level="error" if failing_ms >= PATIENCE_MS else "warning",
        event="sink.unavailable",
        subject=f"Sink {rules.name} does not answer as it should; its events wait",
        detail=verdict.reason,
        command=f"eventferry status --sink {rules.name}",
        fields=waiting(tx, rules, f"sink.unavailable:{rules.name}"),
    )


def hold(tx: sa.Connection, rules: Rules, reason: str, row: BatchRow | None = None, *, probe: bool = True) -> None:
    """Stop sending to the sink until a person mends it; it is probed slowly in the meantime, or not at all."""
    probe_ms = clock.now_ms() + rules.probe_ms if probe else None
    sinks.note_failure(tx, rules.sink_id)
    if row is not None:
        batches.postpone(tx, row.seq, next_ms=0, error=reason, unknown=False)
    was = sinks.get_sink_by_id(tx, rules.sink_id)
    if was.state == "paused" or (was.state == "held" and was.probe_ms is None):
        return  # what a person decides is not undone by the answer of a call that was under way
    sinks.set_state(tx, rules.sink_id, "held", reason, probe_ms)
    if was.state != "held":
        logger.error("sink.held", sink=rules.name, reason=reason)
    alert_held(tx, rules.name, reason, waiting(tx, rules, f"sink.held:{rules.name}"))


def waiting(tx: sa.Connection, rules: Rules, cause: str) -> dict[str, object]:
    """How much waits, for the first message about a cause; counting it again at every retry would cost too much."""
    if alerts.opened_ms(tx, cause) is not None:
        return {}
    found = [each for each in books.backlogs(tx) if each.sink == rules.name]
    since = min((each.since_ms for each in found if each.since_ms is not None), default=None)
    lag = {} if since is None else {"lag_seconds": (clock.now_ms() - since) // 1000}
    return {
        "sink": rules.name,
        "backlog_events": sum(each.events for each in found),
        "backlog_bytes": sum(each.bytes for each in found),
        **lag,
    }


def _refused(tx: sa.Connection, rules: Rules, attempted: Attempted, verdict: Verdict) -> None:
    """Split what is refused until single events are left; those are believed once the sink takes others."""
    row = attempted.row
    sink = sinks.get_sink_by_id(tx, rules.sink_id)
    batches.mark_refused(tx, row.seq, sink.accepted)
    refused_at = sink.accepted if row.refused_at is None else row.refused_at
    if sink.state == "held":  # a probe: still refused
        _suspect(tx, rules, row, verdict, sink)
    elif not attempted.material.events:  # it only deletes: there is nothing to search for
        hold(tx, rules, f"it does not delete what batch {row.id} replaces: {verdict.reason}", row)
    elif attempted.material.events > 1:
        _split(tx, rules, attempted, verdict, refused_at)
    elif sink.accepted > refused_at:
        if _has_room(tx, rules, attempted.material):
            batches.end_batch(tx, row.seq, "dead", error=verdict.reason, dead_events=1)
            dead_letters.supersede_replaced(tx, rules.sink_id, rules.name, row.replaced_ids)
            kind = "too_large" if verdict.ending is Ending.TOO_LARGE else "refused"
            _bury(tx, rules, attempted, [(0, verdict.reason)], kind)
        else:
            hold(tx, rules, "the store of dead letters is full", row)
    else:
        _suspect(tx, rules, row, verdict, sink)


def _suspect(tx: sa.Connection, rules: Rules, row: BatchRow, verdict: Verdict, sink: SinkRow) -> None:
    batches.postpone(tx, row.seq, next_ms=0, error=verdict.reason, unknown=verdict.unknown, state="suspect")
    count = len(batches.suspects(tx, rules.sink_id))
    if sink.state == "held" or count >= SUSPECTS_BEFORE_HOLD:
        hold(tx, rules, f"it refuses everything offered: {verdict.reason}")


def hold_on_suspects(tx: sa.Connection, rules: Rules) -> None:
    """Nothing is left to send but events that were refused, and the sink took nothing since: a person decides."""
    found = batches.suspects(tx, rules.sink_id)
    hold(tx, rules, f"it refused all {len(found)} events offered last: {found[0].error}")


def _split(tx: sa.Connection, rules: Rules, attempted: Attempted, verdict: Verdict, refused_at: int) -> None:
    row = attempted.row
    batches.end_batch(tx, row.seq, "split", error=verdict.reason)
    for half in attempted.material.halves():
        identity = batch_id(rules.identity, row.epoch, row.transform, half.parts(attempted.source))
        batches.plan(
            tx,
            rules.sink_id,
            PlannedBatch(
                id=identity,
                source_id=row.source_id,
                epoch=row.epoch,
                start=half.start,
                end=half.end,
                parts=half.ledger_parts(),
                read_events=half.read_events,
                events=half.events,
                body_bytes=len(half.body),
                body_digest=half.digest,
                transform=row.transform,
                parent_seq=row.seq,
                root_seq=row.root_seq or row.seq,
                replay_id=row.replay_id,
                replaces=row.replaces_as_parent,
                repeatable=row.repeatable or row.unknown,
                refused_at=refused_at,
            ),
            "planned",
        )


def _has_room(tx: sa.Connection, rules: Rules, material: Material) -> bool:
    return dead_letters.stored_bytes(tx) + len(material.body) <= rules.max_dead_bytes


def _bury(tx: sa.Connection, rules: Rules, attempted: Attempted, refused: Iterable[tuple[int, str]], kind: str) -> None:
    refused = list(refused)
    if not refused:
        return
    letters = []
    lines = attempted.material.body.split(b"\n")
    for position, reason in refused:
        place = attempted.material.place(position)
        body = lines[position] + b"\n"
        letters.append(DeadLetter(attempted.row.source_id, attempted.row.seq, kind, place, reason, 1, body))
    dead_letters.bury(tx, rules.sink_id, letters)
    detail = f"{letters[0].place}: {letters[0].reason}"
    logger.error("events.dead", sink=rules.name, events=len(letters), first=detail)
    alert_dead(tx, rules.name, len(letters), detail)


def was_delivered(tx: sa.Connection, rules: Rules, attempted: Attempted, known: bool | None, verdict: Verdict) -> None:
    """The sink was asked about an earlier attempt, before a split: act on what it knows."""
    if not batches.is_under_way(tx, attempted.row.seq, attempted.row.attempts):
        return
    if known:
        _delivered(tx, rules, attempted, {})
        return
    if known is False:
        batches.mark_untouched(tx, attempted.row.seq)
        attempted = Attempted(batches.get_batch(tx, attempted.row.seq), attempted.material, attempted.source)
    record(tx, rules, attempted, verdict)
