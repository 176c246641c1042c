"""A directory as a bucket: files are written aside, synced, and put into place whole."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventferry.sink.errors import SinkError, SinkMisconfigured, SinkUnavailable
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
from eventferry.sink.objects.base import Bucket, Stored
from eventferry.sink.objects.places import Place

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


class DirectoryBucket(Bucket):
    """Keys are paths below the directory. What is under its own name is whole, and survives a power cut."""

    conditional = True

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._root = Path(place.root)
        self.root = place.root
        self.identity = f"as the user with the id {os.geteuid()}"
        self._durable: set[Path] = set()

    def put(self, key: str, body: bytes) -> None:
        path = self._root / key
        attempt = self._write_aside(path, body)
        with self._explained(untouched=False):
            try:
                attempt.rename(path)
            except OSError:
                attempt.unlink(missing_ok=True)
                raise
            self._sync(path.parent)

    def put_if_absent(self, key: str, body: bytes) -> bool:
        path = self._root / key
        attempt = self._write_aside(path, body)
        with self._explained(untouched=False):
            try:
                created = _link(attempt, path)
            finally:
                attempt.unlink(missing_ok=True)
            self._sync(path.parent)
        return created

    def get(self, key: str) -> bytes | None:
        with self._explained(untouched=True):
            try:
                return (self._root / key).read_bytes()
            except FileNotFoundError:
                self._root.stat()  # where the disk is not mounted, nobody can tell
                return None

    def head(self, key: str) -> Stored | None:
        with self._explained(untouched=True):
            try:
                found = (self._root / key).stat()
            except FileNotFoundError:
                self._root.stat()
                return None
        return Stored(found.st_size, f"{found.st_ino}-{found.st_mtime_ns}")

    def delete(self, key: str) -> None:
        with self._explained(untouched=False):
            (self._root / key).unlink(missing_ok=True)

    def list(self, prefix: str) -> Iterator[str]:
        folder = self._root / prefix.rpartition("/")[0]
        with self._explained(untouched=True):
            self._root.stat()
            found = sorted(
                os.path.relpath(os.path.join(above, name), self._root)  # noqa: PTH118 - os.walk gives texts
                for above, _, names in os.walk(folder)
                for name in names
            )
        yield from (key for key in found if key.startswith(prefix) and not key.startswith(ATTEMPTS))

    def make(self) -> bool:
        """Create the last folder; never its parents, so that a disk that is not mounted stays one."""
        with self._explained(untouched=True):
            try:
                self._root.mkdir(mode=0o750)
            except FileExistsError:
                return False
        return True

    def prove(self) -> None:
        """Show that it can be written to, and remove what attempts of dead processes left."""
        attempts = self._root / ATTEMPTS
        with self._explained(untouched=True):
            try_out(attempts)

    def close(self) -> None:
        """Nothing is kept open."""

    def _write_aside(self, path: Path, body: bytes) -> Path:
        """A synced file with these bytes, and the folders of `path`."""
        with self._explained(untouched=True):
            self.deadline.remaining(self.root)
            attempts = self._root / ATTEMPTS
            make_folders(self._root, attempts)
            make_folders(self._root, path.parent)
            return write_aside(attempts, path.name, body)

    def _sync(self, folder: Path) -> None:
        """Make what was put into `folder` durable, and once in the life of this instance the folders above it."""
        sync_directory(folder)
        above = folder
        while above != self._root and above not in self._durable:
            self._durable.add(above)
            above = above.parent
            sync_directory(above)

    @contextmanager
    def _explained(self, *, untouched: bool) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._meaning(error, untouched=untouched) from error

    def _meaning(self, error: OSError, *, untouched: bool) -> SinkError:
        said = f"{error.filename or self._root}: {error.strerror}"
        if error.errno in FULL:
            return SinkUnavailable(f"{said}; {FULL[error.errno]}, free some space", untouched=untouched)
        if error.errno in FORBIDDEN:
            return SinkMisconfigured(
                f"{said}; eventferry must be allowed to write to {self._root}: give its user the directory, and"
                f" under systemd add a drop-in with ReadWritePaths={self._root}"
            )
        if error.errno in WRONG_PATH:
            return SinkMisconfigured(
                f"{said}; create the directory {self._root} (mkdir -p {self._root}), mount it, or set create = true"
            )
        return SinkUnavailable(said, untouched=untouched)


def _link(attempt: Path, path: Path) -> bool:
    """Give the file its name unless something has it; False where something has."""
    try:
        os.link(attempt, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # FAT and some network file systems know no second names.
        if path.exists():
            return False
        attempt.rename(path)
    return True
