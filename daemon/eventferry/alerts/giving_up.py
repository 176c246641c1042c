"""Ends a process whose ledger cannot be trusted any more, after saying so."""

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from eventferry import clock
from eventferry.alerts.channels import Channel
from eventferry.alerts.failure import deliver
from eventferry.alerts.message import Message
from eventferry.errors import LedgerBrokenError
from eventferry.logs import get_logger

# A disk that goes on failing is told of once in this time, however often the service is started again.
SILENCE_MS = 3_600_000
TOLD = "ledger.broken"

logger = get_logger()


def give_up(
    error: LedgerBrokenError, channels: Callable[[], Iterable[Channel[Any]]], state_dir: Path, instance: str
) -> None:
    """Tell journal and channels, then end the process at once: the next one reads what is really on the disk."""
    try:
        logger.critical("ledger.broken", error=str(error))
        if not _was_told(state_dir / TOLD):
            deliver(_message(error, instance), list(channels()), tries=1)
    except Exception:
        logger.exception("alert.failed", subject="ledger.broken")
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        # Not an ordinary exit, which would let other threads go on and would write to the ledger.
        os._exit(error.exit_code)


def _was_told(note: Path) -> bool:
    """Whether people were told lately; from now on they were."""
    with contextlib.suppress(OSError):
        if abs(clock.now_ms() - note.stat().st_mtime * 1000) < SILENCE_MS:
            return True
    with contextlib.suppress(OSError):  # it lies on the same disk: if need be people are told once more
        note.write_text("")
    return False


def _message(error: LedgerBrokenError, instance: str) -> Message:
    now = clock.now_ms()
    return Message(
        id=0,
        cause="ledger.broken",
        kind="failure",
        level="error",
        event="ledger.broken",
        subject="The disk under the ledger fails; eventferry ended itself, so that it starts again from what is there",
        detail=str(error),
        command="journalctl -k -n 100; eventferry status",
        since_ms=now,
        instance=instance,
        host=socket.gethostname(),
        created_ms=now,
    )
