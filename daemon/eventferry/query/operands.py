"""What each operator may be compared with."""

from typing import get_args

from eventferry.query.expression import Op, Scalar
from eventferry.query.problems import MAX_VALUES, fault_of_number, fault_of_text, shown
from eventferry.query.regex import compile_pattern


def fault_of_operand(op: Op, value: object) -> str:
    """What is wrong with the value that an operator compares with; "" where nothing is."""
    match op:
        case Op.IN:
            return _fault_of_list(value)
        case Op.EXISTS:
            return "" if isinstance(value, bool) else f"{shown(value)} is neither true nor false"
        case Op.STARTS_WITH | Op.ENDS_WITH:
            text = isinstance(value, str) and value
            return fault_of_scalar(value) if text else f"{shown(value)} is not a text to compare with"
        case Op.GT | Op.GTE | Op.LT | Op.LTE:
            ordered = isinstance(value, str | int | float) and not isinstance(value, bool)
            return fault_of_scalar(value) if ordered else f"{shown(value)} has no order; write a number or a text"
        case Op.REGEX:
            return _fault_of_pattern(value)
        case _:
            return fault_of_scalar(value)


def fault_of_scalar(value: object) -> str:
    """Why events cannot hold this as one value; "" where they can."""
    if isinstance(value, str):
        return fault_of_text(value)
    if isinstance(value, float):
        return fault_of_number(value)
    if isinstance(value, get_args(Scalar)):
        return ""
    if hasattr(value, "isoformat"):
        return f'{value} is a date; write it as events do: a text "{value.isoformat()}" or epoch milliseconds'
    return f"{shown(value)} is not a text, number or true/false"


def _fault_of_list(value: object) -> str:
    if not isinstance(value, list | tuple) or not value:
        return f'{shown(value)} is not a list of values; write ["a", "b"]'
    if len(value) > MAX_VALUES:
        return f"has {len(value):,} values; a list has at most {MAX_VALUES:,}"
    return next((fault for each in value if (fault := fault_of_scalar(each))), "")


def _fault_of_pattern(value: object) -> str:
    if not isinstance(value, str) or not value:
        return f"{shown(value)} is not a pattern; write a text such as '^https://'"
    try:
        compile_pattern(value)
    except ValueError as error:
        return str(error)
    return ""
