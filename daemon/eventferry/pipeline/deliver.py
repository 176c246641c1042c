"""Deliver: a thread per sink sends what its cargo prepares, each call with a deadline, and records the outcome."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from eventferry import clock
from eventferry.ledger import Ledger, batches, dead_letters, sinks
from eventferry.ledger.dead_letters import DeadLetterRow
from eventferry.logs import get_logger
from eventferry.pipeline import record, told
from eventferry.pipeline.cargo import Cargo, Superseded
from eventferry.pipeline.letters import LetterCall, record_letter
from eventferry.pipeline.outcome import BUGS_BEFORE_BISECT, Ending, Verdict, judge
from eventferry.pipeline.record import Attempted
from eventferry.pipeline.setup import SinkSetup
from eventferry.pipeline.slot import AnySink, Call, Reply, Slot
from eventferry.pipeline.trouble import Trouble
from eventferry.pipeline.turns import Turns
from eventferry.sink import Batch, SinkMisconfigured

logger = get_logger()

IDLE_SECONDS = 60.0
# Reads of the store for a batch that take longer than this hang: the worker is abandoned, once, then people are told.
HANGING_SECONDS = 600.0


@dataclass(slots=True)
class Flight:
    """A batch on its way."""

    attempted: Attempted
    verdict: Verdict | None = None  # of the attempt, while the sink is asked about an earlier one


class SinkWorker:
    """Delivers to one sink. Nothing that happens here delays another sink."""

    def __init__(self, ledger: Ledger, setup: SinkSetup, wake_at: Callable[[int], None] | None = None) -> None:
        """`wake_at` asks a scheduler to call `wake` at a moment (epoch ms); without one the worker's own wait ends."""
        self.setup = setup
        self._wake_at = wake_at
        self._asked_ms: int | None = None
        self._ledger = ledger
        self._inbox: queue.SimpleQueue[Reply | None] = queue.SimpleQueue()
        self._slots: list[Slot] = []
        self._zombies: list[Slot] = []
        self._flights: dict[int, Flight] = {}
        self._letters: dict[int, LetterCall] = {}
        self._cargo = Cargo(ledger, setup)
        self._trouble = Trouble(ledger, setup.rules)
        self._unsettled: list[Reply] = []  # endings that could not be written down yet
        self._recovered = False
        self._lost_track = False  # something failed between a begun attempt and its call, perhaps
        self._looking_since: float | None = None  # while it reads the store and the ledger
        self._stopping = threading.Event()
        self._turns = Turns(ledger, setup, self._cargo, self._stopping)
        self._idle = threading.Event()
        self._waking = threading.Lock()
        self._wakes = 0
        self._thread = threading.Thread(target=self._run, name=f"deliver-{setup.name}", daemon=True)

    # -- what others may call ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def wake(self) -> None:
        """Look again whether there is something to do."""
        with self._waking:
            self._wakes += 1
            self._asked_ms = None
            self._idle.clear()
        self._inbox.put(None)

    def flush(self) -> None:
        """From now on send short batches at once."""
        self._cargo.flushes = True
        self.wake()

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping.set()
        self._inbox.put(None)

    def join(self, timeout: float) -> bool:
        """Wait for the calls under way; False where they outlast `timeout` seconds (they are abandoned, not lost)."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def wait_idle(self, timeout: float) -> bool:
        """Wait until nothing can be done now: all delivered, or what is left waits for a time or a person."""
        return self._idle.wait(timeout)

    @property
    def is_hanging(self) -> bool:
        """Whether a read of the store does not come back."""
        since = self._looking_since
        return since is not None and clock.monotonic() - since > HANGING_SECONDS

    @property
    def is_stuck(self) -> bool:
        """Whether calls that never returned occupy every slot, or a read of the store does not come back."""
        has_no_slot = len(self._zombies) >= self.setup.concurrency
        return not self._stopping.is_set() and (self.is_hanging or has_no_slot)

    # -- the loop ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not (self._stopping.is_set() and not self._busy):
            seen = self._wakes
            try:
                self._looking_since = clock.monotonic()
                self._recover()
                self._advance()
                self._looking_since = None
                if not (self._stopping.is_set() and not self._busy):  # settling may have ended what was waited for
                    self._receive(seen)
                    self._trouble.is_over()
            except Superseded:
                self._stopping.set()  # what is under way may still end; nothing more is begun
            except Exception as error:
                # Whatever it is, this thread is all that moves this sink: it says so, and tries again.
                self._looking_since = None
                self._lost_track = True
                self._trouble.meet(error)
                self._trouble.wait(self._stopping)
        for slot in self._slots:
            slot.close()
        self._cargo.close()

    def _recover(self) -> None:
        """Before anything is sent: what an earlier process or worker left under way has an unknown outcome.

        So has what this worker began without calling the sink, because something failed in between.
        """
        if self._recovered and (not self._lost_track or self._busy):
            return
        with self._ledger.write() as tx:
            if self._recovered:
                self._cargo.check_claim(tx)
            else:
                self._cargo.claim = sinks.claim(tx, self.setup.id)
                sinks.note_configuration(tx, self.setup.id, self.setup.fingerprint)
            interrupted = batches.recover_interrupted(tx, self.setup.id)
        self._recovered, self._lost_track = True, False
        if interrupted:
            logger.info("batches.recovered", sink=self.setup.name, batches=interrupted)

    @property
    def _busy(self) -> bool:
        return bool(self._flights or self._letters or self._unsettled)

    def _receive(self, seen: int) -> None:
        """Wait for a reply, a wake-up, a deadline or the next due time."""
        now = clock.monotonic()
        deadlines = [slot.deadline - now for slot in self._slots if slot.current is not None]
        due_ms = self._cargo.due_ms
        if due_ms is not None and (self._wake_at is None or due_ms <= clock.now_ms()):
            deadlines.append((due_ms - clock.now_ms()) / 1000)
        elif due_ms is not None and self._wake_at is not None and due_ms != self._asked_ms:
            self._asked_ms = due_ms
            self._wake_at(due_ms)
        if not self._busy and (due_ms is None or due_ms > clock.now_ms()):
            with self._waking:
                if seen == self._wakes:  # nobody woke it since it last looked
                    self._idle.set()
        try:
            reply = self._inbox.get(timeout=max(0.0, min([*deadlines, IDLE_SECONDS])))
        except queue.Empty:
            reply = None
        while reply is not None or not self._inbox.empty():
            if reply is not None and reply.slot.take(reply):
                self._unsettled.append(reply)
            reply = None if self._inbox.empty() else self._inbox.get()
        self._abandon_overdue()

    def _abandon_overdue(self) -> None:
        now = clock.monotonic()
        for slot in [slot for slot in self._slots if slot.current is not None and slot.deadline <= now]:
            self._unsettled.append(slot.abandon(self.setup.timeout))
            self._slots.remove(slot)
            self._zombies.append(slot)
            logger.warning("call.abandoned", sink=self.setup.name, seconds=self.setup.timeout)

    # -- starting calls -----------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        self._cargo.due_ms = None
        while self._unsettled:
            self._settle(self._unsettled[0])
            self._unsettled.pop(0)
        if self._lost_track and not self._busy:
            self._cargo.wait_until(clock.now_ms())
        if self._stopping.is_set() or self._lost_track:
            return  # what was lost track of is found again when nothing is under way
        with self._ledger.read() as tx:
            sink = sinks.get_sink_by_id(tx, self.setup.id)
        if sink.state == "paused":
            return
        if sink.state == "held" and sink.probe_ms is None:  # only a person may let it go on
            return
        if sink.state == "held" and 0 < (sink.probe_ms or 0) - clock.now_ms() <= self.setup.rules.probe_ms:
            self._cargo.wait_until(sink.probe_ms or 0)
            return
        while (slot := self._free_slot(1 if sink.state == "held" else self.setup.concurrency)) is not None:
            attempted = self._turns.next(sink, self._flights)
            if attempted is None:
                if not self._send_letter(slot):
                    break
            else:
                self._launch(attempted, slot)
        if self._flights and self.setup.concurrency == 1:
            self._cargo.look_ahead()

    def _free_slot(self, allowed: int) -> Slot | None:
        """A slot to use, a new one where there is room: one zombie at most stands beside each."""
        self._zombies = [slot for slot in self._zombies if slot.is_alive]
        if len(self._flights) + len(self._letters) >= allowed:
            return None
        for slot in self._slots:
            if slot.is_free:
                return slot
        if len(self._zombies) >= self.setup.concurrency:
            self._cargo.wait_until(clock.now_ms() + 1000)
            return None
        slot = Slot(self.setup.make, self._inbox, self.setup.name)
        self._slots.append(slot)
        return slot

    def _launch(self, attempted: Attempted, slot: Slot) -> None:
        batch = attempted.as_batch(self.setup.name, self.setup.identity)
        self._flights[attempted.row.seq] = Flight(attempted)
        slot.start(Call(attempted.row.seq, lambda sink: _send(sink, batch)), self.setup.timeout)

    def _send_letter(self, slot: Slot) -> bool:
        """Try a dead letter again that a person asked for."""
        with self._ledger.read() as tx:
            if batches.count_open(tx, self.setup.id):
                return False  # what comes by itself goes first, and a failing sink is not bothered twice
            due = dead_letters.due(tx, self.setup.id, 1)
            later_ms = None if due else dead_letters.next_due_ms(tx, self.setup.id)
        if later_ms is not None:  # it was tried, and the sink could not be reached
            self._cargo.wait_until(later_ms)
        letter: DeadLetterRow | None = next((each for each in due if -each.id not in self._letters), None)
        if letter is None or letter.body is None:
            return False
        call = LetterCall(letter, self.setup.identity)
        self._letters[-letter.id] = call
        slot.start(Call(-letter.id, lambda sink: sink.deliver(call.batch)), self.setup.timeout)
        return True

    # -- endings --------------------------------------------------------------------------------------------------

    def _settle(self, reply: Reply) -> None:
        seq = reply.call.seq
        if seq in self._letters:
            with self._ledger.write() as tx:
                taken = record_letter(tx, self.setup.rules, self._letters[seq], reply.error)
                told.note(tx, self.setup.id, reply.told, taken=taken)
            del self._letters[seq]
            return
        flight = self._flights[seq]
        if flight.verdict is not None:
            self._settle_answer(seq, flight, reply)
            return
        verdict = judge(reply.error, flight.attempted.material.events)
        self._cargo.note_size(flight.attempted.material, verdict.ending)
        splits = verdict.ending in (Ending.REFUSED, Ending.TOO_LARGE) or (
            verdict.ending is Ending.BUG and flight.attempted.row.bugs + 1 >= BUGS_BEFORE_BISECT
        )
        if splits and flight.attempted.row.unknown:
            # An earlier attempt may have taken effect: the sink is asked before the batch is taken apart.
            flight.verdict = verdict
            if reply.slot.is_free:
                batch = flight.attempted.as_batch(self.setup.name, self.setup.identity)
                reply.slot.start(Call(seq, lambda sink: sink.was_delivered(batch)), self.setup.timeout)
                return
        with self._ledger.write() as tx:
            taken = record.record(tx, self.setup.rules, flight.attempted, verdict)
            told.note(tx, self.setup.id, reply.told, taken=taken)
        del self._flights[seq]

    def _settle_answer(self, seq: int, flight: Flight, reply: Reply) -> None:
        assert flight.verdict is not None
        with self._ledger.write() as tx:
            if reply.error is not None:  # it cannot be asked now: the batch stays whole until it can
                verdict = judge(reply.error, flight.attempted.material.events)
                again = Verdict(Ending.RETRY, verdict.reason, unknown=True, retry_after=verdict.retry_after)
                record.record(tx, self.setup.rules, flight.attempted, again)
            else:
                record.was_delivered(tx, self.setup.rules, flight.attempted, reply.value, flight.verdict)
        del self._flights[seq]


def _send(sink: AnySink, batch: Batch) -> None:
    """Deliver; but never what replaces to a type that would only add it, as the sink's type may have been changed."""
    if batch.replaces and not sink.can_replace:
        raise SinkMisconfigured(
            f"batch {batch.id} replaces others, which a sink of this type cannot; put the former type back until it is"
            " through"
        )
    sink.deliver(batch)
