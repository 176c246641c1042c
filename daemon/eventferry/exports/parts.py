"""Writes the files of an export, one after another; what a killed attempt left safe is gone on with."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from eventferry.errors import EventferryError
from eventferry.exports.columns import Column
from eventferry.exports.durable import sync_folder
from eventferry.exports.formats import Encoder, can_resume, extension_of, make_encoder
from eventferry.exports.formats.lines import JsonArray
from eventferry.exports.formats.members import Compressor, make_compressor
from eventferry.exports.journal import Journal, MadeFile, Reached
from eventferry.exports.model import Output

# A place to go on from is recorded about so often.
_READ = 128 * 1024 * 1024
_WRITTEN = 32 * 1024 * 1024
_HASHED = 1024 * 1024


class TooManyBytes(EventferryError):
    """The files of one export are larger than allowed."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"the files come to more than {limit:,} bytes, the max_size of one export; choose a shorter time range or "
            "a filter"
        )


class Parts:
    """The files of one output. The same bodies in the same order give the same files, interrupted or not."""

    def __init__(
        self, folder: Path, output: Output, columns: Sequence[Column], journal: Journal, max_bytes: int | None = None
    ) -> None:
        self._folder = folder
        self._output = output
        self._columns = columns
        self._journal = journal
        self._max_bytes = max_bytes
        self._open: _Part | None = None
        self._segments = journal.reached.segments
        self._read = self._written = 0  # since the last recorded place
        self.events = journal.reached.events
        self._restore()

    @property
    def stored(self) -> int:
        """Bytes of all files so far."""
        return sum(each.bytes for each in self._journal.files) + (self._open.bytes if self._open else 0)

    def feed(self, body: bytes, events: int, read: int) -> None:
        """Write what is selected of the next segment, `read` raw bytes of it. Raises OSError, TooManyBytes."""
        self._segments += 1
        self._read += read
        if body:
            part = self._open or self._begin()
            self._written += part.feed(body, events)
            self.events += events
            self._refuse_too_many()
            if self._output.part_bytes is not None and part.size >= self._output.part_bytes:
                self._finish(part)
        if self._read >= _READ or self._written >= _WRITTEN:
            self._record()

    def end(self) -> list[MadeFile]:
        """Finish the last file; where nothing was selected there is one without events."""
        if self._open is not None or not self._journal.files:
            self._finish(self._open or self._begin())
        self._refuse_too_many()
        return self._journal.files

    def close(self) -> None:
        """Let go of the file that is not finished."""
        if self._open is not None:
            self._open.file.close()

    def _refuse_too_many(self) -> None:
        if self._max_bytes is not None and self.stored > self._max_bytes:
            raise TooManyBytes(self._max_bytes)

    def _name(self, number: int) -> str:
        base = "data" if self._output.part_bytes is None else f"part-{number:05}"
        return base + extension_of(self._output)

    def _begin(self) -> "_Part":
        self._open = _Part(self._folder / self._name(len(self._journal.files) + 1), self._output, self._columns)
        self._open.begin()
        return self._open

    def _finish(self, part: "_Part") -> None:
        """Close the file and record it: from here on it is kept."""
        part.end()
        sync_folder(self._folder)
        number, self._open = len(self._journal.files) + 1, None
        made = MadeFile(part.path.name, number, part.events, part.bytes, part.digest.hexdigest())
        self._journal.note(Reached(self._segments, self.events), made)
        self._read = self._written = 0

    def _record(self) -> None:
        """Record the place where this is, if the open file can be gone on with from here."""
        part = self._open
        if part is None:
            self._journal.note(Reached(self._segments, self.events))
        elif can_resume(self._output) and part.compressor.is_between:
            part.sync()
            sync_folder(self._folder)
            self._journal.note(Reached(self._segments, self.events, part.bytes, part.size, part.events))
        else:
            return
        self._read = self._written = 0

    def _restore(self) -> None:
        """Bring the folder to the recorded place."""
        reached, keep = self._journal.reached, {each.name for each in self._journal.files}
        self._folder.mkdir(exist_ok=True, mode=0o700)
        if reached.open_bytes:
            path = self._folder / self._name(len(self._journal.files) + 1)
            keep.add(path.name)
            self._open = _Part(path, self._output, self._columns)
            self._open.go_on(reached)
        for path in self._folder.iterdir():
            if path.name not in keep:
                path.unlink()


class _Part:
    """One file at work."""

    file: BinaryIO

    def __init__(self, path: Path, output: Output, columns: Sequence[Column]) -> None:
        self.path = path
        self.encoder: Encoder = make_encoder(output, columns)
        self.compressor: Compressor = make_compressor("none" if output.format == "parquet" else output.compression)
        self.digest = hashlib.sha256()
        self.bytes = self.size = self.events = 0
        self._counts_bodies = output.format == "parquet"  # which holds its rows back

    def begin(self) -> None:
        self.file = self.path.open("wb")
        self._write(self.encoder.begin())

    def go_on(self, reached: Reached) -> None:
        """Open the file where it is safe, and forget what follows."""
        self.encoder.begin()
        if isinstance(self.encoder, JsonArray):
            self.encoder.is_empty = not reached.open_events
        self.compressor.go_on()
        self.file = self.path.open("r+b")
        os.truncate(self.file.fileno(), reached.open_bytes)
        while data := self.file.read(_HASHED):
            self.digest.update(data)
        self.bytes, self.size, self.events = reached.open_bytes, reached.open_size, reached.open_events

    def feed(self, body: bytes, events: int) -> int:
        """Returns how many bytes went into the file."""
        data = self.encoder.feed(body)
        if self._counts_bodies:
            self.size += len(body)
        self.events += events
        return self._write(data)

    def end(self) -> None:
        self._write(self.encoder.end())
        self._store(self.compressor.end())
        self.sync()
        self.file.close()

    def sync(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())

    def _write(self, data: bytes) -> int:
        if not self._counts_bodies:
            self.size += len(data)
        return self._store(self.compressor.feed(data))

    def _store(self, data: bytes) -> int:
        self.file.write(data)
        self.digest.update(data)
        self.bytes += len(data)
        return len(data)
