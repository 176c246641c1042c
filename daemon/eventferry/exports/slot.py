"""A place for one export at work, with a process of its own: who dies in it, and who is ended, is certain."""

import json
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eventferry import clock
from eventferry.execution import end_executor
from eventferry.exports.progress import CANCEL, PROGRESS
from eventferry.ledger.exports import ExportRow

# An idle process is ended after this time: it holds what the last export needed, such as Parquet's library.
IDLE_SECONDS = 60.0
# How long an export that is cancelled may take for it before its process is ended.
GRACE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Said:
    """How far a task says it is."""

    events: int
    bytes: int
    percent: int


@dataclass(slots=True)
class Task:
    """What is at work in a slot; `work` is the folder through which it is watched and told to stop."""

    row: ExportRow
    stage: Literal["making", "sending"]
    future: Future[Any]
    work: Path
    told: Said | None = None
    cancelled_at: float | None = None  # monotonic

    def progress(self) -> Said | None:
        """What is new since the last call; None where nothing is."""
        try:
            found = json.loads((self.work / PROGRESS).read_bytes())
            said = Said(int(found["events"]), int(found["bytes"]), int(found["percent"]))
        except (OSError, ValueError, KeyError, TypeError):  # not written yet, or gone with its folder just now
            return None
        if said == self.told:
            return None
        self.told = said
        return said

    def ask_to_stop(self) -> None:
        """Have the task end by itself."""
        if self.cancelled_at is None:
            self.cancelled_at = clock.monotonic()
            try:
                (self.work / CANCEL).touch()
            except OSError:  # it has ended, and its folder is gone
                return

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or has had its time for that."""
        asked = self.cancelled_at
        return self.future.done() or (asked is not None and clock.monotonic() - asked >= GRACE_SECONDS)


class Slot:
    """Runs one task at a time in its process, which is made when it is needed."""

    def __init__(self, make_executor: Callable[[], Executor]) -> None:
        self._make = make_executor
        self._executor: Executor | None = None
        self._idle_since = clock.monotonic()
        self.task: Task | None = None

    def begin(
        self, row: ExportRow, stage: Literal["making", "sending"], work: Path, do: Callable[[Any], Any], spec: object
    ) -> None:
        """Start the task `do(spec)`."""
        if self._executor is None:
            self._executor = self._make()
        try:
            future = self._executor.submit(do, spec)
        except BrokenExecutor:  # its process died while it had nothing to do
            self.end()
            self._executor = self._make()
            future = self._executor.submit(do, spec)
        self.task = Task(row, stage, future, work)

    def free(self) -> None:
        """The task is over; a process that is still at it, or broken, is ended."""
        task, self.task = self.task, None
        self._idle_since = clock.monotonic()
        if task is not None and (not task.future.done() or task.future.cancelled() or task.future.exception()):
            self.end()

    def end(self) -> None:
        """End the process, whatever it is doing."""
        if self._executor is not None:
            end_executor(self._executor)
            self._executor = None

    @property
    def is_rested(self) -> bool:
        """Whether the slot has had nothing to do for long enough to do without its process."""
        return self.task is None and clock.monotonic() - self._idle_since >= IDLE_SECONDS
