"""Answers whether events, as JSON bytes, satisfy a filter, decoding no more of them than the filter needs."""

import datetime as dt
import json
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from eventferry.moments import EPOCH, LAST_MS, to_epoch_ms
from eventferry.query.comparing import comparison
from eventferry.query.expression import And, Compare, During, Expression, Not, Or, Path, paths_of

_Predicate = Callable[[Any], bool]
_Getter = Callable[[Any], Any]
_Tree = dict[str, "_Tree | None"]  # None: the value itself is wanted

_UNFIT = frozenset('\\"').union(map(chr, range(32)))  # characters that msgspec bars from the names of fields
_MAX_SHAPES = 200  # a filter that leads into more objects than this decodes events whole: each costs a class
_DIGITS = bytes.maketrans(b"123456789", b"000000000")


class Matcher:
    """Tells whether one JSON object (one line, newline or not) satisfies a filter, or which of many do."""

    def __init__(self, shape: Any, holds: _Predicate) -> None:
        decoder = msgspec.json.Decoder(shape)
        self._decode: Callable[[bytes], Any] = decoder.decode
        self._decode_lines: Callable[[bytes], list[Any]] = decoder.decode_lines
        self._holds = holds

    def __call__(self, line: bytes) -> bool:
        """Whether this event does."""
        try:
            event = self._decode(line)
        except msgspec.DecodeError:  # legal numbers beyond what msgspec holds: 1e400, thousands of digits
            event = _loads(line)
        return self._holds(event)

    def positions(self, lines: list[bytes]) -> list[int]:
        """The positions, from 0, of the lines that satisfy it."""
        try:
            events = list(map(self._decode, lines))
        except msgspec.DecodeError:
            return [position for position, line in enumerate(lines) if self(line)]
        return self._positions(events)

    def positions_in(self, body: bytes) -> list[int]:
        """The positions, from 0, of the events of canonical NDJSON that satisfy it."""
        try:
            return self._positions(self._decode_lines(body))
        except msgspec.DecodeError:
            return self.positions(body.split(b"\n")[:-1])

    def _positions(self, events: list[Any]) -> list[int]:
        holds = self._holds
        return [position for position, event in enumerate(events) if holds(event)]


class _TimeMatcher(Matcher):
    """A matcher of one time range, without bytecode per event but a comparison where the times are alike."""

    def __init__(self, shape: Any, holds: _Predicate, during: During, paths: tuple[Path, ...]) -> None:
        super().__init__(shape, holds)
        self._during = during
        self._getters = [operator.attrgetter(".".join(map(_attribute, path))) for path in paths]

    def _positions(self, events: list[Any]) -> list[int]:
        for getter in self._getters if events else ():
            try:
                values = list(map(getter, events))
            except AttributeError:  # the parent of a nested time is no object somewhere
                break
            if values[0] is None and values.count(None) == len(values):
                continue
            found = _within(values, self._during)
            if found is None:
                break
            return found
        return super()._positions(events)


def compile_filter(expression: Expression, time_fields: tuple[str, ...] = ()) -> Matcher:
    """What tells whether an event satisfies the expression.

    A path descends through objects only; an array in the middle of a path counts as missing. Comparing with an array
    means membership for eq, ne, in and contains, and is false for the others. Numbers compare by value, whatever
    their size or spelling. The time of an event is that of the first of its source's `time_fields` (dotted paths)
    that is usable; without any, no event happened during any time.
    """
    times = tuple(tuple(field.split(".")) for field in time_fields) if _asks_for_time(expression) else ()
    tree = _tree_of((*paths_of(expression), *times))
    shape = _type_of(tree, top=True) if _size(tree) <= _MAX_SHAPES else dict[str, Any]
    holds = _compile(expression, times)
    if isinstance(expression, During):
        return _TimeMatcher(shape, holds, expression, times)
    return Matcher(shape, holds)


def select(body: bytes, matches: Matcher) -> tuple[bytes, list[int]]:
    """The events of canonical NDJSON that match, and the position of each in `body` (0-based)."""
    kept = matches.positions_in(body)
    if not kept or len(kept) == body.count(b"\n"):
        return (body if kept else b""), kept
    return b"".join(_runs(body, kept)), kept


def _runs(body: bytes, kept: list[int]) -> Iterator[memoryview]:
    """The kept lines, those that follow each other in one piece."""
    starts = [0]
    for _ in range(kept[-1] + 1):
        starts.append(body.index(b"\n", starts[-1]) + 1)
    view, first = memoryview(body), kept[0]
    for position, following in zip(kept, [*kept[1:], -1], strict=True):
        if following != position + 1:
            yield view[starts[first] : starts[position + 1]]
            first = following


def _asks_for_time(expression: Expression) -> bool:
    match expression:
        case During():
            return True
        case Not(term=term):
            return _asks_for_time(term)
        case And(terms=terms) | Or(terms=terms):
            return any(map(_asks_for_time, terms))
        case Compare():
            return False


def _tree_of(paths: Iterable[Path]) -> _Tree:
    """The wanted paths as nested dictionaries; a path that ends inside another swallows the longer one."""
    tree: _Tree = {}
    for path in sorted(set(paths), key=len):
        level = tree
        for key in path[:-1]:
            below = level.setdefault(key, {})
            if below is None:
                break
            level = below
        else:
            level.setdefault(path[-1], None)
    return tree


def _size(tree: _Tree) -> int:
    return 1 + sum(_size(below) for below in tree.values() if below is not None)


def _type_of(tree: _Tree, top: bool = False) -> Any:
    """The msgspec type that decodes the wanted paths and skips the rest."""
    if any(_UNFIT.intersection(key) for key in tree):
        return dict[str, Any] if top else Any
    fields = [(_attribute(key), Any if below is None else _type_of(below), None) for key, below in tree.items()]
    shape: Any = msgspec.defstruct("Wanted", fields, rename={_attribute(key): key for key in tree}, gc=False)
    return shape if top else shape | list[Any] | str | int | float | bool | None


def _attribute(key: str) -> str:
    """A Python identifier that stands for any key, one to one."""
    return "f_" + key.encode("utf-8", "surrogatepass").hex()


def _getter(path: Path) -> _Getter:
    """Fetches the value at the path; None where it is missing."""
    steps = [(_attribute(key), key) for key in path]

    def get(event: Any) -> Any:
        value = event
        for attribute, key in steps:
            if isinstance(value, dict):
                value = value.get(key)
            elif isinstance(value, msgspec.Struct):
                value = getattr(value, attribute)
            else:
                return None
        return value

    return get


def _compile(expression: Expression, times: tuple[Path, ...]) -> _Predicate:
    match expression:
        case Compare(path=path, op=op, value=value):
            get, test = _getter(path), comparison(op, value)
            return lambda event: test(get(event))
        case During():
            return _compile_during(expression, times)
        case Not(term=term):
            inner = _compile(term, times)
            return lambda event: not inner(event)
        case And(terms=terms):
            every = [_compile(each, times) for each in terms]
            return every[0] if len(every) == 1 else lambda event: all(each(event) for each in every)
        case Or(terms=terms):
            some = [_compile(each, times) for each in terms]
            return some[0] if len(some) == 1 else lambda event: any(each(event) for each in some)


def _compile_during(during: During, times: tuple[Path, ...]) -> _Predicate:
    getters = [_getter(path) for path in times]
    low, high = _limits(during)

    def holds(event: Any) -> bool:
        for get in getters:
            if (ms := to_epoch_ms(get(event))) is not None:
                return low <= ms < high
        return False

    return holds


def _limits(during: During) -> tuple[int, int]:
    return during.start_ms or 0, LAST_MS + 1 if during.end_ms is None else during.end_ms


def _within(values: list[Any], during: During) -> list[int] | None:
    """The positions of the times in the range, where all are integers or UTC strings of one shape; else None."""
    low, high = _limits(during)
    if set(map(type, values)) == {int}:
        if min(values) < 0 or max(values) > LAST_MS:
            return None
        return [position for position, ms in enumerate(values) if low <= ms < high]
    moments = _moments(values)
    if moments is None:
        return None
    start, end = _at(low), _at(high)
    return [position for position, moment in enumerate(moments) if start <= moment < end]


def _moments(values: list[Any]) -> list[dt.datetime] | None:
    first = values[0]
    if type(first) is not str or not first.endswith("Z") or to_epoch_ms(first) is None:
        return None
    try:
        joined = "".join(values)
        if joined.encode().translate(_DIGITS) != first.encode().translate(_DIGITS) * len(values):
            return None
        moments = list(map(dt.datetime.fromisoformat, values))
    except (TypeError, ValueError):
        return None
    return moments if min(moments) >= EPOCH else None


def _at(ms: int) -> dt.datetime:
    """The moment, or the last one that there is."""
    return EPOCH + dt.timedelta(milliseconds=max(ms, 0)) if ms <= LAST_MS else dt.datetime.max.replace(tzinfo=dt.UTC)


def _loads(line: bytes) -> Any:
    return json.loads(line, parse_int=_parse_int)


def _parse_int(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:  # beyond the interpreter's limit of digits: as good as infinite in a comparison
        return float(digits)
