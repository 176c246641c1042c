"""Tries whether folders can be written to, by writing: permissions say nothing of mounts and full disks."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from eventferry.cli.wording import size

if TYPE_CHECKING:
    from eventferry.cli.check import Steps

LITTLE_SPACE = 1024**3


def fault_of_writing(folder: Path) -> str:
    """Write a small file there and remove it, with folders that had to be made; why that failed, "" if it went well."""
    made: list[Path] = []
    try:
        for each in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
            each.mkdir(mode=0o700)
            made.append(each)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".check-") as file:
            file.write(b"eventferry check\n")
            file.flush()
            os.fsync(file.fileno())  # some disks only say then that they are full
    except OSError as error:
        return os.strerror(error.errno).lower() if error.errno else str(error)
    finally:
        for each in reversed(made):
            with contextlib.suppress(OSError):  # somebody has begun to use it
                each.rmdir()
    return ""


def free_bytes(folder: Path) -> int:
    """What is free where the folder is, or will be."""
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free


def check_folder(label: str, folder: Path, more: str, steps: "Steps") -> bool:
    """Tell whether a folder can be written to, with `more`, and how much is free there; the former."""
    if fault := fault_of_writing(folder):
        steps.bad(f"{label} {folder} cannot be written to: {fault}; give it to the service's user, or name another", 78)
        return False
    free = free_bytes(folder)
    if not free:
        steps.bad(f"{label} {folder} has no room: 0 bytes free; make some, a full disk stops everything")
        return False
    steps.ok(f"{label} {folder} can be written to, {size(free)} free{more}")
    if free < LITTLE_SPACE:
        steps.mind(f"{label} less than 1 GiB is free: a full disk stops everything")
    return True


def check_state(state: Path, steps: "Steps") -> bool:
    """Whether the state directory can be used; it is made where it does not exist."""
    if state.is_dir():
        return check_folder("state  ", state, "", steps)
    try:
        state.mkdir(parents=True, mode=0o700)  # the first run would; what lies in it can be tried now
    except OSError:
        steps.bad(f"state   {state} does not exist and cannot be made here: as root, `install -d -m 700 {state}`", 78)
        return False
    steps.ok(f"state   {state} is made")
    return True
