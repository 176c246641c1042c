"""The folders of exports on the disk, and how they vanish without anybody ever seeing half of one.

`<id>/` holds the files of a finished export, `.work-<id>/` those of one at work, `.gone-…` what is being removed.
"""

import contextlib
import errno
import shutil
import uuid
from collections.abc import Collection
from pathlib import Path

WORK = ".work-"
_GONE = ".gone-"


def remove(folder: Path, name: str) -> bool:
    """Remove the folder of that name below `folder`: out of sight at once, then file by file. Whether it was there.

    Whoever reads a file of it reads on to its end. Raises OSError where it cannot be moved away.
    """
    away = _put_away(folder, name)
    if away is None:
        return False
    shutil.rmtree(away, ignore_errors=True)
    return True


def remove_all(folder: Path, export_id: str) -> None:
    """Remove the finished and the unfinished files of an export. Raises OSError."""
    for name in (export_id, f"{WORK}{export_id}"):
        remove(folder, name)


def sweep(folder: Path, keep: Collection[str]) -> int:
    """Put the folders of all other exports out of sight; returns how many. What is not named by an id stays.

    Those that are kept may have finished and unfinished files. Nothing may begin meanwhile.
    """
    count = 0
    with contextlib.suppress(FileNotFoundError):  # nothing was exported yet
        for path in list(folder.iterdir()):
            export_id = path.name.removeprefix(WORK)
            if export_id not in keep and _is_id(export_id):
                count += _put_away(folder, path.name) is not None
    return count


def clear(folder: Path) -> None:
    """Remove for good what was put out of sight, also by a process that was killed at it."""
    with contextlib.suppress(FileNotFoundError):
        for path in list(folder.iterdir()):
            if path.name.startswith(_GONE):
                shutil.rmtree(path, ignore_errors=True)


def is_full(error: OSError) -> bool:
    """Whether the disk, or what one may use of it, was full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _put_away(folder: Path, name: str) -> Path | None:
    away = folder / f"{_GONE}{name.lstrip('.')}-{uuid.uuid4().hex[:8]}"
    try:
        return (folder / name).rename(away)
    except FileNotFoundError:
        return None


def _is_id(name: str) -> bool:
    try:
        return str(uuid.UUID(name)) == name
    except ValueError:
        return False
