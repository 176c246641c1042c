"""Surveys the bodies of events: a few operations per column, and bytecode per event only where properties are new."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from math import isinf
from operator import attrgetter
from typing import Any

import msgspec

from eventferry.exports.exact import Number, decode_event
from eventferry.exports.shape import DEEP, UNFIT, lines_of, pieces_of
from eventferry.exports.survey import Survey
from eventferry.query.expression import Path

_EXACT = 2**53  # integers up to here are doubles, too
_LONG = 2**63
_ROWS = 200  # as in shape.py
_CELLS = 500_000  # values held at once
_WIDE = 1000  # properties of one object that a struct is made for: its decoder searches among them
_SCALARS = {str: "string", float: "number", bool: "boolean", type(None): "null"}

_decode_lines = msgspec.json.Decoder(dict[str, Any]).decode_lines


class Surveyor:
    """Adds events to a survey."""

    def __init__(self, survey: Survey | None = None) -> None:
        self.survey = Survey() if survey is None else survey
        self._known: _Known | None = None
        self._new = 0  # pieces in a row with something new in them
        self._built = -1  # how many properties the known ones were

    def add(self, body: bytes) -> None:
        """Survey canonical NDJSON. Raises TooManyProperties; what was found before that stays."""
        rows = max(1, min(_ROWS, _CELLS // max(1, len(self.survey.properties))))
        for piece in pieces_of(body, rows):
            self._add(piece)

    def _add(self, piece: bytes) -> None:
        if self._known is not None:
            try:
                events = self._known.decode(piece)
            except msgspec.DecodeError:  # a new property, or a number beyond what it holds
                pass
            else:
                self.survey.events += len(events)
                self._known.count(self.survey, events)
                self._new = 0
                return
        self._add_slowly(piece)
        self._new += 1
        # Building costs: where every piece has something new it is done ever less often.
        if self._new & (self._new - 1) == 0 and len(self.survey.properties) != self._built:
            self._built = len(self.survey.properties)
            self._known = _known(self.survey.properties)

    def _add_slowly(self, piece: bytes) -> None:
        try:
            events = _decode_lines(piece)
        except msgspec.DecodeError:
            events = [decode_event(line) for line in lines_of(piece)]
        self.survey.events += len(events)
        note_objects(self.survey, (), events)


def note_objects(survey: Survey, path: Path, objects: Iterable[dict[str, Any]]) -> None:
    """Count what lies in decoded objects at the path, however deep."""
    columns: dict[str, list[Any]] = {}
    for each in objects:
        for key, value in each.items():
            columns.setdefault(key, []).append(value)
    waiting: list[tuple[Path, list[Any]]] = [((*path, key), values) for key, values in columns.items()]
    while waiting:
        here, values = waiting.pop()
        inside: dict[str, list[Any]] = {}
        for each in note_values(survey, here, values):
            for key, value in each.items():
                inside.setdefault(key, []).append(value)
        waiting += [((*here, key), below) for key, below in inside.items()]


def note_values(survey: Survey, path: Path, values: Sequence[Any]) -> list[dict[str, Any]]:
    """Count the kinds of the values at the path; returns the objects among them, whose properties are not counted."""
    kinds, objects = _types_of(values), []
    kinds.pop(msgspec.UnsetType, None)  # missing
    if not kinds:
        return []
    found = survey.at(path)
    for kind, count in kinds.items():
        if kind in _SCALARS:
            found.kinds[_SCALARS[kind]] += count
        elif kind is int:
            integers = values if len(kinds) == 1 and count == len(values) else [v for v in values if type(v) is int]
            _note_integers(found.kinds, integers)
        elif kind is list:
            found.kinds["array"] += count
            for value in values:
                if type(value) is list:
                    found.items.update(map(kind_of, value))
        elif kind is Number:
            found.kinds.update(kind_of(value) for value in values if type(value) is Number)
        else:
            found.kinds["object"] += count
            objects = [value for value in values if type(value) is kind]
    return objects


def _types_of(values: Sequence[Any]) -> dict[type, int]:
    alike = set(map(type, values))  # mostly they are, and counting takes longer
    return {alike.pop(): len(values)} if len(alike) == 1 else Counter(map(type, values))


def _note_integers(kinds: Counter[str], values: Sequence[int]) -> None:
    if -_EXACT <= min(values) and max(values) <= _EXACT:
        kinds["integer"] += len(values)
    else:
        kinds.update(map(kind_of, values))


def kind_of(value: Any) -> str:
    """The kind of a decoded value: see survey.TYPES."""
    kind = type(value)
    if kind is int:
        return "integer" if -_EXACT <= value <= _EXACT else "long" if -_LONG <= value < _LONG else "huge"
    if kind is Number:
        return _kind_of_text(value)
    return _SCALARS.get(kind) or ("array" if kind is list else "object")


def _kind_of_text(text: str) -> str:
    if text.lstrip("-").isdigit():
        return "huge"
    return "vast" if isinf(float(text)) else "number"


class _Known:
    """A struct for the known properties of an object, which refuses others."""

    def __init__(self, tree: dict[str, Any], path: Path = ()) -> None:
        self._path = path
        self._places: list[tuple[Path, _Known | None]] = []
        fields: list[tuple[str, Any, Any]] = []
        for number, (key, below) in enumerate(tree.items()):
            here, kind = (*path, key), Any
            inner = _Known(below, here) if below and _is_fit(below, here) else None
            if inner is not None:
                kind = inner.kind | list[Any] | int | float | str | bool | None
            self._places.append((here, inner))
            fields.append((f"f{number}", kind, msgspec.field(default=msgspec.UNSET, name=key)))
        self.kind: Any = msgspec.defstruct("Known", fields, frozen=True, gc=False, forbid_unknown_fields=True)
        self.decode: Callable[[bytes], list[Any]] = msgspec.json.Decoder(self.kind).decode_lines
        self._get: Callable[[Any], Any] = attrgetter(*(name for name, *_ in fields))

    def count(self, survey: Survey, events: list[Any]) -> None:
        rows = list(map(self._get, events))
        columns = zip(*rows, strict=True) if len(self._places) > 1 else [rows]
        for (path, inner), column in zip(self._places, columns, strict=False):
            objects: list[Any] = note_values(survey, path, column)
            if objects and inner is not None:
                inner.count(survey, objects)
            elif objects:
                note_objects(survey, path, objects)


def _known(properties: Iterable[Path]) -> _Known | None:
    tree: dict[str, Any] = {}
    for path in properties:
        level = tree
        for key in path:
            level = level.setdefault(key, {})
    return _Known(tree) if tree and _is_fit(tree, ()) else None


def _is_fit(tree: dict[str, Any], path: Path) -> bool:
    """Whether a struct can be made for an object with these keys."""
    return len(tree) <= _WIDE and len(path) < DEEP and not any(UNFIT.intersection(key) for key in tree)
