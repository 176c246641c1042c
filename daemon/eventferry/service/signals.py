"""Signals as bytes that a main thread can wait for."""

import contextlib
import os
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def signal_numbers() -> Iterator[int]:
    """A descriptor from which the numbers of arriving signals can be read, one byte each.

    A main thread that waits on a lock does not reliably learn of a signal (seen: a SIGTERM that did nothing until the
    next one came). The byte is written at once, by whichever thread was interrupted.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(-1)
        os.close(reading)
        os.close(writing)
