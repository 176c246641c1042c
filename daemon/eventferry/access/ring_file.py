"""The file keyring.json: read with suspicion, made once whoever comes first, replaced as a whole."""

import contextlib
import fcntl
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eventferry import clock
from eventferry.errors import EventferryError

KEPT_MS = 30 * 86_400_000  # how long an older secret is known after the next one was made
_LARGEST = 64 * 1024


class KeyringError(EventferryError):
    """The keyring cannot be used, or what it should open was not made with it."""

    exit_code = 78


@dataclass(frozen=True, slots=True)
class RingKey:
    """One secret of the ring, with the id under which it is known."""

    id: str  # 8 hexadecimal digits
    secret: bytes = field(repr=False)  # 32 bytes
    created_ms: int


def file_mark(path: Path) -> object:
    """Something that changes when the file is replaced; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def read_or_make(path: Path, make: Callable[[], RingKey]) -> tuple[object, tuple[RingKey, ...]]:
    """Mark and keys of the file, newest first; where there is no file, it is made. Raises KeyringError."""
    with contextlib.suppress(FileNotFoundError):
        return _read(path)
    with _alone(path):
        with contextlib.suppress(FileNotFoundError):  # another process was quicker
            return _read(path)
        _write(path, (make(),))
        return _read(path)


def add_key(path: Path, new: RingKey, *, forget: bool) -> None:
    """Put a key first; those go whose successor is older than 30 days, or all with `forget`. Raises KeyringError."""
    with _alone(path):
        kept: tuple[RingKey, ...] = ()
        if not forget:
            with contextlib.suppress(FileNotFoundError):
                kept = _read(path)[1]
        limit = clock.now_ms() - KEPT_MS
        after = (new, *kept)
        _write(path, (new, *(key for key, next_one in zip(kept, after, strict=False) if next_one.created_ms > limit)))


def _read(path: Path) -> tuple[object, tuple[RingKey, ...]]:
    """Raises FileNotFoundError, KeyringError."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            _distrust(path, found)
            data = json.loads(file.read(_LARGEST))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise KeyringError(
            f"keyring {path}: {error.strerror}; it belongs to the user that the service runs as"
        ) from error
    except (ValueError, RecursionError):
        raise _damaged(path) from None
    return (found.st_ino, found.st_mtime_ns, found.st_size), _keys_of(data, path)


def _distrust(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise KeyringError(f"keyring {path} is not a file; move it away, and a new one is made")
    if found.st_mode & 0o077:
        raise KeyringError(
            f"keyring {path} can be read or changed by other users (mode {stat.S_IMODE(found.st_mode):o}); "
            "chmod 600 it, then `eventferry keys rotate-signing --forget`, in case somebody has read it"
        )
    if os.geteuid() != 0 and found.st_uid != os.geteuid():
        raise KeyringError(f"keyring {path} belongs to another user; chown it to the user that the service runs as")


def _keys_of(data: Any, path: Path) -> tuple[RingKey, ...]:
    try:
        keys = tuple(
            RingKey(each["id"], bytes.fromhex(each["secret"]), int(each["created_ms"])) for each in data["keys"]
        )
    except (TypeError, KeyError, ValueError):
        raise _damaged(path) from None
    if not keys or any(not isinstance(key.id, str) or len(key.id) != 8 or len(key.secret) != 32 for key in keys):
        raise _damaged(path)
    return keys


def _damaged(path: Path) -> KeyringError:
    return KeyringError(
        f"keyring {path} is damaged; restore it from a backup, or remove it: then a new one is made, signed links end, "
        "and exports to a requester's own store that still wait fail"
    )


def _write(path: Path, keys: tuple[RingKey, ...]) -> None:
    """Replace the file by a whole one, durably."""
    data = {"keys": [{"id": key.id, "secret": key.secret.hex(), "created_ms": key.created_ms} for key in keys]}
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(data, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise KeyringError(f"keyring {path} cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Only one process at a time makes or changes the file. Raises KeyringError."""
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise KeyringError(f"state directory {path.parent}: {error.strerror}; start with `eventferry run`") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
        os.fsync(folder)
    finally:
        os.close(folder)
