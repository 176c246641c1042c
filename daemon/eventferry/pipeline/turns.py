"""Chooses what a sink is sent next: a batch that was written down before, a new one, or one of a replay."""

import contextlib
import threading
from collections.abc import Collection

from eventferry import clock
from eventferry.ledger import Ledger, batches
from eventferry.ledger.batches import BatchRow
from eventferry.ledger.sinks import SinkRow
from eventferry.pipeline import record
from eventferry.pipeline.cargo import CannotRepeat, Cargo
from eventferry.pipeline.outcome import MAX_RETRY_AFTER
from eventferry.pipeline.record import Attempted
from eventferry.pipeline.setup import SinkSetup


class Turns:
    """What comes in and what is replayed go in turns: neither waits for the end of the other.

    A copy of `--again` that fails waits alone: what comes in finds out itself whether the sink takes anything. A
    batch that is repaired stands in its old place again once it was tried.
    Used by the sink's own thread alone.
    """

    def __init__(self, ledger: Ledger, setup: SinkSetup, cargo: Cargo, stopping: threading.Event) -> None:
        self._ledger = ledger
        self._setup = setup
        self._cargo = cargo
        self._stopping = stopping
        self._is_replays_turn = False

    def next(self, sink: SinkRow, flights: Collection[int]) -> Attempted | None:
        """The next due batch, its attempt written down; None where none is due. `flights` are under way."""
        with contextlib.suppress(CannotRepeat):
            return self._choose(sink, flights)
        return None

    def _choose(self, sink: SinkRow, flights: Collection[int]) -> Attempted | None:
        # What cannot be read for now, or comes from a source that was taken away, must not keep the others waiting.
        readable = [source.id for source in self._setup.sources if not self._cargo.is_blocked(source.id)]
        with self._ledger.read() as tx:
            live = batches.open_batches(tx, self._setup.id, readable, replays=False)
            replayed = batches.open_batches(tx, self._setup.id, readable, replays=True)
        suspects = [row for row in live + replayed if row.state == "suspect"]
        live_due, replayed_due = (self._due(rows, sink, flights) for rows in (live, replayed))
        if live_due is None:
            return None  # it is the sink that asked for patience, or needs some
        may_cut = len(suspects) <= record.SUSPECTS_BEFORE_HOLD
        for is_live in (False, True) if self._is_replays_turn else (True, False):
            attempted = self._again(live_due if is_live else replayed_due or [])
            if attempted is None and is_live and may_cut:
                attempted = self._cut(live, sink)
            if attempted is not None:
                self._is_replays_turn = is_live
                return attempted
        if not suspects or flights or self._is_full(live + replayed):
            return None
        return self._judge_suspects(sink, suspects)

    def _due(self, rows: list[BatchRow], sink: SinkRow, flights: Collection[int]) -> list[BatchRow] | None:
        """Those to attempt, up to the first whose time has not come; None where that is the very first."""
        left = [row for row in rows if row.seq not in flights and row.state != "suspect"]
        early = next((at for at, row in enumerate(left) if sink.state != "held" and self._is_early(row)), None)
        if early is not None:
            self._cargo.wait_until(left[early].next_ms)
        return None if early == 0 else left[:early]

    def _again(self, rows: list[BatchRow]) -> Attempted | None:
        return next((attempted for row in rows if (attempted := self._cargo.again(row)) is not None), None)

    def _cut(self, live: list[BatchRow], sink: SinkRow) -> Attempted | None:
        """A new batch, where those that were cut before leave room for one."""
        return None if self._is_full(live) else self._cargo.next(sink)

    def _is_full(self, rows: list[BatchRow]) -> bool:
        """Whether so many have no end yet that nothing new is begun."""
        is_open = [row.state != "suspect" and not self._cargo.is_blocked(row.source_id) for row in rows]
        return self._stopping.is_set() or sum(is_open) >= self._setup.concurrency

    def _judge_suspects(self, sink: SinkRow, suspects: list[BatchRow]) -> Attempted | None:
        """Nothing else is left to send: a held sink is probed with what it refused; another one is held now."""
        if sink.state == "held":
            return self._cargo.again(min(suspects, key=lambda row: (row.attempts, row.seq)))
        with self._ledger.write() as tx:
            record.hold_on_suspects(tx, self._setup.rules)
        self._cargo.wait_until(clock.now_ms() + self._setup.rules.probe_ms)
        return None

    def _is_early(self, row: BatchRow) -> bool:
        """Whether its time has not come; a time that no back-off can have set (the clock was wrong) does not count."""
        longest = max(self._setup.rules.retry_max, MAX_RETRY_AFTER) + self._setup.rules.retry_first
        return 0 < row.next_ms - clock.now_ms() <= longest * 1000
