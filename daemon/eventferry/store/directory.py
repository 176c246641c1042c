"""A directory tree as a store: regular files under one root, in the byte order of their keys."""

import errno
import io
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eventferry.errors import ObjectChanged, ObjectGone, StoreError
from eventferry.store.base import StoreObject

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_BELOW = os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a FIFO that took a file's place must not hang the open.
_FILE = os.O_RDONLY | os.O_NONBLOCK | _BELOW
# No longer a file at that place: vanished, or a symlink or other thing stands there now.
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
# Made by mkfs at the root of a file system, readable by root only, never a place for events.
_NOT_EVENTS = "lost+found/"
# A listing holds a descriptor for each directory on its way down; what lies deeper is passed over and counted.
DEEPEST = 100


@dataclass(frozen=True, slots=True)
class _Window:
    """Which keys a listing wants."""

    start_after: str
    prefix: str

    def takes(self, key: str) -> bool:
        return key > self.start_after and key.startswith(self.prefix)

    def reaches_into(self, folder: str) -> bool:
        """Whether a key below `folder` (ends in `/`) can be wanted."""
        after = folder > self.start_after or self.start_after.startswith(folder)
        return after and (folder.startswith(self.prefix) or self.prefix.startswith(folder))


@dataclass(frozen=True, slots=True)
class _Level:
    """One directory on the way down: its descriptor, its key with a final `/`, its wanted names in order."""

    fd: int
    folder: str
    names: Iterator[str]


class DirectoryStore:
    """Regular files under a root. Symlinks are never followed, neither files nor directories.

    A listing holds the names of the directories on its current path, nothing else; a file is stat'ed when yielded.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would do I/O and pin a symlinked root
        self.root = self._path.as_uri()
        self.list_calls = 0
        self.skipped_names = 0

    def list(self, start_after: str | None = None, prefix: str = "") -> Iterator[StoreObject]:
        """Objects in key order after `start_after`; whole directories before it or outside `prefix` are not scanned."""
        window = _Window(start_after or "", prefix)
        stack = [self._scan(self._open_root(), "", window)]
        try:
            while stack:
                level = stack[-1]
                name = next(level.names, None)
                if name is None:
                    os.close(stack.pop().fd)
                elif name.endswith("/") and len(stack) >= DEEPEST:
                    self.skipped_names += 1
                elif name.endswith("/"):
                    below = self._descend(level, name, window)
                    if below is not None:
                        stack.append(below)
                else:
                    found = self._look(level, name)
                    if found is not None:
                        yield found
        finally:
            for level in stack:
                os.close(level.fd)

    def open(self, key: str, version: str) -> "PinnedFile":
        """The file at `key`, if it still is `version`."""
        fd = self._open_below(key)
        try:
            now = os.fstat(fd)
            if not stat.S_ISREG(now.st_mode):
                raise ObjectGone(f"{self._path / key}: is no longer a regular file")
            if version_of(now) != version:
                raise ObjectChanged(f"{self._path / key}: changed since it was listed")
            return PinnedFile(fd, version, str(self._path / key))
        except BaseException:
            os.close(fd)
            raise

    def check(self) -> tuple[str, ...]:
        """Prove that the root can be listed and the first file read."""
        os.close(self._open_root())
        opened = f"{self._path} is a directory that can be opened"
        first = next(self.list(), None)
        if first is None:
            return opened, f"{self._path} can be listed; it holds no files yet"
        reader = self.open(first.key, first.version)
        try:
            reader.read(1)
        finally:
            reader.close()
        return opened, f"{self._path} can be listed", f"{first.key} can be read"

    def close(self) -> None:
        """Nothing is held between calls."""

    def _open_root(self) -> int:
        try:
            return os.open(self._path, _DIRECTORY)
        except FileNotFoundError as error:
            raise StoreError(
                f"{self._path}: no such directory; create it or mend the source's url{_hidden(self._path)}"
            ) from error
        except NotADirectoryError as error:
            raise StoreError(f"{self._path}: is not a directory; a source's url names a directory") from error
        except OSError as error:
            raise _explain(error, self._path) from error

    def _scan(self, fd: int, folder: str, window: _Window) -> _Level:
        """Scan one directory; takes over `fd`."""
        self.list_calls += 1
        wanted: list[str] = []
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    name = _wanted_name(entry, folder, window)
                    if name is None:
                        continue
                    if not name.isascii() and not _is_utf8(name):
                        self.skipped_names += 1
                        continue
                    wanted.append(name)
        except OSError as error:
            os.close(fd)
            raise _explain(error, self._path / folder) from error
        except BaseException:
            os.close(fd)
            raise
        # With `/` after directories the order of names is the order of full keys; code points order as UTF-8 does.
        wanted.sort()
        return _Level(fd, folder, iter(wanted))

    def _descend(self, level: _Level, name: str, window: _Window) -> _Level | None:
        try:
            fd = os.open(name.rstrip("/"), os.O_DIRECTORY | os.O_RDONLY | _BELOW, dir_fd=level.fd)
        except OSError as error:
            if error.errno in _NOT_THERE or (not level.folder and name == _NOT_EVENTS):
                return None
            raise _explain(error, self._path / level.folder / name) from error
        return self._scan(fd, level.folder + name, window)

    def _look(self, level: _Level, name: str) -> StoreObject | None:
        try:
            found = os.stat(name, dir_fd=level.fd, follow_symlinks=False)
        except OSError as error:
            if error.errno in _NOT_THERE:
                return None
            raise _explain(error, self._path / level.folder / name) from error
        if not stat.S_ISREG(found.st_mode):
            return None
        return StoreObject(level.folder + name, version_of(found), found.st_size, found.st_mtime_ns // 1_000_000)

    def _open_below(self, key: str) -> int:
        """Open `key` component by component, so that no symlink on the way can lead out of the root."""
        parts = key.split("/")
        if "\0" in key or any(part in ("", ".", "..") for part in parts):
            raise StoreError(f"{key!r} is refused: a key has no empty, '.' or '..' parts and no NUL")
        fd = self._open_root()
        try:
            for part in parts[:-1]:
                above, fd = fd, os.open(part, os.O_DIRECTORY | os.O_RDONLY | _BELOW, dir_fd=fd)
                os.close(above)
            above, fd = fd, os.open(parts[-1], _FILE, dir_fd=fd)
            os.close(above)
        except OSError as error:
            os.close(fd)
            if error.errno in _NOT_THERE:
                raise ObjectGone(f"{self._path / key}: no longer there") from error
            raise _explain(error, self._path / key) from error
        return fd


class PinnedFile(io.RawIOBase):
    """A file open at one version; reading to its end proves that it did not change meanwhile."""

    _fd = -1  # whose it is: taken over once all of __init__ went well

    def __init__(self, fd: int, version: str, path: str) -> None:
        # Not through smart_open, which loads every installed cloud client: half a second for each worker process.
        self._file = os.fdopen(fd, "rb", closefd=False)
        self._version = version
        self._path = path
        self._fd = fd

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        try:
            data: bytes = self._file.read(size)
        except OSError as error:
            raise _explain(error, Path(self._path)) from error
        if not data and size:
            self.verify()
        return data

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def verify(self) -> None:
        """Raise ObjectChanged if the file was written to since it was listed."""
        if version_of(os.fstat(self._fd)) != self._version:
            raise ObjectChanged(f"{self._path}: changed while it was read")

    def close(self) -> None:
        if not self.closed:
            super().close()
            if self._fd >= 0:
                os.close(self._fd)


def version_of(found: os.stat_result) -> str:
    """The version of a local file: equal as long as nobody wrote to it or put another in its place."""
    return f"{found.st_ino}-{found.st_size}-{found.st_mtime_ns}"


def _wanted_name(entry: "os.DirEntry[str]", folder: str, window: _Window) -> str | None:
    if entry.is_dir(follow_symlinks=False):
        name = entry.name + "/"
        return name if window.reaches_into(folder + name) else None
    if entry.is_file(follow_symlinks=False) and window.takes(folder + entry.name):
        return entry.name
    return None


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # os.scandir shows undecodable bytes as lone surrogates
        return False
    return True


def _explain(error: OSError, path: Path) -> StoreError:
    if isinstance(error, PermissionError):
        return StoreError(
            f"{path}: permission denied; give the service's user read access (a group with r-x on the directories, "
            f"SupplementaryGroups= in the unit){_hidden(path)}"
        )
    return StoreError(f"{path}: {error.strerror or error}")


def _hidden(path: Path) -> str:
    """What to write in a drop-in where the unit's sandbox may be what hides `path`."""
    first = path.parts[1] if len(path.parts) > 1 else ""
    if first in ("home", "root"):
        setting = "ProtectHome=read-only"
    elif first in ("tmp",) or path.is_relative_to("/var/tmp"):  # noqa: S108 - a comparison
        setting = "PrivateTmp=no"
    else:
        setting = f"ReadOnlyPaths={path}"
    return f"; under systemd also allow it in a drop-in (systemctl edit eventferry): {setting}"
