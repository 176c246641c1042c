"""Puts a batch's events into the JSON text that a receiver expects around them."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from eventferry.sink import Batch
from eventferry.sink.http import Parts, Piece

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')  # in JSON nothing else may hold a quote
_PLACE = re.compile(r'"%([a-z_]+)%"')


def as_array(body: bytes) -> Parts:
    """The events as one JSON array."""
    # Every newline of a body ends an event: inside JSON strings they are escaped.
    return Parts(b"[", memoryview(body.replace(b"\n", b","))[:-1], b"]")


_VALUES: dict[str, Callable[[Batch], Iterable[Piece]]] = {
    "events": lambda batch: as_array(batch.body),
    "batch_id": lambda batch: _json(batch.id),
    "count": lambda batch: _json(batch.events),
    "sink": lambda batch: _json(batch.sink),
    "time_min": lambda batch: _json(batch.time_min),
    "time_max": lambda batch: _json(batch.time_max),
}


def _json(value: object) -> list[bytes]:
    return [json.dumps(value).encode()]


class Envelope:
    """A JSON text in which texts such as `"%events%"` stand for what belongs to a batch; all else stays as it is.

    The same batch gives the same bytes in every attempt: nothing that changes with time can be asked for.
    """

    def __init__(self, template: str) -> None:
        """Raises ValueError where it is no JSON, or names what there is not."""
        try:
            json.loads(template)
        except ValueError as error:
            raise ValueError(f"is not JSON ({error}); expected a text such as {EXAMPLE}") from None
        self._pieces = list(_cut(template))
        names = [piece for piece in self._pieces if isinstance(piece, str)]
        if unknown := [name for name in names if name not in _VALUES]:
            known = ", ".join(f'"%{name}%"' for name in _VALUES)
            raise ValueError(f'holds "%{unknown[0]}%", which is unknown; expected one of {known}')
        if names.count("events") != 1:
            raise ValueError(f'holds "%events%" {names.count("events")} times; expected it once, as in {EXAMPLE}')

    def fill(self, batch: Batch) -> Parts:
        """The template with the batch's values in it."""
        filled = (_VALUES[piece](batch) if isinstance(piece, str) else [piece] for piece in self._pieces)
        return Parts(*chain.from_iterable(filled))


EXAMPLE = '{"batch": "%batch_id%", "events": "%events%"}'


def _cut(template: str) -> Iterator[bytes | str]:
    """The template's text as bytes and the names of its placeholders, in order."""
    done = 0
    for match in _STRING.finditer(template):
        place = _PLACE.fullmatch(match[0])
        if place is None:
            continue
        if template[match.end() :].lstrip().startswith(":"):
            raise ValueError(f"has {match[0]} as a key; expected placeholders as values only")
        yield template[done : match.start()].encode()
        yield place[1]
        done = match.end()
    yield template[done:].encode()
