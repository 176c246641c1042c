"""Deliver: one thread per sink reads the log forward, writes each batch down, sends it, records the outcome."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from eventferry import clock
from eventferry.errors import ObjectChanged, ObjectGone, StoreError
from eventferry.ledger import Ledger, batches, dead_letters, log, objects, sinks
from eventferry.ledger.batches import BatchRow, PlannedBatch
from eventferry.ledger.dead_letters import DeadLetterRow
from eventferry.ledger.identity import batch_id
from eventferry.ledger.log import LogSegment
from eventferry.ledger.sinks import Cursor, SinkRow
from eventferry.logs import get_logger
from eventferry.pipeline import gone, record
from eventferry.pipeline.letters import LetterCall, record_letter
from eventferry.pipeline.material import Limits, Material, gather, rebuild
from eventferry.pipeline.outcome import BUGS_BEFORE_BISECT, MAX_RETRY_AFTER, Ending, Verdict, judge
from eventferry.pipeline.reader import SegmentReader
from eventferry.pipeline.record import Attempted, Rules
from eventferry.pipeline.slot import AnySink, Call, Reply, Slot
from eventferry.pipeline.source import Source
from eventferry.query.transform import Transform
from eventferry.sink import Batch

logger = get_logger()

# Segments are fetched in growing pages: two are enough of large ones, hundreds are needed of tiny ones.
PAGES = (4, 32, 256)
# A store that cannot be read is tried again after this long, for this sink and source alone.
STORE_RETRY_MS = 30_000
IDLE_SECONDS = 60.0
LEDGER_RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class SinkSetup:
    """A sink at work: its identity in the ledger with what the configuration says."""

    id: int
    name: str
    identity: str
    type: str
    make: Callable[[], AnySink]
    transform: Transform
    limits: Limits
    rules: Rules
    concurrency: int
    timeout: float  # s, the total deadline of one call
    max_wait_ms: int
    sources: tuple[Source, ...]
    fingerprint: str = ""  # of its configuration: what a reload compares


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
        self._readers = {source.id: SegmentReader(source, self._newest_version) for source in setup.sources}
        self._blocked: dict[int, int] = {}  # source id → until when its store is left alone
        self._unsettled: list[Reply] = []  # endings that could not be written down yet
        self._recovered = False
        self._missed = {source.id for source in setup.sources}  # sources with files that may be missed
        self._turn = 0
        self._next_ms: int | None = None
        self._stopping = threading.Event()
        self._flush = threading.Event()
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
        self._flush.set()
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
    def is_stuck(self) -> bool:
        """Whether calls that never returned occupy every slot."""
        return not self._stopping.is_set() and len(self._zombies) >= self.setup.concurrency

    # -- the loop ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not (self._stopping.is_set() and not self._busy):
            seen = self._wakes
            try:
                self._recover()
                self._advance()
                if not (self._stopping.is_set() and not self._busy):  # settling may have ended what was waited for
                    self._receive(seen)
            except Exception as error:
                # Whatever it is, this thread is all that moves this sink: it says so, and tries again.
                logger.exception("deliver.failed", sink=self.setup.name, error=str(error))
                threading.Event().wait(LEDGER_RETRY_SECONDS)  # a stop must not turn this into a spin
        for slot in self._slots:
            slot.close()
        for reader in self._readers.values():
            reader.close()

    def _recover(self) -> None:
        """Once, before anything is sent: what an earlier process or worker left under way has an unknown outcome."""
        if self._recovered:
            return
        with self._ledger.write() as tx:
            interrupted = batches.recover_interrupted(tx, self.setup.id)
        self._recovered = True
        if interrupted:
            logger.info("batches.recovered", sink=self.setup.name, batches=interrupted)

    @property
    def _busy(self) -> bool:
        return bool(self._flights or self._letters or self._unsettled)

    def _receive(self, seen: int) -> None:
        """Wait for a reply, a wake-up, a deadline or the next due time."""
        now = clock.monotonic()
        deadlines = [slot.deadline - now for slot in self._slots if slot.current is not None]
        if self._next_ms is not None and (self._wake_at is None or self._next_ms <= clock.now_ms()):
            deadlines.append((self._next_ms - clock.now_ms()) / 1000)
        elif self._next_ms is not None and self._wake_at is not None and self._next_ms != self._asked_ms:
            self._asked_ms = self._next_ms
            self._wake_at(self._next_ms)
        if not self._busy and (self._next_ms is None or self._next_ms > clock.now_ms()):
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

    def _newest_version(self, segment: LogSegment) -> str | None:
        with self._ledger.read() as tx:
            return objects.newest_version(tx, segment.source_id, segment.key)

    # -- starting calls -----------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        self._next_ms = None
        while self._unsettled:
            self._settle(self._unsettled[0])
            self._unsettled.pop(0)
        if self._stopping.is_set():
            return
        with self._ledger.read() as tx:
            sink = sinks.get_sink_by_id(tx, self.setup.id)
        if sink.state == "paused":
            return
        if sink.state == "held" and sink.probe_ms is None:  # only a person may let it go on
            return
        if sink.state == "held" and 0 < (sink.probe_ms or 0) - clock.now_ms() <= self.setup.rules.probe_ms:
            self._wait_until(sink.probe_ms or 0)
            return
        while (slot := self._free_slot(1 if sink.state == "held" else self.setup.concurrency)) is not None:
            if not self._start_next(sink, slot):
                break

    def _free_slot(self, allowed: int) -> Slot | None:
        """A slot to use, a new one where there is room: one zombie at most stands beside each."""
        self._zombies = [slot for slot in self._zombies if slot.is_alive]
        if len(self._flights) + len(self._letters) >= allowed:
            return None
        for slot in self._slots:
            if slot.is_free:
                return slot
        if len(self._zombies) >= self.setup.concurrency:
            self._wait_until(clock.now_ms() + 1000)
            return None
        slot = Slot(self.setup.make, self._inbox, self.setup.name)
        self._slots.append(slot)
        return slot

    def _start_next(self, sink: SinkRow, slot: Slot) -> bool:
        """Begin the next due batch on the slot; False where nothing is due."""
        with self._ledger.read() as tx:
            waiting = batches.open_batches(tx, self.setup.id)
        # What cannot be read for now, or comes from a source that was taken away, must not keep the others waiting.
        waiting = [row for row in waiting if self._source(row.source_id) and not self._is_blocked(row.source_id)]
        suspects = [row for row in waiting if row.state == "suspect"]
        for row in waiting:
            if row.seq in self._flights or row.state == "suspect":
                continue
            if self._is_early(row) and sink.state != "held":
                self._wait_until(row.next_ms)
                return False
            if self._resend(row, slot):
                return True
        if sum(row.state != "suspect" and not self._is_blocked(row.source_id) for row in waiting) >= (
            self.setup.concurrency
        ):
            return False
        if len(suspects) <= record.SUSPECTS_BEFORE_HOLD and any(
            self._send_new(source, sink, slot) for source in self._in_turn()
        ):
            return True
        if suspects and not self._flights:
            if sink.state == "held":
                return self._resend(min(suspects, key=lambda row: (row.attempts, row.seq)), slot)
            with self._ledger.write() as tx:
                record.hold_on_suspects(tx, self.setup.rules)
            self._wait_until(clock.now_ms() + self.setup.rules.probe_ms)
            return False
        return self._send_letter(slot)

    def _is_early(self, row: BatchRow) -> bool:
        """Whether its time has not come; a time that no back-off can have set (the clock was wrong) does not count."""
        longest = max(self.setup.rules.retry_max, MAX_RETRY_AFTER) + self.setup.rules.retry_first
        return 0 < row.next_ms - clock.now_ms() <= longest * 1000

    def _in_turn(self) -> Sequence[Source]:
        """The sources, each time beginning with another, so that none waits for the others' backlog."""
        self._turn += 1
        turn = self._turn % max(1, len(self.setup.sources))
        return self.setup.sources[turn:] + self.setup.sources[:turn]

    def _is_blocked(self, source_id: int) -> bool:
        until = self._blocked.get(source_id, 0)
        if until > clock.now_ms():
            self._wait_until(until)
            return True
        return False

    def _wait_until(self, moment_ms: int) -> None:
        self._next_ms = moment_ms if self._next_ms is None else min(self._next_ms, moment_ms)

    def _resend(self, row: BatchRow, slot: Slot) -> bool:
        """Begin another attempt of a batch that was written down before: the same id, the same bytes."""
        source = self._source(row.source_id)
        if source is None:
            return False
        with self._ledger.read() as tx:
            segments = log.segments_between(tx, row.source_id, row.from_position, row.to_position)
            transform = self._transform_of(tx, row.transform)
        if row.body_digest == "" and row.parent_seq is None:  # it was never cut, because its file was gone
            transform = self.setup.transform
        start, end = (row.from_position, row.from_byte), (row.to_position, row.to_byte)
        touched: list[LogSegment] = []
        try:
            material = rebuild(segments, self._noting(source, touched), start, end, transform)
        except StoreError as error:
            self._on_store_error(source, touched, error, row)
            return False
        if row.body_digest == "":  # planned when a file, its own or one beside it, was given up
            with self._ledger.write() as tx:
                batches.settle_body(
                    tx, row.seq, material.events, len(material.body), material.digest, material.transform
                )
                if not material.events:
                    batches.end_batch(tx, row.seq, "filtered")
                row = batches.get_batch(tx, row.seq)
            if not material.events:
                self._wait_until(clock.now_ms())
                return False
        if material.digest != row.body_digest:
            with self._ledger.write() as tx:
                record.hold(tx, self.setup.rules, f"batch {row.id} would not be sent with the same bytes again", row)
            self._wait_until(clock.now_ms())
            return False
        with self._ledger.write() as tx:
            batches.begin_attempt(tx, row.seq)
            row = batches.get_batch(tx, row.seq)
        self._note_back(source, material)
        self._launch(Attempted(row, material, source.identity), slot)
        return True

    def _transform_of(self, tx: sa.Connection, fingerprint: str) -> Transform:
        if fingerprint == self.setup.transform.fingerprint():
            return self.setup.transform
        return Transform.from_json(sinks.recall_transform(tx, fingerprint), self.setup.transform.salt)

    def _send_new(self, source: Source, sink: SinkRow, slot: Slot) -> bool:
        """Cut the next batch from the log, write it down, begin its first attempt."""
        while not self._is_blocked(source.id) and not self._stopping.is_set():
            with self._ledger.read() as tx:
                cursor = sinks.cursor_of(tx, self.setup.id, source.id)
            if cursor is None or self._should_wait(source, cursor):
                return False
            touched: list[LogSegment] = []
            try:
                material = self._gather(source, cursor, touched)
            except StoreError as error:
                self._on_store_error(source, touched, error, None)
                continue
            if material is None:
                return False
            row = self._write_down(source, sink, cursor, material)
            if row is not None:
                self._note_back(source, material)
                self._launch(Attempted(row, material, source.identity), slot)
                return True
        return False

    def _should_wait(self, source: Source, cursor: Cursor) -> bool:
        """Whether what waits is too little and too young for a batch."""
        events = size = 0
        oldest: int | None = None
        for segment in self._segments(source, cursor):
            oldest = segment.appended_ms if oldest is None else oldest
            events, size = events + segment.events, size + segment.end - segment.start
            if events >= self.setup.limits.max_events or size >= self.setup.limits.max_bytes:
                return False
        if oldest is None:
            return True
        due = oldest + self.setup.max_wait_ms
        if self._flush.is_set() or due <= clock.now_ms():
            return False
        self._wait_until(due)
        return True

    def _segments(self, source: Source, cursor: Cursor) -> Iterator[LogSegment]:
        position, byte = cursor.position, cursor.byte
        for number in range(1_000_000):
            size = PAGES[min(number, len(PAGES) - 1)]
            with self._ledger.read() as tx:
                page = log.segments_after(tx, source.id, position, byte, size)
            yield from page
            if len(page) < size:
                return
            position, byte = page[-1].position, page[-1].end

    def _gather(self, source: Source, cursor: Cursor, touched: list[LogSegment]) -> Material | None:
        after, read = (cursor.position, cursor.byte), self._noting(source, touched)
        return gather(self._segments(source, cursor), read, after, self.setup.transform, self.setup.limits)

    def _noting(self, source: Source, touched: list[LogSegment]) -> Callable[[LogSegment], bytes]:
        """Reads segments, and leaves the one that it could not read at the end of `touched`."""
        reader = self._readers[source.id]

        def read(segment: LogSegment) -> bytes:
            touched.append(segment)
            return reader.read(segment)

        return read

    def _write_down(self, source: Source, sink: SinkRow, cursor: Cursor, material: Material) -> BatchRow | None:
        """One transaction: the batch, the beginning of its attempt, the cursor. None where nothing is left to send."""
        fingerprint = self.setup.transform.fingerprint()
        planned = PlannedBatch(
            id=batch_id(self.setup.identity, sink.epoch, fingerprint, material.parts(source.identity)),
            source_id=source.id,
            epoch=sink.epoch,
            start=material.start,
            end=material.end,
            parts=material.ledger_parts(),
            read_events=material.read_events,
            events=material.events,
            body_bytes=len(material.body),
            body_digest=material.digest,
            transform=fingerprint,
        )
        position, byte = material.end
        with self._ledger.write() as tx:
            seq = batches.plan(tx, self.setup.id, planned, "sending" if material.events else "filtered")
            sinks.move_cursor(tx, self.setup.id, source.id, position, byte, material.left_events(cursor.left_events))
            return batches.get_batch(tx, seq) if material.events else None

    def _launch(self, attempted: Attempted, slot: Slot) -> None:
        batch = self._batch(attempted)
        self._flights[attempted.row.seq] = Flight(attempted)
        slot.start(Call(attempted.row.seq, lambda sink: sink.deliver(batch)), self.setup.timeout)

    def _batch(self, attempted: Attempted) -> Batch:
        row, material = attempted.row, attempted.material
        low, high = material.times()
        return Batch(
            id=row.id,
            body=material.body,
            events=material.events,
            parts=material.parts(attempted.source),
            sink=self.setup.name,
            parent=None if row.parent_seq is None else str(row.parent_seq),
            attempt=row.attempts,
            time_min=low,
            time_max=high,
            locate=material.place,
        )

    def _send_letter(self, slot: Slot) -> bool:
        """Try a dead letter again that a person asked for."""
        with self._ledger.read() as tx:
            due = dead_letters.due(tx, self.setup.id, 1)
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
                record_letter(tx, self.setup.rules, self._letters[seq], reply.error)
            del self._letters[seq]
            return
        flight = self._flights[seq]
        if flight.verdict is not None:
            self._settle_answer(seq, flight, reply)
            return
        verdict = judge(reply.error, flight.attempted.material.events)
        splits = verdict.ending in (Ending.REFUSED, Ending.TOO_LARGE) or (
            verdict.ending is Ending.BUG and flight.attempted.row.bugs + 1 >= BUGS_BEFORE_BISECT
        )
        if splits and flight.attempted.row.unknown:
            # An earlier attempt may have taken effect: the sink is asked before the batch is taken apart.
            flight.verdict = verdict
            if reply.slot.is_free:
                batch = self._batch(flight.attempted)
                reply.slot.start(Call(seq, lambda sink: sink.was_delivered(batch)), self.setup.timeout)
                return
        with self._ledger.write() as tx:
            record.record(tx, self.setup.rules, flight.attempted, verdict)
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

    def _on_store_error(
        self, source: Source, touched: Sequence[LogSegment], error: StoreError, row: BatchRow | None
    ) -> None:
        """Leave the source alone for a while; what has been gone for too long becomes a dead letter."""
        is_gone = isinstance(error, (ObjectGone, ObjectChanged))
        logger.warning("source.unreadable", sink=self.setup.name, source=source.name, error=str(error))
        self._missed.add(source.id)
        if is_gone and touched:
            with self._ledger.write() as tx:
                given_up = gone.give_up(tx, self.setup, source, touched[-1], str(error), row)
            if given_up:
                self._wait_until(clock.now_ms())  # look again: what is left of the batch was planned anew
                return
        self._blocked[source.id] = clock.now_ms() + STORE_RETRY_MS
        self._wait_until(self._blocked[source.id])

    def _note_back(self, source: Source, material: Material) -> None:
        """What could not be read before can be read again."""
        if source.id in self._missed:
            with self._ledger.write() as tx:
                if gone.is_back(tx, source, {piece.segment.object_id for piece in material.pieces}):
                    self._missed.discard(source.id)

    def _source(self, source_id: int) -> Source | None:
        return next((source for source in self.setup.sources if source.id == source_id), None)
