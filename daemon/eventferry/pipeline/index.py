"""Index: read each new file once, whole, before anything of it is sent; append its segments to the log."""

import collections
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from eventferry import clock
from eventferry.execution import end_executor
from eventferry.ledger import Ledger, log, objects
from eventferry.ledger.objects import ObjectRow
from eventferry.pipeline.ending import Decision, Outcome, ScanItem, alert_stopped, decide, end_of, note
from eventferry.pipeline.scan import Known, ScanFailure, ScanLimits, ScanResult, ScanSpec, scan_pack
from eventferry.pipeline.source import Source

# Files travel to a worker in packs: a pack is one task and one commit, so that tiny files cost neither.
PACK_BYTES = 1024 * 1024
PACK_FILES = 100
# Over a network a worker fetches the files of its pack many at once: then packs are larger, as far as there is room
# for what all workers together have fetched and not yet scanned.
FETCHED_BYTES = 16 * 1024 * 1024
# A worker that dies three times on the same file takes the file into quarantine, not the daemon down.
MAX_KILLS = 3
# A death of the daemon itself says little about the file that it was reading: power cuts and people kill daemons, too.
MAX_INTERRUPTIONS = 10


@dataclass(frozen=True, slots=True)
class Submitted:
    """A pack on its way through an executor."""

    pack: list[ScanItem]
    future: Future[list[Outcome]]
    executor: Executor


class Interrupted(Exception):
    """The indexer was closed while a scan was under way."""


@dataclass(slots=True)
class Indexed:
    """The totals of one pass."""

    files: int = 0
    events: int = 0
    bytes: int = 0
    bad: int = 0
    quarantined: int = 0
    postponed: int = 0


class Indexer:
    """Runs scans on an executor and commits their results in the order in which the files were taken."""

    def __init__(self, ledger: Ledger, make_executor: Callable[[], Executor], width: int) -> None:
        self._ledger = ledger
        self._make = make_executor
        self._processes = max(1, width)
        self._executor: Executor | None = None
        self._lock = threading.Lock()
        self._closed = False

    def index(self, source: Source, progress: Callable[[Indexed], None] = lambda _: None) -> Indexed:
        """Index every object of the source that is due. Bad files raise nothing; they are recorded."""
        totals = Indexed()
        with self._ledger.read() as tx:
            due = objects.due_for_index(tx, source.id)
        due = list({row.key: row for row in reversed(due)}.values())[::-1]  # of two versions the older one first
        # What was interrupted before may be what killed its worker, or the daemon: it runs alone, and not for ever.
        suspects = [[row] for row in due if 0 < row.attempts < MAX_INTERRUPTIONS]
        for row in due:
            if row.attempts >= MAX_INTERRUPTIONS:
                self._commit(source, self._items(source, [row]), [_killed(row.attempts)], totals)
        room = self._room(source)
        packs = _packs((row for row in due if not row.attempts), max(room, PACK_BYTES))
        try:
            for pack, outcomes in itertools.chain(
                self._scan(source, suspects, 1), self._scan(source, packs, 2 * self._processes)
            ):
                self._commit(source, pack, outcomes, totals)
                progress(totals)
        except Interrupted:
            pass  # the daemon stops; what is not recorded is indexed by the next start
        return totals

    def close(self) -> None:
        """End the workers; a scan under way is simply repeated by the next start."""
        self._closed = True
        if self._executor is not None:
            end_executor(self._executor)

    def _scan(
        self, source: Source, packs: Iterable[list[ObjectRow]], width: int
    ) -> Iterator[tuple[list[ScanItem], list[Outcome]]]:
        """Scan packs, up to `width` at a time; yields in submission order."""
        waiting: collections.deque[Submitted] = collections.deque()
        for rows in packs:
            waiting.append(self._submit(source, rows))
            if len(waiting) >= width:
                yield self._collect(source, waiting.popleft())
        while waiting:
            yield self._collect(source, waiting.popleft())

    def _submit(self, source: Source, rows: list[ObjectRow]) -> Submitted:
        executor = self._workers()
        with self._ledger.write() as tx:
            objects.count_attempts(tx, [row.id for row in rows])
        pack = self._items(source, rows)
        specs = [item.spec for item in pack]
        while True:
            try:
                return Submitted(pack, executor.submit(scan_pack, specs), executor)
            except BrokenProcessPool:
                self._replace(executor)
            except RuntimeError:  # shut down since it was looked up: retired by a reload, or closed
                if not self._is_retired(executor):
                    raise
            executor = self._workers()

    def _items(self, source: Source, rows: list[ObjectRow]) -> list[ScanItem]:
        with self._ledger.read() as tx:
            before = objects.indexed_before(tx, source.id, rows)
        room = self._room(source)
        return [_item(source, row, before.get(row.key, []), room) for row in rows]

    def _room(self, source: Source) -> int:
        """How many bytes one worker may have fetched ahead; 0 where nothing is fetched so."""
        return FETCHED_BYTES // self._processes if source.reads > 1 else 0

    def use(self, make_executor: Callable[[], Executor], width: int) -> None:
        """Scan on executors of another kind from the next pack on; those under way end where they are."""
        with self._lock:
            retired, self._executor = self._executor, None
            self._make, self._processes = make_executor, max(1, width)
        if retired is not None:
            retired.shutdown(wait=False)

    def _workers(self) -> Executor:
        with self._lock:
            if self._closed:
                raise Interrupted
            if self._executor is None:
                executor = self._make()
                # Half a second goes into starting a process: who is killed in it must not be counted against a file.
                executor.submit(scan_pack, []).result()
                self._executor = executor
            return self._executor

    def _is_retired(self, executor: Executor) -> bool:
        with self._lock:
            return self._closed or self._executor is not executor

    def _replace(self, broken: Executor) -> None:
        """Do without a broken executor; another source may have replaced it already."""
        with self._lock:
            if self._executor is not broken:
                return
            if not self._closed:
                self._executor = None
        end_executor(broken)

    def _collect(self, source: Source, submitted: Submitted) -> tuple[list[ScanItem], list[Outcome]]:
        """The outcomes of a pack; after a broken pool its files run again one by one."""
        pack = submitted.pack
        try:
            return pack, submitted.future.result()
        except (BrokenProcessPool, CancelledError):
            self._replace(submitted.executor)
        was_alone = len(pack) == 1 and not self._closed
        if not was_alone:
            with self._ledger.write() as tx:  # not each of them was at fault
                for item in pack:
                    objects.uncount_attempt(tx, item.row.id)
        return pack, [self._scan_suspect(source, item.row, kills=int(was_alone)) for item in pack]

    def _scan_suspect(self, source: Source, row: ObjectRow, kills: int) -> Outcome:
        """Scan one file alone until it ends or has killed its worker too often; `kills` it has done already."""
        while kills < MAX_KILLS:
            submitted = self._submit(source, [row])
            try:
                return submitted.future.result()[0]
            except (BrokenProcessPool, CancelledError):
                self._replace(submitted.executor)
                kills += 1
        return _killed(kills)

    def _commit(self, source: Source, pack: Sequence[ScanItem], outcomes: Sequence[Outcome], totals: Indexed) -> None:
        now = clock.now_ms()
        judged = [
            (item.row, outcome, decide(source, item, outcome, now))
            for item, outcome in zip(pack, outcomes, strict=True)
        ]
        with self._ledger.write() as tx:
            ends = [(each[0], end_of(*each)) for each in judged if each[2].state != "later"]
            objects.finish_objects(tx, [end for _, end in ends])
            objects.supersede(tx, source.id, ends)
            log.append(tx, source.id, [(row.id, outcome.segments) for row, outcome in _indexed(judged)])
            for row, outcome, decision in judged:
                note(tx, source, row, outcome, decision)
            alert_stopped(tx, source.name, source.id, [decision.state for *_, decision in judged])
        for _, outcome in _indexed(judged):
            totals.files += 1
            totals.events += outcome.events
            totals.bytes += outcome.bytes
            totals.bad += outcome.bad
        totals.quarantined += sum(decision.state == "quarantined" for _, _, decision in judged)
        totals.postponed += sum(decision.state == "later" for _, _, decision in judged)


def _killed(times: int) -> ScanFailure:
    return ScanFailure("killed", f"killed the process that read it {times} times", 0)


def _indexed(judged: Iterable[tuple[ObjectRow, Outcome, Decision]]) -> list[tuple[ObjectRow, ScanResult]]:
    """What goes into the log."""
    return [
        (row, outcome)
        for row, outcome, decision in judged
        if decision.state == "indexed" and isinstance(outcome, ScanResult)
    ]


def _item(source: Source, row: ObjectRow, before: Sequence[tuple[int, str]], room: int) -> ScanItem:
    settings = source.settings
    limits = ScanLimits(max_line_bytes=settings.max_line, max_bytes=settings.max_size, max_ratio=settings.max_ratio)
    spec = ScanSpec(
        store=source.spec,
        key=row.key,
        version=row.version,
        times=tuple(settings.time_field),
        concatenated=settings.concatenated,
        limits=limits,
        known=Known(*before[-1]) if before and before[-1][0] else None,  # an empty file only grows
        size=row.size,
        reads=source.reads,
        room=room,
    )
    return ScanItem(row, spec, frozenset(digest for _, digest in before))


def _packs(rows: Iterable[ObjectRow], pack_bytes: int) -> Iterator[list[ObjectRow]]:
    """Pure: objects in packs of about so many stored bytes, in order."""
    pack: list[ObjectRow] = []
    size = 0
    for row in rows:
        if pack and (size + row.size > pack_bytes or len(pack) >= PACK_FILES):
            yield pack
            pack, size = [], 0
        pack.append(row)
        size += row.size
    if pack:
        yield pack
