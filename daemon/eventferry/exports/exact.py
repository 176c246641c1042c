"""Events decoded so that every number keeps the text that it has in its file; only the integer -0 becomes 0."""

import json
from typing import Any

import msgspec

# Beyond this the interpreter refuses to turn digits into an integer.
_MAX_DIGITS = 4000


class Number(str):
    """A number as its text, where Python's own kinds of numbers would not give this text back."""

    __slots__ = ()


decode_exact = msgspec.json.Decoder(dict[str, Any], float_hook=Number).decode
_encode = msgspec.json.Encoder().encode


def decode_event(line: bytes) -> dict[str, Any]:
    """One event; numbers with a fraction or an exponent and integers of thousands of digits are Number, others int."""
    try:
        return decode_exact(line)
    except msgspec.DecodeError:  # an integer of thousands of digits
        pass
    event: dict[str, Any] = json.loads(line, parse_int=_parse_int, parse_float=Number)
    return event


def text_of(value: object) -> str:
    """A scalar as people write it in a cell: a string itself, numbers as in the file, true, false, nothing for null."""
    if value is None:
        return ""
    if value is True or value is False:
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


def as_json(value: object) -> str:
    """A decoded value as compact JSON with its numbers as they were."""
    return _encode(_with_raw_numbers(value)).decode()


def _with_raw_numbers(value: object) -> object:
    kind = type(value)
    if kind is Number:
        return msgspec.Raw(value.encode())  # type: ignore[attr-defined]
    if kind is list:
        return [_with_raw_numbers(each) for each in value]  # type: ignore[attr-defined]
    if kind is dict:
        return {key: _with_raw_numbers(each) for key, each in value.items()}  # type: ignore[attr-defined]
    return value


def _parse_int(digits: str) -> int | Number:
    return Number(digits) if len(digits) > _MAX_DIGITS else int(digits)
