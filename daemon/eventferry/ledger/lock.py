"""The lock on the state directory: one daemon per ledger."""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventferry.errors import LedgerBusyError


@contextmanager
def own_state(state_dir: Path, *, wait: bool) -> Iterator[None]:
    """Hold the state directory: one daemon per ledger. Raises LedgerBusyError where another one holds it."""
    state_dir.mkdir(parents=True, exist_ok=True)
    # Opened without O_CREAT|O_TRUNC so that a waiting second daemon never wipes the first one's pid.
    descriptor = os.open(state_dir / "eventferry.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            _lock(descriptor, wait=wait)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            raise LedgerBusyError(
                f"{state_dir}: another eventferry (pid {holder or 'unknown'}) runs on this ledger; stop it first, "
                'or set ledger.when_busy = "wait"'
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, *, wait: bool) -> None:
    """Take the lock. A command that only looks holds it for a moment, so one refusal is not believed."""
    for _ in range(10):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            return
        except BlockingIOError:
            threading.Event().wait(0.05)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_owned(state_dir: Path) -> bool:
    """Whether a daemon holds the state directory now."""
    try:
        with own_state_probe(state_dir):
            return False
    except BlockingIOError:
        return True


@contextmanager
def own_state_probe(state_dir: Path) -> Iterator[None]:
    """Try the lock for a moment, without touching what is written in it."""
    path = state_dir / "eventferry.lock"
    if not path.exists():
        yield
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
