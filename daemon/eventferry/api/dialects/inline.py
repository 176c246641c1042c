"""Answers with the selected events themselves, up to a limit: what dialects give without making an export."""

import tempfile
import threading
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import IO

from eventferry.api.abandoning import stop_when, until_gone
from eventferry.api.events import Read
from eventferry.errors import EventferryError
from eventferry.exports.formats import make_encoder
from eventferry.exports.latest import TooLarge, latest
from eventferry.exports.model import Output
from eventferry.query import Path

# Held in memory while events are counted; what is more lies in a temporary file.
_MEMORY = 4 * 1024 * 1024
_PIECE = 256 * 1024


class TooManyEvents(EventferryError):
    """More is selected than may be answered with at once."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """Selected events as a JSON array; whoever gets them closes the file, or streams it to its end."""

    file: IO[bytes]
    events: int

    def stream(self, before: bytes, after: bytes = b"}") -> Generator[bytes]:
        """The answer in pieces: the array between two texts."""
        with self.file:
            yield before
            while piece := self.file.read(_PIECE):
                yield piece
            yield after


def gather(
    found: Read, most: int, gone: threading.Event, *, fields: tuple[Path, ...] = (), newest: int | None = None
) -> Gathered:
    """The events, of `fields` only where there are any, and of them the `newest` where that is a number.

    Raises TooManyEvents beyond `most`, Abandoned when nobody waits any more, and what reading raises.
    """
    if newest is None and found.total is not None and found.total > most:
        raise _too_many(most)
    encoder = make_encoder(Output("json", fields=fields))
    file, events = tempfile.SpooledTemporaryFile(max_size=_MEMORY), 0  # noqa: SIM115  # whoever answers closes it
    try:
        file.write(encoder.begin())
        for body in _bodies(found, gone, newest):
            events += body.count(b"\n")
            if events > most:
                raise _too_many(most)
            file.write(encoder.feed(body))
        file.write(encoder.end())
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return Gathered(file, events)


def _bodies(found: Read, gone: threading.Event, newest: int | None) -> Iterator[bytes]:
    if newest is None:
        with closing(until_gone(found.bodies(), gone)) as bodies:
            yield from bodies
        return
    planned = list(found.planned)
    try:
        yield from latest(lambda: planned, found.sources, found.selection, newest, stop_when(gone))
    except TooLarge as error:
        raise TooManyEvents(str(error)) from None


def _too_many(most: int) -> TooManyEvents:
    return TooManyEvents(f"more than {most:,} events are selected")
