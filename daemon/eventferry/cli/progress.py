"""Shows how far `once` has come: bars on a terminal, a line at the end of each step elsewhere."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from eventferry.cli import console
from eventferry.cli.wording import plural, size
from eventferry.ledger import Ledger, objects
from eventferry.pipeline.index import Indexed
from eventferry.pipeline.run import RunReport
from eventferry.pipeline.source import Source

if TYPE_CHECKING:
    from eventferry.pipeline.deliver import SinkWorker

Note = Callable[[Indexed], None]
NoteLeft = Callable[[Mapping[str, int]], None]


class Progress(Protocol):
    """What a pass tells about itself."""

    def indexing(
        self, ledger: Ledger, source: Source, workers: "Sequence[SinkWorker]"
    ) -> contextlib.AbstractContextManager[Note]: ...

    def indexed(self, source: str, report: RunReport) -> None: ...

    def delivering(self, sinks: Sequence[str]) -> contextlib.AbstractContextManager[NoteLeft]: ...


@contextlib.contextmanager
def make_progress() -> Iterator[Progress]:
    """Bars where somebody watches, plain lines where not."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn
    from rich.progress import Progress as Bars

    shown = Bars(
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
        console=console.console(err=True),
        transient=True,  # the summary says it again, better
        # A sink may write events to standard output: leave it alone.
        redirect_stdout=False,
    )
    with shown:
        yield _Bars(shown)


class Lines:
    """One line for each step, when it is done."""

    @contextlib.contextmanager
    def indexing(self, ledger: Ledger, source: Source, workers: "Sequence[SinkWorker]") -> Iterator[Note]:
        def note(totals: Indexed) -> None:
            for worker in workers:
                worker.wake()

        yield note

    def indexed(self, source: str, report: RunReport) -> None:
        said = _indexed(report.indexed)
        if said or report.error is None:  # nobody knows what is new where nothing could be listed
            console.say(f"{source}: {said or 'nothing new'}", err=True)

    @contextlib.contextmanager
    def delivering(self, sinks: Sequence[str]) -> Iterator[NoteLeft]:
        yield lambda left: None


class _Bars:
    def __init__(self, shown: Any) -> None:
        self._shown = shown
        self._tasks: dict[str, Any] = {}

    @contextlib.contextmanager
    def indexing(self, ledger: Ledger, source: Source, workers: "Sequence[SinkWorker]") -> Iterator[Note]:
        name = source.name
        if name not in self._tasks:
            self._tasks[name] = self._shown.add_task(console.clean(f"reading {name}"), total=None, note="looking …")
        task = self._tasks[name]

        def note(totals: Indexed) -> None:
            with ledger.read() as tx:
                left = objects.count_in_state(tx, source.id, "seen")
            done = totals.files + totals.quarantined
            self._shown.update(task, completed=done, total=done + left, note=f"files, {plural(totals.events, 'event')}")
            for worker in workers:
                worker.wake()

        yield note
        done = self._shown.tasks[task].completed
        self._shown.update(task, completed=done or 1, total=done or 1)

    def indexed(self, source: str, report: RunReport) -> None:
        """The summary says it."""

    @contextlib.contextmanager
    def delivering(self, sinks: Sequence[str]) -> Iterator[NoteLeft]:
        tasks = {name: self._shown.add_task(console.clean(f"to {name}"), total=None, note="events") for name in sinks}
        most: dict[str, int] = {}

        def note(left: Mapping[str, int]) -> None:
            for name, events in left.items():
                most[name] = max(most.get(name, 0), events)
                self._shown.update(tasks[name], total=most[name] or 1, completed=(most[name] - events) or 1)

        yield note


def _indexed(totals: Indexed) -> str:
    """What came in; empty where nothing did."""
    if not (totals.files or totals.quarantined or totals.postponed):
        return ""
    text = f"{plural(totals.files, 'file')}, {plural(totals.events, 'event')}, {size(totals.bytes)}"
    if totals.bad:
        text += f", {plural(totals.bad, 'bad line')}"
    if totals.quarantined:
        text += f", {plural(totals.quarantined, 'file')} quarantined"
    if totals.postponed:
        text += f", {plural(totals.postponed, 'file')} not readable yet"
    return text
