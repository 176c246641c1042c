"""Answers with the selected events themselves, up to a limit: what dialects give without making an export."""

import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import IO, cast

from eventferry.access.keys import Key
from eventferry.api.parts import Parts
from eventferry.errors import EventferryError
from eventferry.exports import plan, reading, visibility
from eventferry.exports.formats import make_encoder
from eventferry.exports.model import Output, Selection
from eventferry.exports.reading import Selected
from eventferry.ledger import log
from eventferry.query import Path

# Held in memory while events are counted; what is more lies in a temporary file.
_MEMORY = 4 * 1024 * 1024
_PIECE = 256 * 1024


class TooManyEvents(EventferryError):
    """More events are selected than may be answered with at once."""

    def __init__(self, most: int) -> None:
        self.most = most
        super().__init__(f"more than {most:,} events are selected")


@dataclass(frozen=True, slots=True)
class Gathered:
    """Selected events as a JSON array; whoever gets them closes the file, or streams it to its end."""

    file: IO[bytes]
    events: int

    def stream(self, before: bytes, after: bytes = b"}") -> Iterator[bytes]:
        """The answer in pieces: the array between two texts."""
        with self.file:
            yield before
            while piece := self.file.read(_PIECE):
                yield piece
            yield after


def narrowed(selection: Selection, key: Key) -> Selection:
    """What the key may see of the selection."""
    scope = selection.scope.narrowed(key.realm)
    return replace(selection, scope=scope, filter=visibility.both(selection.filter, key.filter))


def bodies_of(parts: Parts, key: Key, selection: Selection) -> Generator[bytes]:
    """The selected events that the key may see as canonical NDJSON, a segment at a time, as the log is now."""
    mine = narrowed(selection, key)
    sources = parts.sources()
    with parts.ledger.read() as tx:
        head = log.head(tx)
    planned = plan.plan(parts.ledger, sources, mine, head)
    with closing(cast(Generator[Selected], reading.read(planned, sources, mine))) as found:
        for each in found:
            yield each.body


def gather(bodies: Generator[bytes], most: int, fields: tuple[Path, ...] = ()) -> Gathered:
    """The events of canonical NDJSON as a JSON array, of `fields` only where there are any.

    Raises TooManyEvents beyond `most`.
    """
    encoder = make_encoder(Output("json", fields=fields))
    file, events = tempfile.SpooledTemporaryFile(max_size=_MEMORY), 0  # noqa: SIM115  # the answer closes it
    try:
        file.write(encoder.begin())
        with closing(bodies):
            for body in bodies:
                events += body.count(b"\n")
                if events > most:
                    raise TooManyEvents(most)
                file.write(encoder.feed(body))
        file.write(encoder.end())
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return Gathered(file, events)
