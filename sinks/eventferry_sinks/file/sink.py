"""Writes each batch as one NDJSON file, whole or not at all."""

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from eventferry.sink import (
    Batch,
    BatchLimits,
    Guarantee,
    Sink,
    SinkError,
    SinkMisconfigured,
    SinkOptions,
    SinkUnavailable,
)
from eventferry.sink.files import (
    ATTEMPTS,
    FORBIDDEN,
    FULL,
    WRONG_PATH,
    make_folders,
    sync_directory,
    try_out,
    write_aside,
)
from eventferry.sink.options import File, utc_day
from eventferry_sinks.file.compression import SUFFIXES, compress

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR)


class FileOptions(SinkOptions):
    """Where the files go and how they are packed."""

    path: File
    compression: Literal["none", "gzip", "zstd"] = "none"
    create: bool = True  # the last folder of `path`; false keeps an unmounted disk from being filled at its mount point


class FileSink(Sink[FileOptions]):
    """Files `YYYY/MM/DD/<batch id>.ndjson` under a directory: written aside, synced, renamed into place.

    The name comes from the batch alone, so a repeat finds its own file; it is the proof of an earlier attempt.
    """

    Options = FileOptions
    guarantee = Guarantee.EFFECTIVELY_ONCE
    proved_against = "a local file system"
    max_concurrency = 4
    limits = BatchLimits(max_events=50_000, max_bytes=8 * 1024 * 1024)

    _durable: frozenset[Path] | set[Path] = frozenset()

    def open(self) -> None:
        """Prove that the directory can be written to, and remove what attempts of dead processes left."""
        attempts = self.options.path / ATTEMPTS
        try:
            if self.options.create:
                self.options.path.mkdir(mode=0o750, exist_ok=True)  # never its parents: a typing error stays one
            try_out(attempts)
        except OSError as error:
            raise self._meaning(error, untouched=True) from error

    def deliver(self, batch: Batch) -> None:
        try:
            done = self._existing(batch)
            if done is not None:
                self._sync_folders(done.parent)  # the attempt that renamed it may have died before it was durable
                sync_directory(done.parent)
                return
            content = compress(batch.body, self.options.compression)
            path = self.options.path / _day(batch) / (batch.id + SUFFIXES[self.options.compression])
            make_folders(self.options.path, path.parent)
            attempt = write_aside(self.options.path / ATTEMPTS, batch.id, content)
        except OSError as error:
            raise self._meaning(error, untouched=True) from error
        try:
            attempt.rename(path)
            sync_directory(path.parent)
            self._sync_folders(path.parent)
        except OSError as error:
            attempt.unlink(missing_ok=True)
            raise self._meaning(error, untouched=False) from error

    def was_delivered(self, batch: Batch) -> bool | None:
        try:
            if self._existing(batch) is not None:
                return True
            (self.options.path / ATTEMPTS).stat()  # where the disk is not mounted, nobody can tell
        except OSError as error:
            raise self._meaning(error, untouched=True) from error
        return False

    def check(self) -> Iterator[str]:
        yield f"{self.options.path} takes files of this user (one was tried, and removed)"  # by open

    def _existing(self, batch: Batch) -> Path | None:
        folder = self.options.path / _day(batch)
        # Under every suffix: a changed `compression` must not deliver a batch twice.
        names = (folder / (batch.id + suffix) for suffix in SUFFIXES.values())
        return next((path for path in names if path.exists()), None)

    def _sync_folders(self, folder: Path) -> None:
        """Make the folders above `folder` durable once in the life of this instance, whoever created them."""
        if folder in self._durable:
            return
        above = folder
        while above != self.options.path:
            above = above.parent
            sync_directory(above)
        self._durable = {folder, *list(self._durable)[:999]}

    def _meaning(self, error: OSError, *, untouched: bool) -> SinkError:
        said = f"{error.filename or self.options.path}: {error.strerror}"
        if error.errno in FULL:
            return SinkUnavailable(f"{said}; {FULL[error.errno]}, free some space", untouched=untouched)
        if error.errno in FORBIDDEN:
            return SinkMisconfigured(
                f"{said}; eventferry must be allowed to write to {self.options.path}: give its user the directory, and"
                f" under systemd add a drop-in with ReadWritePaths={self.options.path}"
            )
        if error.errno in WRONG_PATH:
            return SinkMisconfigured(f"{said}; create the directory {self.options.path}, or mount it")
        return SinkUnavailable(said, untouched=untouched and error.errno in _EXHAUSTED)


def _day(batch: Batch) -> str:
    return utc_day(batch.time_min, "%Y/%m/%d") or "undated"
