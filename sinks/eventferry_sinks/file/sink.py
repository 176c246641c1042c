"""Writes each batch as one NDJSON file, whole or not at all."""

import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator

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
from eventferry.sink.options import check_absolute, utc_day
from eventferry_sinks.file.compression import SUFFIXES, compress

ATTEMPTS = ".eventferry-attempts"  # where files grow until they are whole; beside the days, so that a rename is atomic
_DEAD_AFTER = 3600.0  # seconds; no attempt lives this long

_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the quota is used up"}
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_WRONG_PATH = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EXDEV, errno.EISDIR)


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
            attempts.mkdir(exist_ok=True)
            probe = attempts / f"probe-{secrets.token_hex(8)}"
            os.close(_create(probe))
            moment = probe.stat().st_mtime
            probe.unlink()
            _sweep(attempts, moment - _DEAD_AFTER)
        except OSError as error:
            raise self._meaning(error, untouched=True) from error

    def deliver(self, batch: Batch) -> None:
        try:
            done = self._existing(batch)
            if done is not None:
                self._sync_folders(done.parent)  # the attempt that renamed it may have died before it was durable
                _sync_directory(done.parent)
                return
            content = compress(batch.body, self.options.compression)
            path = self.options.path / _day(batch) / (batch.id + SUFFIXES[self.options.compression])
            _make_folders(self.options.path, path.parent)
            attempt = self._write_aside(batch, content)
        except OSError as error:
            raise self._meaning(error, untouched=True) from error
        try:
            attempt.rename(path)
            _sync_directory(path.parent)
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
            _sync_directory(above)
        self._durable = {folder, *list(self._durable)[:999]}

    def _write_aside(self, batch: Batch, content: bytes) -> Path:
        attempt = self.options.path / ATTEMPTS / f"{batch.id}-{secrets.token_hex(8)}"
        descriptor = _create(attempt)
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        except BaseException:
            attempt.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        return attempt

    def _meaning(self, error: OSError, *, untouched: bool) -> SinkError:
        said = f"{error.filename or self.options.path}: {error.strerror}"
        if error.errno in _FULL:
            return SinkUnavailable(f"{said}; {_FULL[error.errno]}, free some space", untouched=untouched)
        if error.errno in _FORBIDDEN:
            return SinkMisconfigured(
                f"{said}; eventferry must be allowed to write to {self.options.path}: give its user the directory, and"
                f" under systemd add a drop-in with ReadWritePaths={self.options.path}"
            )
        if error.errno in _WRONG_PATH:
            return SinkMisconfigured(f"{said}; create the directory {self.options.path}, or mount it")
        return SinkUnavailable(said, untouched=untouched and error.errno in _EXHAUSTED)


def _day(batch: Batch) -> str:
    return utc_day(batch.time_min, "%Y/%m/%d") or "undated"


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def _make_folders(root: Path, folder: Path) -> None:
    """Create what is missing between `root` and `folder`; never `root` itself."""
    if folder != root and not folder.is_dir():
        _make_folders(root, folder.parent)
        folder.mkdir(exist_ok=True)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(attempts: Path, before: float) -> None:
    """Remove attempts last written before `before`, by the file system's own clock."""
    with os.scandir(attempts) as entries:
        for entry in entries:
            try:
                if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < before:
                    Path(entry.path).unlink()
            except FileNotFoundError:
                continue  # another instance swept it
