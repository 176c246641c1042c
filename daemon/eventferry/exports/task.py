"""Makes one export, as a task of a process of its own: a plan in, finished files out, all that is known in the folder.

The task works in `<folder>/.work-<id>/`, where the plan lies, and its last step is to rename the files' folder to
`<folder>/<id>/`: until then nobody can see any of it. A task that was killed is begun anew with the same spec and goes
on from what is safe; its files come out the same, byte for byte.
"""

import errno
import gc
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from eventferry.errors import ConfigError, EventferryError, StoreError, UnreadableObject
from eventferry.exports.columns import Column, columns_of, needs_survey
from eventferry.exports.durable import sync_folder
from eventferry.exports.formats.parquet import ParquetMissing
from eventferry.exports.journal import Journal, MadeFile
from eventferry.exports.latest import latest
from eventferry.exports.model import Output, Selection
from eventferry.exports.parts import Parts
from eventferry.exports.planned import Planned, PlanTotals, read_plan, totals_of
from eventferry.exports.progress import Progress, Stopped
from eventferry.exports.reading import Missing, read
from eventferry.exports.scan_cache import ScanCache, key_of
from eventferry.exports.sources import Readable
from eventferry.exports.survey import Survey
from eventferry.exports.surveying import survey
from eventferry.exports.surveyor import Surveyor

WORK = ".work-"
PLAN = "plan.ndjson"
MANIFEST = "manifest.json"
_FILES = "files"
_SURVEY = "survey.json"


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """All that the task needs; picklable. The plan lies in the work folder as PLAN."""

    export_id: str
    folder: Path  # of all exports
    sources: tuple[Readable, ...]
    selection: Selection
    output: Output
    as_of: int = 0
    max_bytes: int | None = None  # of all files together
    cache: Path | None = None  # where surveys are kept

    @property
    def work(self) -> Path:
        """Where the export is made."""
        return self.folder / f"{WORK}{self.export_id}"

    @property
    def finished(self) -> Path:
        """Where its files are once all are there."""
        return self.folder / self.export_id


@dataclass(frozen=True, slots=True)
class Made:
    """The files are in the export's folder."""

    files: tuple[MadeFile, ...]
    events: int
    bytes: int
    columns: tuple[Column, ...] = ()


@dataclass(frozen=True, slots=True)
class Cancelled:
    """It was asked to stop, and left nothing."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there are no files, in a sentence for the requester: store, missing, limit, disk, disk_full, bucket.

    `retryable`: the same may succeed later, with a new plan where that is gone from the work folder. `detail`: the
    same for the operator, with paths and keys of files, which a requester is not to see.
    """

    kind: str
    sentence: str
    retryable: bool = False
    detail: str | None = None


class TooManyEvents(EventferryError):
    """More events are selected than the export may hold."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"more than {limit:,} events are selected, the most that this export may hold; choose a shorter time range "
            "or a filter"
        )


def run_export(spec: TaskSpec) -> Made | Cancelled | Failure:
    """Make the export, or say why not; nothing is raised but what is a mistake of this program."""
    try:
        with _few_collections():
            return _recorded(spec) or _make(spec)
    except Stopped:
        result: Cancelled | Failure = Cancelled()
    except Missing as error:
        with suppress(OSError):
            (spec.work / PLAN).unlink()  # a new one may know a version of the file that has its bytes
        result = Failure("missing", error.sentence, retryable=not error.is_final, detail=str(error))
    except StoreError as error:  # what is safe stays for the next attempt
        return Failure("store", "the store of the events cannot be read now", retryable=True, detail=str(error))
    except (ConfigError, UnreadableObject) as error:
        result = Failure("store", "the store of the events cannot be read as it is set up", detail=str(error))
    except ParquetMissing as error:
        result = Failure("limit", error.sentence, detail=str(error))
    except EventferryError as error:
        result = Failure("limit", str(error))
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        sentence = "there is no room for its files" if is_full else "its files cannot be written now"
        detail = f"{spec.folder}: {error.strerror or error}"
        result = Failure("disk_full" if is_full else "disk", sentence, retryable=True, detail=detail)
    shutil.rmtree(spec.work / _FILES, ignore_errors=True)
    return result


def _make(spec: TaskSpec) -> Made:
    plan = spec.work / PLAN
    totals = totals_of(read_plan(plan))
    _refuse_too_many(spec, totals.whole_events if spec.output.latest is None else 0)
    if spec.output.latest is not None:
        return _make_latest(spec, totals)
    surveys = needs_survey(spec.output)
    progress = Progress(spec.work, totals.bytes * (2 if surveys else 1))
    columns = columns_of(spec.output, _survey(spec, totals, progress) if surveys else None)
    journal = Journal.open(spec.work, _identity(spec), spec.work / _FILES)
    parts = Parts(spec.work / _FILES, spec.output, columns, journal, spec.max_bytes)
    remaining = _remaining(plan, journal.reached.segments, progress)
    with closing(parts), closing(read(remaining, _sources(spec), spec.selection)) as found:
        for selected in found:
            parts.feed(selected.body, selected.events, selected.planned.size)
            _refuse_too_many(spec, parts.events)
            progress.add(selected.planned.size)
            progress.tell(parts.events, parts.stored)
        return _publish(spec, parts, columns, progress)


def _make_latest(spec: TaskSpec, totals: PlanTotals) -> Made:
    """The newest events fit into memory; a killed attempt leaves nothing to go on from."""
    assert spec.output.latest is not None
    progress = Progress(spec.work, totals.bytes)

    def plan() -> Iterator[Planned]:
        return read_plan(spec.work / PLAN)

    bodies = list(latest(plan, _sources(spec), spec.selection, spec.output.latest, progress.add))
    surveyor = Surveyor()
    for body in bodies if needs_survey(spec.output) else ():
        surveyor.add(body)
    _refuse_too_many(spec, sum(body.count(b"\n") for body in bodies))
    columns = columns_of(spec.output, surveyor.survey)
    shutil.rmtree(spec.work / _FILES, ignore_errors=True)
    journal = Journal.open(spec.work, _identity(spec), spec.work / _FILES)
    with closing(Parts(spec.work / _FILES, spec.output, columns, journal, spec.max_bytes)) as parts:
        for body in bodies:
            parts.feed(body, body.count(b"\n"), 0)
            progress.add(0)
        return _publish(spec, parts, columns, progress)


def _remaining(plan: Path, done: int, progress: Progress) -> Iterator[Planned]:
    """The plan without the segments that are done with."""
    planned = read_plan(plan)
    for each in islice(planned, done):
        progress.add(each.size)
    yield from planned


def _survey(spec: TaskSpec, totals: PlanTotals, progress: Progress) -> Survey:
    """The survey of the whole selection, made once per export."""
    path = spec.work / _SURVEY
    try:
        found = Survey.from_data(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError):
        cache = None if spec.cache is None else ScanCache(spec.cache)

        def note(read_bytes: int) -> None:
            progress.add(read_bytes)
            progress.tell(0, 0)

        found = survey(read_plan(spec.work / PLAN), _sources(spec), spec.selection, cache, note)
        _write(path, found.to_data())
    else:
        progress.add(totals.bytes)
    return found


def _publish(spec: TaskSpec, parts: Parts, columns: tuple[Column, ...], progress: Progress) -> Made:
    """Finish the files, describe them, and let them appear, all at once."""
    files = tuple(parts.end())
    made = Made(files, sum(each.events for each in files), sum(each.bytes for each in files), columns)
    folder = spec.work / _FILES
    _write(folder / MANIFEST, _manifest(spec, made))
    progress.add(0)
    folder.rename(spec.finished)
    sync_folder(spec.folder)
    progress.tell(made.events, made.bytes, is_over=True)
    return made


def _manifest(spec: TaskSpec, made: Made) -> dict[str, Any]:
    """What the files hold; the same export made twice has the same one."""
    return {
        "format": spec.output.format,
        "compression": spec.output.compression,
        "events": made.events,
        "bytes": made.bytes,
        "files": [asdict(each) for each in made.files],
        "columns": [{"path": list(each.path), **each.to_data()} for each in made.columns],
        "selection": spec.selection.to_data(),
        "sources": sorted(each.name for each in spec.sources),
        "as_of": spec.as_of,
    }


def _recorded(spec: TaskSpec) -> Made | None:
    """What an attempt made that was killed after its last step; None where there is none."""
    try:
        found = json.loads((spec.finished / MANIFEST).read_bytes())
    except FileNotFoundError:
        return None
    columns = tuple(Column(tuple(each["path"]), each["type"]) for each in found["columns"])
    return Made(tuple(MadeFile(**each) for each in found["files"]), found["events"], found["bytes"], columns)


def _refuse_too_many(spec: TaskSpec, events: int) -> None:
    if spec.output.max_events is not None and events > spec.output.max_events:
        raise TooManyEvents(spec.output.max_events)


def _sources(spec: TaskSpec) -> dict[int, Readable]:
    return {each.id: each for each in spec.sources}


def _identity(spec: TaskSpec) -> str:
    return key_of(spec.export_id, spec.selection.to_data(), spec.output.to_data(), spec.as_of)


def _write(path: Path, data: Any) -> None:
    """Write JSON, whole or not at all, and durably."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w") as out:
        json.dump(data, out, indent=2)
        out.write("\n")
        out.flush()
        os.fsync(out.fileno())
    part.rename(path)
    sync_folder(path.parent)


@contextmanager
def _few_collections() -> Iterator[None]:
    """Collect garbage rarely: millions of short-lived tuples are no cycles."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
