"""Reads the event times of a whole chunk without bytecode per event."""

import json
from collections.abc import Callable
from functools import lru_cache, reduce
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from eventferry.moments import to_epoch_ms

DEFAULT_TIMES = ("event_timestamp", "timestamp", "keen.timestamp")

_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_NOT_AN_OBJECT = list[Any] | int | float | str | bool | None


class Span(NamedTuple):
    """What the times of some events come to; low and high are None where none is usable."""

    untimed: int = 0
    low: int | None = None
    high: int | None = None

    def joined(self, other: "Span") -> "Span":
        """The span of both."""
        if self.low is None or self.high is None:
            return Span(self.untimed + other.untimed, other.low, other.high)
        if other.low is None or other.high is None:
            return Span(self.untimed + other.untimed, self.low, self.high)
        return Span(self.untimed + other.untimed, min(self.low, other.low), max(self.high, other.high))


class TimeDecoder:
    """Decodes a line into a struct that holds nothing but its times, checking and skipping all the rest.

    `decode` raises ValueError or RecursionError for a line that is no JSON object, and for some objects whose time is
    odd (a number beyond 64 bit): `of_odd_line` is for those. It does not check the UTF-8 of what it skips.
    """

    def __init__(self, paths: tuple[str, ...]) -> None:
        self._paths = tuple(tuple(path.split(".")) for path in dict.fromkeys(paths))
        shape, names = _struct_of(self._paths)
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(shape).decode
        self._getters = tuple(attrgetter(names[path]) for path in self._paths)

    def span(self, events: list[Any]) -> Span:
        """The span of decoded events, without bytecode per event where their times are alike."""
        for getter in self._getters if events else ():
            try:
                values = list(map(getter, events))
            except AttributeError:  # the parent of a nested time is no object somewhere
                return self._span_one_by_one(events)
            if values[0] is None and values.count(None) == len(values):
                continue
            return _span_of_alike(values) or self._span_by_kind(events, values)
        return Span(len(events))

    def _span_by_kind(self, events: list[Any], values: list[Any]) -> Span:
        """The span where times are mixed: of each kind apart."""
        kinds: dict[object, list[Any]] = {}
        for event, value in zip(events, values, strict=True):
            kinds.setdefault(len(value) if type(value) is str else type(value), []).append(event)
        if len(kinds) == 1:
            return self._span_one_by_one(events)
        return reduce(Span.joined, map(self.span, kinds.values()))

    def of_odd_line(self, line: bytes) -> int | None:
        """The time of a valid line that `decode` refuses."""
        try:
            event = json.loads(line, parse_int=_bounded_int)
        except (ValueError, RecursionError):
            return None
        for path in self._paths:
            value = event
            for name in path:
                value = value.get(name) if isinstance(value, dict) else None
            if (ms := to_epoch_ms(value)) is not None:
                return ms
        return None

    def _span_one_by_one(self, events: list[Any]) -> Span:
        found = [ms for event in events if (ms := self._of(event)) is not None]
        return Span(len(events) - len(found), min(found, default=None), max(found, default=None))

    def _of(self, event: object) -> int | None:
        for getter in self._getters:
            try:
                value = getter(event)
            except AttributeError:
                continue
            if (ms := to_epoch_ms(value)) is not None:
                return ms
        return None


@lru_cache(maxsize=32)
def time_decoder(paths: tuple[str, ...]) -> TimeDecoder:
    """The decoder for these dotted paths, tried in order. Cached: building one costs more than a small file."""
    return TimeDecoder(paths)


def _span_of_alike(values: list[Any]) -> Span | None:
    """The span where the smallest and the largest vouch for all between: integers, or strings of one shape.

    Strings of one shape that end in Z sort as their times do.
    """
    first = values[0]
    if type(first) is str:
        if not first.endswith("Z"):
            return None
        try:
            joined = "".join(values)
        except TypeError:
            return None
        if joined.encode().translate(_DIGITS) != first.encode().translate(_DIGITS) * len(values):
            return None
    elif type(first) is not int or set(map(type, values)) != {int}:
        return None
    low, high = to_epoch_ms(min(values)), to_epoch_ms(max(values))
    return None if low is None or high is None else Span(0, low, high)


def _bounded_int(digits: str) -> int | None:
    return int(digits) if len(digits) < 20 else None


def _struct_of(
    paths: tuple[tuple[str, ...], ...], above: tuple[str, ...] = (), prefix: str = ""
) -> tuple[type[msgspec.Struct], dict[tuple[str, ...], str]]:
    """A struct with the times below `above`, loosely typed, and the attribute path of each."""
    fields: list[tuple[str, Any, Any]] = []
    names: dict[tuple[str, ...], str] = {}
    heads = dict.fromkeys(path[len(above)] for path in paths if len(path) > len(above) and path[: len(above)] == above)
    for number, head in enumerate(heads):
        attribute, here = f"t{number}", (*above, head)
        names[here] = prefix + attribute
        kind: Any = Any
        default: Any = None
        if any(len(path) > len(here) and path[: len(here)] == here for path in paths):
            inner, below = _struct_of(paths, here, f"{prefix}{attribute}.")
            names |= below
            kind, default = inner | _NOT_AN_OBJECT, inner()
        fields.append((attribute, kind, msgspec.field(default=default, name=head)))
    return msgspec.defstruct("Times", fields, frozen=True, gc=False), names
