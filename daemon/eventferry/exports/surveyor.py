"""Surveys the bodies of events: a few operations per column, and bytecode per event only where properties are new."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from math import isinf
from operator import attrgetter
from typing import Annotated, Any

import msgspec

from eventferry.exports.exact import Number, decode_event
from eventferry.exports.shape import DEEP, UNFIT, lines_of, pieces_of
from eventferry.exports.survey import Property, Survey
from eventferry.query.expression import Path

_EXACT = 2**53  # integers up to here are doubles, too
_LONG = 2**63
_ROWS = 200  # as in shape.py
_CELLS = 500_000  # values held at once
_WIDE = 1000  # properties of one object that a struct is made for: its decoder searches among them
_SURE: dict[str, Any] = {"string": str, "boolean": bool, "integer": Annotated[int, msgspec.Meta(ge=-_EXACT, le=_EXACT)]}
_SCALARS = {str: "string", float: "number", bool: "boolean", type(None): "null"}

_decode_lines = msgspec.json.Decoder(dict[str, Any]).decode_lines


class Surveyor:
    """Adds events to a survey."""

    def __init__(self) -> None:
        self.survey = Survey()
        self._known: _Known | None = None
        self._new = 0  # pieces in a row with something new in them

    def start(self) -> None:
        """Begin a new survey; what is known of the events stays of use."""
        self.survey = Survey()

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
        if self._new & (self._new - 1) == 0:
            self._known = _known(self.survey)

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
    kinds = _types_of(values)
    objects: list[dict[str, Any]] = []
    kinds.pop(msgspec.UnsetType, None)  # missing
    if not kinds:
        return []
    found = survey.at(path)
    for kind, count in kinds.items():
        if kind in _SCALARS:
            found.kinds[_SCALARS[kind]] += count
        elif kind is int:
            integers = values if count == len(values) else _only(int, values)
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
            objects = list(values) if count == len(values) else _only(kind, values)
    return objects


def _only(kind: type, values: Sequence[Any]) -> list[Any]:
    return [value for value in values if type(value) is kind]


def _types_of(values: Sequence[Any]) -> dict[type, int]:
    alike = set(map(type, values))  # mostly they are, and counting takes longer
    return {alike.pop(): len(values)} if len(alike) == 1 else Counter(map(type, values))


def _note_integers(kinds: Counter[str], values: Sequence[int]) -> None:
    if min(values) >= -_EXACT and max(values) <= _EXACT:
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
    """A struct for the known properties of an object, which refuses others.

    Of what was in every event so far, and always of one type, the struct demands that it stay so: then nothing of it
    has to be looked at.
    """

    def __init__(self, tree: dict[str, Any], survey: Survey, objects: int, path: Path = ()) -> None:
        self._sure: list[tuple[Path, str]] = []  # with the kind of all values
        self._unsure: list[tuple[Path, _Known | None]] = []
        fields: list[Any] = []
        names: list[str] = []
        for number, (key, below) in enumerate(tree.items()):
            here, name = (*path, key), f"f{number}"
            kind = _sure_kind(survey.properties[here], objects)
            if kind is not None:
                self._sure.append((here, kind))
                fields.append((name, _SURE[kind], msgspec.field(name=key)))
                continue
            inner = None
            if below and _is_fit(below, here):
                inner = _Known(below, survey, survey.properties[here].kinds["object"], here)
            names.append(name)
            self._unsure.append((here, inner))
            shape = Any if inner is None else inner.kind | list[Any] | int | float | str | bool | None
            fields.append((name, shape, msgspec.field(default=msgspec.UNSET, name=key)))
        self.kind: Any = msgspec.defstruct(
            "Known", fields, frozen=True, gc=False, forbid_unknown_fields=True, kw_only=True
        )
        self.decode: Callable[[bytes], list[Any]] = msgspec.json.Decoder(self.kind).decode_lines
        self._get: Callable[[Any], Any] | None = attrgetter(*names) if names else None

    def count(self, survey: Survey, events: list[Any]) -> None:
        for path, kind in self._sure:
            survey.at(path).kinds[kind] += len(events)
        if self._get is None:
            return
        rows = list(map(self._get, events))
        columns = zip(*rows, strict=True) if len(self._unsure) > 1 else [rows]
        for (path, inner), column in zip(self._unsure, columns, strict=False):
            objects: list[Any] = note_values(survey, path, column)
            if objects and inner is not None:
                inner.count(survey, objects)
            elif objects:
                note_objects(survey, path, objects)


def _sure_kind(found: Property, objects: int) -> str | None:
    """The kind of all values, where every object has one and a struct can demand it."""
    kind = next(iter(found.kinds), None)
    return kind if len(found.kinds) == 1 and kind in _SURE and found.kinds[kind] == objects else None


def _known(survey: Survey) -> _Known | None:
    tree: dict[str, Any] = {}
    for path in survey.properties:
        level = tree
        for key in path:
            level = level.setdefault(key, {})
    return _Known(tree, survey, survey.events) if tree and _is_fit(tree, ()) else None


def _is_fit(tree: dict[str, Any], path: Path) -> bool:
    """Whether a struct can be made for an object with these keys."""
    return len(tree) <= _WIDE and len(path) < DEEP and not any(UNFIT.intersection(key) for key in tree)
