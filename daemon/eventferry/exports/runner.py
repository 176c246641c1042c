"""Makes the queued exports: gives each a process when its turn has come, watches it, and records how it ends."""

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError, Executor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from eventferry import clock
from eventferry.execution import make_executor
from eventferry.exports import ending, expiry, folders, placing, resuming
from eventferry.exports.desk import Desk
from eventferry.exports.model import Output, Selection
from eventferry.exports.plan import plan
from eventferry.exports.planned import write_plan
from eventferry.exports.progress import CANCEL
from eventferry.exports.scan_cache import FOLDER
from eventferry.exports.slot import Slot, Task
from eventferry.exports.sources import Readable
from eventferry.ledger import exports
from eventferry.ledger.exports import ExportRow, FileRow
from eventferry.logs import get_logger

if TYPE_CHECKING:
    from eventferry.exports.journal import MadeFile

# Of an export that is put into a store: how much of its progress is making the files; the rest is sending them.
MAKING_PERCENT = 80
# A stop gives transfers under way so long to abort, so that nothing half remains in the requester's store.
ABORT_SECONDS = 1.5

logger = get_logger()


class Runner:
    """The exports at work. Call `tick` every second from one scheduler job; nothing in it waits for an export."""

    def __init__(
        self,
        desk: Desk,
        sources: Callable[[], Mapping[int, Readable]],
        *,
        enabled: bool = True,
        make: Callable[[], Executor] | None = None,
    ) -> None:
        self._desk = desk
        self._sources = sources
        self._make = make or partial(make_executor, 1)
        self._slots: list[Slot] = []
        self._lock = threading.RLock()
        self._enabled = enabled
        self._closed = False
        self._began = False
        self._turns: dict[str | None, None] = {}  # the keys, that which had its turn last at the end

    # -- from outside -------------------------------------------------------------------------------------------------

    def use(self, desk: Desk, *, enabled: bool) -> None:
        """Go by another configuration. Where exports are switched off, those at work wait until they are on again."""
        with self._lock:
            self._desk, self._enabled = desk, enabled
            if not enabled:
                self._put_all_back()

    def tick(self) -> None:
        """One look at everything: what has ended, what is to end, what can begin."""
        with self._lock:
            if self._closed or not self._enabled:
                return
            if not self._began:
                ending.take_back(self._desk)
                self._began = True
            self._put_back_strays()
            for slot in self._slots:
                if slot.task is not None:
                    self._look_safely(slot, slot.task)
            self._begin_what_can()
            self._rest()

    def at_work(self) -> set[str]:
        """The exports that have a process, also one that is about to end."""
        with self._lock:
            return {slot.task.row.id for slot in self._slots if slot.task is not None}

    def expire(self) -> None:
        """Remove files whose time is over, and those of exports that no longer exist."""
        expiry.expire(self._desk, self._lock)

    def close(self) -> None:
        """End the processes; what they were at begins anew at the next start."""
        with self._lock:
            self._closed = True
            self._put_all_back()

    # -- watching -----------------------------------------------------------------------------------------------------

    def _look_safely(self, slot: Slot, task: Task) -> None:
        try:
            self._look(slot, task)
        except Exception:  # most likely the ledger; one export's trouble is not the others'
            logger.exception("export.unwatched", export=task.row.id)

    def _look(self, slot: Slot, task: Task) -> None:
        with self._desk.ledger.read() as tx:
            row = exports.get(tx, task.row.id)
        if row is None or row.cancelled or row.state != "running":
            self._stop(slot, task)
        elif task.future.done():
            self._collect(slot, task)
        elif (said := task.progress()) is not None:
            percent = said.percent
            if placing.is_sent(self._desk, row):
                sent = MAKING_PERCENT + percent * (100 - MAKING_PERCENT) // 100
                percent = percent * MAKING_PERCENT // 100 if task.stage == "making" else sent
            with self._desk.ledger.write() as tx:
                exports.note_progress(tx, row.id, events=said.events, bytes_=said.bytes, percent=percent)

    def _stop(self, slot: Slot, task: Task) -> None:
        """The export is cancelled: said at once, and its process has a moment to end by itself."""
        if task.cancelled_at is None:
            task.ask_to_stop()
            ending.cancel(self._desk, task.row.id)
        if task.is_over:
            self._free(slot, task)

    def _collect(self, slot: Slot, task: Task) -> None:
        """Record how the task ended."""
        from eventferry.exports.sending import Sent
        from eventferry.exports.task import Cancelled, Failure, Made

        desk, export_id = self._desk, task.row.id
        try:
            result = task.future.result()
        except (BrokenProcessPool, CancelledError):
            result = None
            ending.note_death(desk, export_id, "the process that made it died; it may need more memory than there is")
        except Exception as error:
            result = None
            logger.error("export.broke", export=export_id, error=f"{type(error).__name__}: {error}", exc_info=error)
            self._begin_anew(export_id)
            ending.note_death(desk, export_id, "eventferry made a mistake of its own; its log says more")
        match result:
            case Made() if placing.is_sent(desk, task.row):
                self._send(slot, task, rows_of(result.files))
                return
            case Made():
                ending.complete(desk, export_id, rows_of(result.files))
            case Sent():
                ending.complete(desk, export_id, rows_of(result.files), result.place)
            case Cancelled():
                ending.put_back(desk, export_id)
            case Failure(retryable=True):
                if result.kind not in ("store", "bucket"):  # of those what is safe is gone on with
                    self._begin_anew(export_id)
                ending.fail_or_retry(desk, export_id, result.sentence, result.kind, result.detail)
            case Failure():
                ending.fail(desk, export_id, result.sentence, result.detail)
        self._free(slot, task)

    def _begin_anew(self, export_id: str) -> None:
        """The next attempt is not to go on from this one."""
        with suppress(OSError):
            folders.remove(self._desk.folder, f"{folders.WORK}{export_id}")

    def _free(self, slot: Slot, task: Task) -> None:
        """The task is over; what it leaves on the disk is kept where it is complete, or to be gone on with."""
        slot.free()
        with self._desk.ledger.read() as tx:
            row = exports.get(tx, task.row.id)
        state = "deleted" if row is None or row.deleted_ms is not None else row.state
        is_ours = row is not None and row.destination["kind"] == "managed" and row.place is None
        with suppress(OSError):  # the next sweep tries again
            if state not in exports.UNDER_WAY:
                folders.remove(self._desk.folder, f"{folders.WORK}{task.row.id}")
            if state not in exports.UNDER_WAY and not (state == "complete" and is_ours):
                folders.remove(self._desk.folder, task.row.id)

    # -- beginning ----------------------------------------------------------------------------------------------------

    def _begin_what_can(self) -> None:
        while len([slot for slot in self._slots if slot.task is not None]) < self._desk.settings.workers:
            row = self._take_next()
            if row is None:
                return
            try:
                self._begin(row)
            except OSError as error:
                self._fail_to_begin(row, error)
                return  # the next one would fare no better now
            except Exception:
                logger.exception("export.broke", export=row.id)
                ending.fail_or_retry(self._desk, row.id, "eventferry could not begin it; its log says more")

    def _take_next(self) -> ExportRow | None:
        limit = self._desk.settings.running_per_key
        with self._desk.ledger.read() as tx:  # mostly nothing waits: that costs nobody the lock
            if exports.next_queued(tx, limit, tuple(self._turns)) is None:
                return None
        with self._desk.ledger.write() as tx:
            row = exports.next_queued(tx, limit, tuple(self._turns))
            if row is not None:
                exports.start(tx, row.id)
        if row is not None:
            self._turns.pop(row.key_id, None)
            self._turns[row.key_id] = None
        return row

    def _begin(self, row: ExportRow) -> None:
        """Write the plan down and give the export its process. Raises OSError."""
        # What only exports need costs nothing before the first one.
        from eventferry.exports.task import PLAN, TaskSpec, run_export

        desk = self._desk
        work = self._make_work(row.id)
        selection, sources = Selection.from_data(row.selection), self._sources()
        if not (work / PLAN).exists() or not resuming.reads_the_same(work, sources):
            folders.remove(desk.folder, work.name)  # what was made by another plan
            work = self._make_work(row.id)
            resuming.note_sources(work, sources)
            write_plan(work / PLAN, plan(desk.ledger, sources, selection, row.as_of, row.created_ms))
        spec = TaskSpec(
            export_id=row.id,
            folder=desk.folder,
            sources=tuple(sources.values()),
            selection=selection,
            output=Output.from_data(row.output),
            as_of=row.as_of,
            max_bytes=desk.settings.max_size,
            cache=desk.state_dir.joinpath(*FOLDER),
        )
        self._free_slot().begin(row, "making", work, run_export, spec)
        logger.info("export.started", export=row.id, dialect=row.dialect, attempt=row.attempts + 1)

    def _send(self, slot: Slot, task: Task, files: list[FileRow]) -> None:
        """The files are made: have them put into the store where they belong."""
        try:
            work = self._make_work(task.row.id)
        except OSError as error:
            self._fail_to_begin(task.row, error)
            self._free(slot, task)
            return
        slot.begin(task.row, "sending", work, *placing.sending(self._desk, task.row, work, tuple(files)))

    def _make_work(self, export_id: str) -> Path:
        work = self._desk.folder / f"{folders.WORK}{export_id}"
        work.mkdir(parents=True, mode=0o700, exist_ok=True)
        (work / CANCEL).unlink(missing_ok=True)  # meant for an attempt before
        return work

    def _fail_to_begin(self, row: ExportRow, error: OSError) -> None:
        is_full = folders.is_full(error)
        reason = "there is no room for its files" if is_full else "its files cannot be written now"
        detail = f"{self._desk.folder} cannot be written to: {error.strerror or error}"
        ending.fail_or_retry(self._desk, row.id, reason, "disk_full" if is_full else "disk", detail)

    def _put_back_strays(self) -> None:
        """Queue again what is said to run and does not: the ledger did not take its end when it came."""
        own = self.at_work()
        with self._desk.ledger.read() as tx:
            strays = [row.id for row in exports.under_way(tx) if row.id not in own]
        for export_id in strays:
            ending.put_back(self._desk, export_id)

    def _free_slot(self) -> Slot:
        for slot in self._slots:
            if slot.task is None:
                return slot
        self._slots.append(Slot(self._make))
        return self._slots[-1]

    # -- ending -------------------------------------------------------------------------------------------------------

    def _rest(self) -> None:
        """End processes that have had nothing to do for a while."""
        for slot in [each for each in self._slots if each.is_rested]:
            slot.end()
            self._slots.remove(slot)

    def _put_all_back(self) -> None:
        """End every process at once; transfers have a moment to abort."""
        busy = [(slot, slot.task) for slot in self._slots if slot.task is not None]
        transfers = [task for _, task in busy if task.stage == "sending"]
        for task in transfers:
            task.ask_to_stop()
        deadline = clock.monotonic() + ABORT_SECONDS
        for task in transfers:
            with suppress(Exception):
                task.future.exception(max(0.0, deadline - clock.monotonic()))
        for slot, task in busy:
            slot.end()
            try:
                ending.put_back(self._desk, task.row.id)
            except Exception:  # the next start takes it for interrupted
                logger.exception("export.unwatched", export=task.row.id)
            self._free(slot, task)
        for slot in self._slots:
            slot.end()
        self._slots.clear()


def rows_of(files: "Iterable[FileRow | MadeFile]") -> list[FileRow]:
    """The files as the ledger keeps them."""
    return [FileRow(each.name, each.number, each.events, each.bytes, each.sha256) for each in files]
