"""What of an export's files is safe on the disk: a journal that the next attempt goes on from."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eventferry.exports.durable import sync_folder

_NAME = "journal.ndjson"


@dataclass(frozen=True, slots=True)
class MadeFile:
    """A finished file of an export."""

    name: str
    number: int
    events: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Reached:
    """How far the files are: segments of the plan that are done with, and the file that is not finished."""

    segments: int = 0
    events: int = 0  # in all files
    open_bytes: int = 0  # of the unfinished file, as stored; 0: there is none
    open_size: int = 0  # the same before compression
    open_events: int = 0


@dataclass(slots=True)
class Journal:
    """The finished files and the place that was reached. `what` names the export: another one's journal is void."""

    folder: Path
    what: str
    files: list[MadeFile] = field(default_factory=list)
    reached: Reached = field(default_factory=Reached)

    @staticmethod
    def open(folder: Path, what: str, files: Path) -> "Journal":
        """The journal of the folder as it was left; a new one where the files are not what it says.

        A line that was not wholly written counts as not there. Raises OSError.
        """
        journal = Journal(folder, what)
        path = folder / _NAME
        lines = _whole_lines(path)
        if lines and lines[0] == {"export": what}:
            for line in lines[1:]:
                if "file" in line:
                    journal.files.append(MadeFile(**line["file"]))
                journal.reached = Reached(**line["reached"])
            if journal._is_true_of(files):
                journal._cut(path)
                return journal
        journal = Journal(folder, what)
        journal._append({"export": what}, mode="wb")
        sync_folder(folder)
        return journal

    def note(self, reached: Reached, file: MadeFile | None = None) -> None:
        """Record what is safe: a place, or the file that was finished at it. Raises OSError."""
        line: dict[str, Any] = {"reached": asdict(reached)}
        if file is not None:
            line["file"] = asdict(file)
            self.files.append(file)
        self.reached = reached
        self._append(line)

    def _is_true_of(self, folder: Path) -> bool:
        """Whether the finished files are there, and enough of the one that is not finished."""
        finished = {each.name: each.bytes for each in self.files}
        try:
            sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
        except FileNotFoundError:
            return not finished and not self.reached.open_bytes
        others = [size for name, size in sizes.items() if name not in finished]
        is_open_there = not self.reached.open_bytes or max(others, default=0) >= self.reached.open_bytes
        return is_open_there and all(sizes.get(name) == size for name, size in finished.items())

    def _append(self, line: dict[str, Any], mode: str = "ab") -> None:
        with (self.folder / _NAME).open(mode) as out:
            out.write(json.dumps(line).encode() + b"\n")
            out.flush()
            os.fsync(out.fileno())

    def _cut(self, path: Path) -> None:
        """Remove what a kill left half written, so that the next line begins one."""
        data = path.read_bytes()
        end = data.rfind(b"\n") + 1
        if end < len(data):
            os.truncate(path, end)


def _whole_lines(path: Path) -> Sequence[dict[str, Any]]:
    try:
        data = path.read_bytes()
        return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]
    except (OSError, ValueError):
        return []
