"""The one syntax tree of filters, whatever form they were written in."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Path = tuple[str, ...]
Scalar = str | int | float | bool | None
Value = Scalar | tuple[Scalar, ...]


class Op(StrEnum):
    """How a field is compared with a value. Types are strict: 1 is not "1", true is not 1; missing equals null."""

    EQ = "eq"
    NE = "ne"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    EXISTS = "exists"  # value True: there and not null; False: missing or null
    IN = "in"  # value is a tuple
    CONTAINS = "contains"  # a string contains a string, an array contains an element
    NOT_CONTAINS = "not_contains"
    STARTS_WITH = "starts_with"
    ENDS_WITH = "ends_with"
    REGEX = "regex"  # a string matches somewhere; RE2 syntax, linear time


@dataclass(frozen=True, slots=True)
class Compare:
    """One field against one value."""

    path: Path
    op: Op
    value: Value


@dataclass(frozen=True, slots=True)
class And:
    """Every term holds; without terms it is true."""

    terms: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one term holds; without terms it is false."""

    terms: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The term does not hold."""

    term: "Expression"


@dataclass(frozen=True, slots=True)
class During:
    """The event's time is usable and start <= time < end, epoch ms; None: open on that side."""

    start_ms: int | None
    end_ms: int | None


Expression = Compare | And | Or | Not | During


def split_path(text: str) -> Path:
    """The keys of a dotted path, `attributes.url`, or of a JSON pointer, `/a.b/c`, for keys that hold dots.

    Raises ValueError for an empty key in a dotted path.
    """
    if text.startswith("/"):
        return tuple(key.replace("~1", "/").replace("~0", "~") for key in text[1:].split("/"))
    keys = tuple(text.split("."))
    if not all(keys):
        raise ValueError(f"{text!r} has an empty key; write a dotted path such as attributes.url")
    return keys


def join_path(path: Path) -> str:
    """The shortest text that split_path reads as this path."""
    if all(path) and not any("." in key for key in path) and not path[0].startswith("/"):
        return ".".join(path)
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in path)


def paths_of(expression: Expression) -> Iterator[Path]:
    """Every field that the expression looks at, with repetitions."""
    match expression:
        case Compare(path=path):
            yield path
        case Not(term=term):
            yield from paths_of(term)
        case And(terms=terms) | Or(terms=terms):
            for each in terms:
                yield from paths_of(each)
        case During():
            pass  # the source says where the time is


def as_data(expression: Expression) -> list[Any]:
    """The expression as nested lists that JSON can hold; equal expressions give equal lists."""
    match expression:
        case Compare(path=path, op=op, value=value):
            return [op.value, list(path), list(value) if isinstance(value, tuple) else value]
        case Not(term=term):
            return ["not", as_data(term)]
        case And(terms=terms):
            return ["and", *(as_data(each) for each in terms)]
        case Or(terms=terms):
            return ["or", *(as_data(each) for each in terms)]
        case During(start_ms=start_ms, end_ms=end_ms):
            return ["during", start_ms, end_ms]


def from_data(data: list[Any]) -> Expression:
    """The inverse of as_data, for what was written down by this product itself."""
    match data:
        case ["not", term]:
            return Not(from_data(term))
        case ["and", *terms]:
            return And(tuple(from_data(each) for each in terms))
        case ["or", *terms]:
            return Or(tuple(from_data(each) for each in terms))
        case ["during", start_ms, end_ms]:
            return During(start_ms, end_ms)
        case [op, path, value]:
            return Compare(tuple(path), Op(op), tuple(value) if isinstance(value, list) else value)
        case _:
            raise ValueError(f"not a stored filter: {data!r}")
