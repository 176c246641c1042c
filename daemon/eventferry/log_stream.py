"""Writes whole log lines to standard error without ever breaking or holding up the daemon."""

import contextlib
import os
import select
import stat
import threading
from typing import TextIO

PATIENCE_MS = 200  # how long one line waits for a reader that has stalled; the next ones do not wait at all
# POLLOUT promises a pipe this much room, so a write of this size does not block.
PIECE = 4096


class LogStream:
    """The logger under structlog: `msg(line)` writes one line, or drops it and counts. Safe for threads."""

    def __init__(self, stream: TextIO | None) -> None:
        self.dropped = 0
        self._stream = stream
        self._fd = _descriptor(stream)
        self._lock = threading.Lock()
        self._stalled = False
        self._torn = False
        self._reported = 0
        self.is_terminal = self._fd is not None and os.isatty(self._fd)
        self.is_journal = self._fd is not None and _is_journal(self._fd)

    def msg(self, line: str) -> None:
        """Write one line. Never raises; waits 0.2 s at most."""
        with self._lock:
            if self.dropped > self._reported and not self._stalled and self._write(self._loss()):
                self._reported = self.dropped
            if not self._write(line):
                self.dropped += 1

    debug = info = warning = error = critical = exception = fatal = log = warn = failure = err = msg

    def _loss(self) -> str:
        prefix = "<4>" if self.is_journal else ""
        return f'{prefix}{{"level": "warning", "event": "log.dropped", "lines": {self.dropped - self._reported}}}'

    def _write(self, line: str) -> bool:
        # A record that was cut by a stall must not swallow the next one.
        data = (("\n" if self._torn else "") + line + "\n").encode("utf-8", "backslashreplace")
        if self._stream is None:  # Python was started with standard error closed
            return False
        try:
            if self._fd is None:
                self._stream.write(data.decode())
                self._stream.flush()
                return True
            return self._write_pieces(self._fd, data)
        except (OSError, ValueError):  # closed, broken pipe, disk full
            return False

    def _write_pieces(self, fd: int, data: bytes) -> bool:
        view = memoryview(data)
        try:
            while view and self._has_room(fd):
                view = view[os.write(fd, view[:PIECE]) :]
        finally:
            if len(view) < len(data):
                self._torn = bool(view)
        return not view

    def _has_room(self, fd: int) -> bool:
        poller = select.poll()
        poller.register(fd, select.POLLOUT)
        ready = poller.poll(0 if self._stalled else PATIENCE_MS)
        self._stalled = not ready
        return bool(ready)


def _descriptor(stream: TextIO | None) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return stream.fileno() if stream is not None else None
    return None


def _is_journal(fd: int) -> bool:
    """Whether systemd connected this very descriptor to the journal."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return stat.S_ISSOCK(found.st_mode) and (str(found.st_dev), str(found.st_ino)) == (device, inode)
