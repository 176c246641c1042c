"""Prepares what a sink is sent: cuts the next batch from the log or rebuilds an earlier one, and writes it down."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from eventferry import clock
from eventferry.errors import ObjectChanged, ObjectGone, ObjectReplaced, StoreError
from eventferry.ledger import Ledger, batches, log, objects, sinks
from eventferry.ledger.batches import BatchRow, PlannedBatch
from eventferry.ledger.identity import batch_id
from eventferry.ledger.log import LogSegment
from eventferry.ledger.sinks import Cursor, SinkRow
from eventferry.logs import get_logger
from eventferry.pipeline import failing, gone, record
from eventferry.pipeline.ceiling import Ceiling
from eventferry.pipeline.material import Limits, Material, Waiting, gather, rebuild, weigh
from eventferry.pipeline.outcome import Ending
from eventferry.pipeline.reader import SegmentReader
from eventferry.pipeline.record import Attempted
from eventferry.pipeline.setup import SinkSetup
from eventferry.pipeline.source import Source
from eventferry.query.transform import Transform

logger = get_logger()

# Segments are fetched in growing pages: two are enough of large ones, hundreds are needed of tiny ones.
PAGES = (4, 32, 256)
# A store that cannot be read is tried again after this long, for this sink and source alone.
STORE_RETRY_MS = 30_000


class Superseded(Exception):
    """Another worker has taken the sink over."""


class CannotRepeat(Exception):
    """A batch would not be sent with the same bytes again: the sink is held, and is sent nothing else meanwhile."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """A batch that was cut while another was under way: good as long as the cursor stands where it stood."""

    source_id: int
    cursor: Cursor
    material: Material


class Cargo:
    """What one sink is sent next. Used by the sink's own thread alone."""

    def __init__(self, ledger: Ledger, setup: SinkSetup) -> None:
        self._ledger = ledger
        self.setup = setup
        self._readers = {
            source.id: SegmentReader(source, self._newest_version, source.reads) for source in setup.sources
        }
        self._blocked: dict[int, int] = {}  # source id → until when its store is left alone
        self._missed = {source.id for source in setup.sources}  # sources with files that may be missed
        self._turn = 0
        self._last: Source | None = None  # whose batch was cut last
        self._ahead: Ahead | None = None
        self._ceiling = Ceiling(setup.limits.max_bytes)
        self.claim = 0  # of the worker that this is the cargo of
        self.flushes = False  # short batches are sent at once
        self.due_ms: int | None = None  # when something that waits for a time is due

    def close(self) -> None:
        """Let go of the stores."""
        for reader in self._readers.values():
            reader.close()

    def wait_until(self, moment_ms: int) -> None:
        """There is something to do at this moment, if not before."""
        self.due_ms = moment_ms if self.due_ms is None else min(self.due_ms, moment_ms)

    def note_size(self, material: Material, ending: Ending) -> None:
        """Learn from an ending how large a body the sink takes; a single event says nothing, it cannot be halved."""
        if ending is Ending.DELIVERED:
            self._ceiling.note_taken(len(material.body))
        elif ending is Ending.TOO_LARGE and material.events > 1:
            self._ceiling.note_refused(len(material.body))
            self._ahead = None  # it was cut before

    @property
    def _limits(self) -> Limits:
        return replace(self.setup.limits, max_bytes=self._ceiling.bytes)

    def check_claim(self, tx: sa.Connection) -> None:
        """A worker that was replaced while it read the store must begin nothing more. Raises Superseded."""
        if sinks.claimed_by(tx, self.setup.id) != self.claim:
            raise Superseded

    def is_blocked(self, source_id: int) -> bool:
        """Whether the store of the source is left alone for now, or the source is not this sink's any more."""
        if self._source(source_id) is None:
            return True
        until = self._blocked.get(source_id, 0)
        if until > clock.now_ms():
            self.wait_until(until)
            return True
        return False

    def again(self, row: BatchRow) -> Attempted | None:
        """Begin another attempt of a batch that was written down before: the same id, the same bytes.

        Raises CannotRepeat where it would be other bytes.
        """
        source = self._source(row.source_id)
        if source is None:
            return None
        with self._ledger.read() as tx:
            segments = log.segments_between(tx, row.source_id, row.from_position, row.to_position)
            transform = self._transform_of(tx, row.transform)
        if row.body_digest == "" and row.parent_seq is None:  # it was never cut, because its file was gone
            transform = self.setup.transform
        start, end = (row.from_position, row.from_byte), (row.to_position, row.to_byte)
        touched: list[LogSegment] = []
        try:
            foreseen = self._readers[source.id].foresee(segments)
            material = rebuild(foreseen, self._noting(source, touched), start, end, transform)
        except StoreError as error:
            self._on_store_error(source, touched, error, row)
            return None
        if row.body_digest == "":  # planned when a file, its own or one beside it, was given up
            with self._ledger.write() as tx:
                row = batches.settle_body(
                    tx, row, material.events, len(material.body), material.digest, material.transform
                )
            if row.state == "filtered":
                self.wait_until(clock.now_ms())
                return None
        if material.digest != row.body_digest:
            with self._ledger.write() as tx:
                record.hold(tx, self.setup.rules, failing.why_not_repeated(row, transform.fingerprint()), row)
            self.wait_until(clock.now_ms())
            raise CannotRepeat
        self._note_back(source, material)  # before the attempt begins: it may fail
        with self._ledger.write() as tx:
            self.check_claim(tx)
            if not batches.begin_attempt(tx, row.seq):
                return None
            row = batches.get_batch(tx, row.seq)
        return Attempted(row, material, source.identity)

    def next(self, sink: SinkRow) -> Attempted | None:
        """The next batch of any source, written down with the beginning of its attempt; None where none is due."""
        for source in self._in_turn():
            attempted = self._next_of(source, sink)
            if attempted is not None:
                return attempted
        return None

    def look_ahead(self) -> None:
        """While a batch is under way: cut the next one of the same source, if there is a full one."""
        source = self._last
        if self._ahead is not None or source is None or self.is_blocked(source.id):
            return
        with self._ledger.read() as tx:
            cursor = sinks.cursor_of(tx, self.setup.id, source.id)
        if cursor is None or not self._weigh(source, cursor).is_full:
            return
        try:
            material = self._gather(source, cursor, [])
        except StoreError:
            return  # it will be met again when it is this batch's turn
        if material is not None:
            _ = material.digest  # joined and digested now, while the sink works, not between two batches
            self._ahead = Ahead(source.id, cursor, material)

    def _transform_of(self, tx: sa.Connection, fingerprint: str) -> Transform:
        if fingerprint == self.setup.transform.fingerprint():
            return self.setup.transform
        return Transform.from_json(sinks.recall_transform(tx, fingerprint), self.setup.transform.salt)

    def _in_turn(self) -> Sequence[Source]:
        """The sources, each time beginning with another, so that none waits for the others' backlog."""
        self._turn += 1
        turn = self._turn % max(1, len(self.setup.sources))
        return self.setup.sources[turn:] + self.setup.sources[:turn]

    def _next_of(self, source: Source, sink: SinkRow) -> Attempted | None:
        while not self.is_blocked(source.id):
            with self._ledger.read() as tx:
                cursor = sinks.cursor_of(tx, self.setup.id, source.id)
            if cursor is None:
                return None
            if cursor.start_ms is not None:
                cursor = self._pass_by(source, cursor)
            material = self._take_ahead(source, cursor)
            touched: list[LogSegment] = []
            try:
                if material is None and self._is_due(source, cursor):
                    material = self._gather(source, cursor, touched)
            except StoreError as error:
                self._on_store_error(source, touched, error, None)
                continue
            if material is None:
                return None
            self._note_back(source, material)  # before the attempt begins: it may fail
            row = self._write_down(source, sink, cursor, material)
            if row is not None:
                self._last = source
                return Attempted(row, material, source.identity)
        return None

    def _pass_by(self, source: Source, cursor: Cursor) -> Cursor:
        """Leave behind what lies before the sink's start."""
        with self._ledger.read() as tx:
            if log.last_of(tx, source.id) <= cursor.position:
                return cursor
        with self._ledger.write() as tx:
            return sinks.pass_by(tx, self.setup.id, source.id)

    def _take_ahead(self, source: Source, cursor: Cursor) -> Material | None:
        ahead = self._ahead
        if ahead is None or ahead.source_id != source.id:
            return None
        self._ahead = None
        return ahead.material if ahead.cursor == cursor else None

    def _is_due(self, source: Source, cursor: Cursor) -> bool:
        """Whether what waits is enough or old enough for a batch."""
        waiting = self._weigh(source, cursor)
        if waiting.oldest_ms is None:
            return False
        due = waiting.oldest_ms + self.setup.max_wait_ms
        is_late = due <= clock.now_ms() or waiting.oldest_ms > clock.now_ms()  # appended when the clock was ahead
        if waiting.is_full or self.flushes or is_late:
            return True
        self.wait_until(due)
        return False

    def _weigh(self, source: Source, cursor: Cursor) -> Waiting:
        return weigh(self._segments(source, cursor), self._limits)

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
        segments = self._readers[source.id].foresee(self._segments(source, cursor))
        return gather(segments, read, after, self.setup.transform, self._limits)

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
            self.check_claim(tx)
            seq = batches.plan(tx, self.setup.id, planned, "sending" if material.events else "filtered")
            sinks.move_cursor(tx, self.setup.id, source.id, position, byte, material.left_events(cursor.left_events))
            return batches.get_batch(tx, seq) if material.events else None

    def _on_store_error(
        self, source: Source, touched: Sequence[LogSegment], error: StoreError, row: BatchRow | None
    ) -> None:
        """Leave the source alone for a while; what has been gone for too long becomes a dead letter."""
        is_gone = isinstance(error, (ObjectGone, ObjectChanged))
        logger.warning("source.unreadable", sink=self.setup.name, source=source.name, error=str(error))
        self._missed.add(source.id)
        if is_gone and touched:
            with self._ledger.write() as tx:
                self.check_claim(tx)
                given_up = gone.give_up(
                    tx, self.setup, source, touched[-1], str(error), row, is_replaced=isinstance(error, ObjectReplaced)
                )
            if given_up:
                self.wait_until(clock.now_ms())  # look again: what is left of the batch was planned anew
                return
        self._blocked[source.id] = clock.now_ms() + STORE_RETRY_MS
        self.wait_until(self._blocked[source.id])

    def _note_back(self, source: Source, material: Material) -> None:
        """What could not be read before can be read again."""
        if source.id in self._missed:
            with self._ledger.write() as tx:
                if gone.is_back(tx, source, self.setup.name, {piece.segment.object_id for piece in material.pieces}):
                    self._missed.discard(source.id)

    def _newest_version(self, segment: LogSegment) -> str | None:
        with self._ledger.read() as tx:
            return objects.newest_version(tx, segment.source_id, segment.key)

    def _source(self, source_id: int) -> Source | None:
        return next((source for source in self.setup.sources if source.id == source_id), None)
