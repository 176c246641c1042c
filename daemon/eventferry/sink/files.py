"""Files that are whole and durable, or not there: written aside, synced, and put into place by a rename."""

import errno
import os
import secrets
from pathlib import Path

ATTEMPTS = ".eventferry-attempts"  # where files grow until they are whole; on the same file system as their places
_DEAD_AFTER = 3600.0  # seconds; no attempt lives this long

# What the errors of a file system mean: space may come back; a person has to mend rights, or paths.
FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the quota is used up"}
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
WRONG_PATH = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EXDEV, errno.EISDIR)


def write_aside(attempts: Path, name: str, content: bytes) -> Path:
    """A synced file with this content in the folder `attempts`, under a name of its own. Raises OSError."""
    attempt = attempts / f"{name}-{secrets.token_hex(8)}"
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


def make_folders(root: Path, folder: Path) -> None:
    """Create what is missing between `root` and `folder`; never `root` itself."""
    if folder != root and not folder.is_dir():
        make_folders(root, folder.parent)
        folder.mkdir(exist_ok=True)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def try_out(attempts: Path) -> None:
    """Write a file into `attempts` and remove it, with what attempts of dead processes left. Raises OSError."""
    attempts.mkdir(exist_ok=True)
    probe = attempts / f"probe-{secrets.token_hex(8)}"
    os.close(_create(probe))
    moment = probe.stat().st_mtime
    probe.unlink()
    _sweep(attempts, moment - _DEAD_AFTER)


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def _sweep(attempts: Path, before: float) -> None:
    """Remove attempts last written before `before`, by the file system's own clock."""
    with os.scandir(attempts) as entries:
        for entry in entries:
            try:
                if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < before:
                    Path(entry.path).unlink()
            except FileNotFoundError:
                continue  # another instance swept it
