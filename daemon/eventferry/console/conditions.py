"""The filter of the create form: rows of field, operator and value, turned into the native form and into words."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# What people choose, and the native operator; "missing" is exists = false.
OPERATORS = {
    "eq": "is",
    "ne": "is not",
    "in": "is one of",
    "not_in": "is none of",
    "gt": "is greater than",
    "gte": "is at least",
    "lt": "is less than",
    "lte": "is at most",
    "contains": "contains",
    "not_contains": "does not contain",
    "starts_with": "starts with",
    "ends_with": "ends with",
    "regex": "matches the pattern",
    "exists": "exists",
    "missing": "is missing",
}
KINDS = {"auto": "Detect", "text": "Text", "number": "Number", "boolean": "True / false"}

_WITHOUT_VALUE = ("exists", "missing")
_OF_TEXT = ("starts_with", "ends_with", "regex")
_LONGEST = 60


@dataclass(frozen=True, slots=True)
class Row:
    """One condition as it was typed."""

    field: str = ""
    op: str = "eq"
    value: str = ""
    kind: str = "auto"

    @property
    def is_blank(self) -> bool:
        """Whether nothing was typed."""
        return not self.field.strip() and not self.value.strip()


def as_filter(rows: Iterable[Row], match: str) -> list[dict[str, Any]]:
    """The native filter of the rows that are not blank. Raises ValueError: a sentence that names the condition."""
    terms = [_as_term(row, number) for number, row in enumerate(rows, 1) if not row.is_blank]
    return [{"or": terms}] if match == "any" and len(terms) > 1 else terms


def parse_json(text: str) -> Any:
    """The native filter as it was typed. Raises ValueError with the place of what is wrong."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def describe(filter_: object) -> str:
    """A native filter in words, where it is a plain list: `event_type is pageView, n is at least 5`."""
    if not filter_:
        return ""
    terms = filter_ if isinstance(filter_, list) else [filter_]
    if len(terms) == 1 and isinstance(terms[0], Mapping) and isinstance(terms[0].get("or"), list):
        return " or ".join(map(_describe_term, terms[0]["or"]))
    return ", ".join(map(_describe_term, terms))


def _as_term(row: Row, number: int) -> dict[str, Any]:
    if row.op not in OPERATORS:
        raise ValueError(f"condition {number}: {row.op!r} is not an operator of the list")
    field = row.field.strip()
    if not field:
        raise ValueError(f"condition {number} has a value but no field; name one, such as event_type")
    if row.op in _WITHOUT_VALUE:
        return {"field": field, "exists": row.op == "exists"}
    if row.op in ("in", "not_in"):
        values = [each.strip() for each in row.value.split(",") if each.strip()]
        if not values:
            raise ValueError(f"condition {number}: write one value or more, with commas between them")
        return {"field": field, row.op: [_typed(each, row.kind, number) for each in values]}
    kind = "text" if row.op in _OF_TEXT else row.kind
    return {"field": field, row.op: _typed(row.value, kind, number)}


def _typed(text: str, kind: str, number: int) -> str | int | float | bool:
    """The value that the text stands for: types are strict, 1 is not "1"."""
    if kind == "text":
        return text
    plain = text.strip()
    if kind != "number" and plain.lower() in ("true", "false"):
        return plain.lower() == "true"
    if kind == "boolean":
        raise ValueError(f"condition {number}: {text[:_LONGEST]!r} is neither true nor false")
    if (found := _number(plain)) is not None:
        return found
    if kind == "number":
        raise ValueError(f"condition {number}: {text[:_LONGEST]!r} is not a number; write 42 or 0.5")
    return text


def _number(text: str) -> int | float | None:
    if not text.isascii() or len(text) > 40 or not (text[:1].isdigit() or text[:1] == "-"):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, int | float) and abs(found) != float("inf") else None


def _describe_term(term: object) -> str:
    if not isinstance(term, Mapping) or "field" not in term or len(term) != 2:
        return _short(json.dumps(term, ensure_ascii=False))
    op = next(each for each in term if each != "field")
    value = term[op]
    if op == "exists":
        return f"{term['field']} {OPERATORS['exists' if value else 'missing']}"
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"{_short(str(term['field']))} {OPERATORS.get(op, op)} {_short(shown)}"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"is not JSON: {name} is no number of it")
