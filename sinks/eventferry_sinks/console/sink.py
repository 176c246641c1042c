"""Writes events to standard output, for people and for pipes."""

import contextlib
import os
import sys

from eventferry.sink import Batch, Guarantee, Sink, SinkMisconfigured, SinkOptions, SinkUnavailable


class ConsoleOptions(SinkOptions):
    """The console has no options of its own."""


class ConsoleSink(Sink[ConsoleOptions]):
    """NDJSON on standard output; once written it is the reader's."""

    Options = ConsoleOptions
    guarantee = Guarantee.AT_LEAST_ONCE
    proved_against = "a standard output that is captured"

    _descriptor = -1

    def open(self) -> None:
        try:
            self._descriptor = sys.stdout.fileno()
        except (AttributeError, OSError, ValueError) as error:
            raise SinkMisconfigured("there is no standard output to write to") from error

    def deliver(self, batch: Batch) -> None:
        rest = memoryview(batch.body)
        try:
            with contextlib.suppress(ValueError):  # a closed text layer holds nothing back
                sys.stdout.flush()
            while rest:
                # Past sys.stdout's buffer: what a broken pipe leaves in it would fail again at exit.
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            raise SinkUnavailable(
                f"standard output takes no more: {error.strerror}; {len(batch.body) - len(rest)} bytes are written",
                untouched=len(rest) == len(batch.body),
            ) from error
