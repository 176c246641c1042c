"""Answers whether one event, as JSON bytes, satisfies a filter, decoding no more of it than the filter needs."""

import json
import operator
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from eventferry.query.expression import And, Compare, Expression, Not, Op, Or, Path, Scalar, Value, paths_of

_Predicate = Callable[[Any], bool]
_Getter = Callable[[Any], Any]
_Tree = dict[str, "_Tree | None"]  # None: the value itself is wanted

_UNFIT = frozenset('\\"').union(map(chr, range(32)))  # characters that msgspec bars from the names of fields


def compile_filter(expression: Expression) -> Callable[[bytes], bool]:
    """A function that tells whether one JSON object (one line, newline or not) satisfies the expression.

    A path descends through objects only; an array in the middle of a path counts as missing. Comparing with an array
    means membership for eq, ne, in and contains, and is false for the others. Numbers compare by value, whatever
    their size or spelling.
    """
    tree = _tree_of(paths_of(expression))
    decode = msgspec.json.Decoder(_type_of(tree, top=True)).decode
    holds = _compile(expression)

    def matches(line: bytes) -> bool:
        try:
            event = decode(line)
        except msgspec.DecodeError:  # legal numbers beyond what msgspec holds: 1e400, thousands of digits
            return holds(_loads(line))
        return holds(event)

    return matches


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


def _compile(expression: Expression) -> _Predicate:
    match expression:
        case Compare(path=path, op=op, value=value):
            get, test = _getter(path), _test(op, value)
            return lambda event: test(get(event))
        case Not(term=term):
            inner = _compile(term)
            return lambda event: not inner(event)
        case And(terms=terms):
            every = [_compile(each) for each in terms]
            return every[0] if len(every) == 1 else lambda event: all(each(event) for each in every)
        case Or(terms=terms):
            some = [_compile(each) for each in terms]
            return some[0] if len(some) == 1 else lambda event: any(each(event) for each in some)


def _test(op: Op, wanted: Value) -> _Predicate:
    """The comparison with one wanted value, as a function of the found value."""
    match op:
        case Op.EQ:
            return _one_of((_scalar(wanted),))
        case Op.NE:
            same = _one_of((_scalar(wanted),))
            return lambda found: not same(found)
        case Op.IN:
            return _one_of(wanted if isinstance(wanted, tuple) else (wanted,))
        case Op.EXISTS:
            return (lambda found: found is not None) if wanted else (lambda found: found is None)
        case Op.CONTAINS:
            return _contains(_scalar(wanted))
        case Op.NOT_CONTAINS:
            inside = _contains(_scalar(wanted))
            return lambda found: not inside(found)
        case Op.STARTS_WITH:
            return lambda found: isinstance(found, str) and found.startswith(str(wanted))
        case Op.ENDS_WITH:
            return lambda found: isinstance(found, str) and found.endswith(str(wanted))
        case _:
            return _ordered(op, wanted)


def _scalar(wanted: Value) -> Scalar:
    if isinstance(wanted, tuple):
        raise TypeError("a list of values goes with the operator in only")
    return wanted


def _kind(value: Any) -> type:
    """What a JSON value counts as when types are compared: all numbers are one kind, true is none of them."""
    return float if type(value) is int else type(value)


def _one_of(wanted: tuple[Scalar, ...]) -> _Predicate:
    choices = {(_kind(each), each) for each in wanted}

    def equals(found: Any) -> bool:
        if isinstance(found, list):
            return any((_kind(each), each) in choices for each in found if not isinstance(each, list | dict))
        if isinstance(found, dict):
            return False
        return (_kind(found), found) in choices

    return equals


def _contains(wanted: Scalar) -> _Predicate:
    member = _one_of((wanted,))

    def contains(found: Any) -> bool:
        if isinstance(found, str):
            return isinstance(wanted, str) and wanted in found
        return isinstance(found, list) and member(found)

    return contains


def _ordered(op: Op, wanted: Value) -> _Predicate:
    """Order exists among numbers and among strings (by code point); everything else is false."""
    compare: Callable[[Any, Any], bool] = getattr(operator, {"gte": "ge", "lte": "le"}.get(op.value, op.value))
    kind = _kind(wanted)
    if kind not in (float, str):
        return lambda found: False
    return lambda found: _kind(found) is kind and compare(found, wanted)


def _loads(line: bytes) -> Any:
    return json.loads(line, parse_int=_parse_int)


def _parse_int(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:  # beyond the interpreter's limit of digits: as good as infinite in a comparison
        return float(digits)
