"""Takes the values of the configured columns out of events: one list per column, NULL where nothing fits."""

import datetime as dt
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Any

import msgspec

from eventferry.sink.columns import Column, Type, steps_of

AT_ONCE = 512 * 1024  # bytes of events worked on at once: fewer cost time for each piece, more leave the caches
_FEW = 16 * 1024  # where an event has another shape, so many bytes: it slows only its neighbours down
_LEAST, _MOST = -(2**63), 2**63 - 1
_FIRST_MS, _LAST_MS = -62135596800000, 253402300799999  # years 1 to 9999
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)

_ODD = (msgspec.DecodeError, RecursionError)
_NOTHING = msgspec.Raw(b"null")
_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raw_array = msgspec.json.Decoder(list[msgspec.Raw])
_any = msgspec.json.Decoder()


Fetch = Callable[[str], list[Any]]  # the values of some events at a path


class _Misfit:
    """The value that stands for: there is one, and it does not fit."""


MISFIT = _Misfit()


@dataclass(slots=True)
class Rows:
    """The columns of some events: `values[c][i]` is event i's value of column c.

    Values: text and json str, integer int, number float, boolean bool, timestamp int (epoch µs, UTC); or None.
    """

    values: list[list[Any]]
    misfits: Counter[str] = field(default_factory=Counter)  # column → values that did not fit


class Extractor:
    """Takes the values of `columns` out of NDJSON, without an object for what no column asks for."""

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self._names = list(columns)
        self._columns = list(columns.values())
        self._steps = {path: steps_of(path) for column in self._columns for path in column.path}
        self._decoders: list[Any] = []
        self._getters: dict[tuple[str, ...], tuple[int, Callable[[Any], Any]]] = {}  # with the number of their decoder
        for number, group in enumerate(_apart(list(dict.fromkeys(self._steps.values())))):
            decoder, getters = _compile(group)
            self._decoders.append(decoder)
            self._getters |= {steps: (number, getter) for steps, getter in getters.items()}

    def extract(self, body: bytes) -> Rows:
        """The columns of the events in `body`: one JSON object a line, every line ended by a newline."""
        rows = Rows([[] for _ in self._columns])
        for chunk, fetch in self._chunks(body, AT_ONCE):
            for name, column, values in zip(self._names, self._columns, rows.values, strict=True):
                some, misfits = self._convert(column, fetch, chunk)
                values += some
                if misfits:
                    rows.misfits[name] += misfits
        return rows

    def _chunks(self, body: bytes, size: int) -> Iterator[tuple[bytes, Fetch]]:
        """The events in chunks of about `size` bytes, each with what gives its values; few are asked for beyond a
        column's first path."""
        for chunk in pieces(body, size):
            try:
                decoded = [decoder.decode_lines(chunk) for decoder in self._decoders]
            except _ODD:  # somewhere an object is a text, or a number is out of range
                if size > _FEW:
                    yield from self._chunks(chunk, _FEW)
                else:
                    yield chunk, partial(self._one_by_one, chunk.split(b"\n")[:-1])  # a CR may stand inside a line
            else:
                yield chunk, partial(self._at_once, decoded)

    def _at_once(self, decoded: list[list[Any]], path: str) -> list[Any]:
        number, getter = self._getters[self._steps[path]]
        return list(map(getter, decoded[number]))

    def _one_by_one(self, lines: list[bytes], path: str) -> list[Any]:
        return [_reach(line, self._steps[path]) for line in lines]

    def _convert(self, column: Column, fetch: Fetch, chunk: bytes) -> tuple[list[Any], int]:
        first = fetch(column.path[0])
        values = _fast(column.type, first)
        if values is not None and (len(column.path) == 1 or None not in values):
            return values, 0
        found = [first, *map(fetch, column.path[1:])]
        convert = _CONVERT[column.type]
        lines: list[bytes] = []
        out: list[Any] = []
        misfits = 0
        for number, candidates in enumerate(zip(*found, strict=True)):
            value: Any = None
            for path, candidate in zip(column.path, candidates, strict=True):
                if isinstance(candidate, float | dict | list) and column.type in ("text", "json"):
                    lines = lines or chunk.split(b"\n")
                    taken: Any = _raw(lines[number], self._steps[path]).decode()
                else:
                    taken = convert(candidate)
                if taken is MISFIT:
                    value = MISFIT
                elif taken is not None:
                    value = taken
                    break
            if value is MISFIT:
                misfits, value = misfits + 1, None
            out.append(value)
        return out, misfits


def pieces(body: bytes, size: int = AT_ONCE) -> Iterator[bytes]:
    """`body` in pieces of about `size` bytes, each ending with an event."""
    start = 0
    while start < len(body):
        end = body.find(b"\n", min(start + size, len(body)) - 1) + 1 or len(body)
        yield body[start:end] if start or end < len(body) else body
        start = end


def _apart(paths: Sequence[tuple[str, ...]]) -> list[list[tuple[str, ...]]]:
    """Groups of paths of which none begins with another: `attributes` as a whole is read beside `attributes.url`."""
    groups: list[list[tuple[str, ...]]] = []
    for steps in paths:
        for group in groups:
            if not any(steps[: len(each)] == each or each[: len(steps)] == steps for each in group):
                group.append(steps)
                break
        else:
            groups.append([steps])
    return groups


def _compile(paths: Sequence[tuple[str, ...]]) -> tuple[Any, dict[tuple[str, ...], Callable[[Any], Any]]]:
    """What decodes these paths and skips everything else, and what gets each of them out of it."""
    tree: dict[str, Any] = {}
    for steps in paths:
        node = tree
        for step in steps:
            node = node.setdefault(step, {})
    names: dict[tuple[str, ...], str] = {}
    struct = _struct(tree, (), "", names)
    return msgspec.json.Decoder(struct), {steps: attrgetter(names[steps]) for steps in paths}


def _struct(tree: dict[str, Any], above: tuple[str, ...], prefix: str, names: dict[tuple[str, ...], str]) -> Any:
    fields: list[tuple[str, Any, Any]] = []
    rename = {}
    for number, (step, below) in enumerate(tree.items()):
        name = f"f{number}"
        rename[name] = step
        names[(*above, step)] = prefix + name
        if below:
            inner = _struct(below, (*above, step), f"{prefix}{name}.", names)
            fields.append((name, inner, inner()))
        else:
            fields.append((name, Any, None))
    return msgspec.defstruct("Event", fields, rename=rename, frozen=True, gc=False)


def _raw(line: bytes, steps: Sequence[str]) -> bytes:
    """The JSON text of the value at a path; `null` where there is none."""
    value = msgspec.Raw(line)
    for step in steps:
        text = bytes(value).lstrip()
        if text[:1] == b"{":
            value = _raw_object.decode(text).get(step, _NOTHING)
        elif text[:1] == b"[" and step.isascii() and step.isdigit():
            items = _raw_array.decode(text)
            value = items[int(step)] if int(step) < len(items) else _NOTHING
        else:
            return b"null"
    return bytes(value).strip()


def _reach(line: bytes, steps: Sequence[str]) -> Any:
    try:
        text = _raw(line, steps)
    except (msgspec.DecodeError, RecursionError):  # no JSON, or too deep: whoever takes the raw event says so
        return None
    try:
        return _any.decode(text)
    except (msgspec.DecodeError, RecursionError):  # a number beyond a double, or arrays in arrays in arrays
        return math.inf if text[:1] != b"-" else -math.inf


def _fast(type: Type, values: list[Any]) -> list[Any] | None:
    """All values at once where all are of the expected kind; None where they have to be looked at one by one."""
    kinds = set(map(_kind, values))
    if kinds <= _PLAIN[type]:
        if type == "text" or type == "boolean":
            return values
        if type == "number":
            return values if int not in kinds and math.inf not in values and -math.inf not in values else None
        if type == "integer" and _within(values, kinds, _LEAST, _MOST):
            return values
        if type == "timestamp" and _within(values, kinds, _FIRST_MS, _LAST_MS):
            return [value if value is None else value * 1000 for value in values]
    return None


_kind = type
_NONE = _kind(None)
_PLAIN: dict[Type, set[Any]] = {
    "text": {str, _NONE},
    "integer": {int, _NONE},
    "number": {float, _NONE},
    "boolean": {bool, _NONE},
    "timestamp": {int, _NONE},
    "json": set(),
}


def _within(values: list[Any], kinds: set[Any], least: int, most: int) -> bool:
    present = values if _NONE not in kinds else [value for value in values if value is not None]
    return not present or (min(present) >= least and max(present) <= most)


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if value is None or isinstance(value, str) else str(value)


def _integer(value: Any) -> Any:
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    if value is None or (_kind(value) is int and _LEAST <= value <= _MOST):
        return value
    return MISFIT


def _number(value: Any) -> Any:
    if value is None:
        return None
    if _kind(value) in (int, float) or (isinstance(value, str) and _NUMBER.fullmatch(value)):
        try:
            number = float(value)
        except OverflowError:
            return MISFIT
        return number if math.isfinite(number) else MISFIT
    return MISFIT


def _boolean(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value, MISFIT) if isinstance(value, str) else MISFIT


def _timestamp(value: Any) -> Any:
    """Epoch milliseconds or ISO 8601, which is UTC where it names no offset; as epoch microseconds."""
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    if value is None:
        return None
    if _kind(value) is int:
        return value * 1000 if _FIRST_MS <= value <= _LAST_MS else MISFIT
    if isinstance(value, str) and _DAY.match(value):
        try:
            moment = dt.datetime.fromisoformat(value)
            aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
            moment_us = (aware - _EPOCH) // _MICROSECOND
        except (ValueError, OverflowError):
            return MISFIT
        if _FIRST_MS * 1000 <= moment_us < (_LAST_MS + 1) * 1000:  # an offset may lead out of the calendar
            return moment_us
    return MISFIT


def _json(value: Any) -> Any:
    return None if value is None else msgspec.json.encode(value).decode()


_CONVERT: dict[Type, Callable[[Any], Any]] = {
    "text": _text,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "timestamp": _timestamp,
    "json": _json,
}
