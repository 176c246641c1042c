"""What each operator means for a value that was found."""

import operator
from collections.abc import Callable
from typing import Any

from eventferry.query.expression import Op, Scalar, Value
from eventferry.query.regex import compile_pattern

Test = Callable[[Any], bool]


def comparison(op: Op, wanted: Value) -> Test:
    """The comparison with one wanted value, as a function of the found value; None stands for missing."""
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
        case Op.REGEX:
            matches = compile_pattern(str(wanted))
            return lambda found: isinstance(found, str) and matches(found)
        case _:
            return _ordered(op, wanted)


def _scalar(wanted: Value) -> Scalar:
    if isinstance(wanted, tuple):
        raise TypeError("a list of values goes with the operator in only")
    return wanted


def _kind(value: Any) -> type:
    """What a JSON value counts as when types are compared: all numbers are one kind, true is none of them."""
    return float if type(value) is int else type(value)


def _one_of(wanted: tuple[Scalar, ...]) -> Test:
    choices = {(_kind(each), each) for each in wanted}

    def equals(found: Any) -> bool:
        if isinstance(found, list):
            return any((_kind(each), each) in choices for each in found if not isinstance(each, list | dict))
        if isinstance(found, dict):
            return False
        return (_kind(found), found) in choices

    return equals


def _contains(wanted: Scalar) -> Test:
    member = _one_of((wanted,))

    def contains(found: Any) -> bool:
        if isinstance(found, str):
            return isinstance(wanted, str) and wanted in found
        return isinstance(found, list) and member(found)

    return contains


def _ordered(op: Op, wanted: Value) -> Test:
    """Order exists among numbers and among strings (by code point); everything else is false."""
    compare: Callable[[Any, Any], bool] = getattr(operator, {"gte": "ge", "lte": "le"}.get(op.value, op.value))
    kind = _kind(wanted)
    if kind not in (float, str):
        return lambda found: False
    return lambda found: _kind(found) is kind and compare(found, wanted)
