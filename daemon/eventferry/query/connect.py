"""Parses Connect's filters, an object by path whose entries all must hold."""

from collections.abc import Mapping

from eventferry.query.expression import And, Compare, Expression, Op, Path
from eventferry.query.operands import fault_of_operand
from eventferry.query.problems import Findings, QueryError, Where, fault_of_path, meant, shown

_OPERATORS: dict[str, Op] = {
    "eq": Op.EQ,
    "neq": Op.NE,
    "gt": Op.GT,
    "gte": Op.GTE,
    "lt": Op.LT,
    "lte": Op.LTE,
    "exists": Op.EXISTS,
    "startsWith": Op.STARTS_WITH,
    "endsWith": Op.ENDS_WITH,
    "endsWidth": Op.ENDS_WITH,  # as the document spells it once
    "contains": Op.CONTAINS,
    "in": Op.IN,
}
_KNOWN = tuple(word for word in _OPERATORS if word != "endsWidth")
_FORM = '{"product": "apple", "price": {"gte": 10}}'
_COMBINING = ("or", "and", "not", "nor", "any", "all", "$or", "$and", "$not", "$nor")
_NO_COMBINING = "a Connect filter knows neither or, not nor nesting: all its entries must hold"


def parse_filter(data: object) -> Expression | None:
    """The expression of a filter such as {"product": "apple", "price": {"gte": 10}}; None for an empty one.

    Paths are dotted. Raises QueryError.
    """
    if not isinstance(data, Mapping):
        raise QueryError([((), f"{shown(data)} is not a filter; write {_FORM}")])
    findings = Findings()
    terms: list[Expression] = []
    for name, condition in data.items():
        terms += _parse_condition(name, condition, findings)
    findings.end()
    if not terms:
        return None
    return terms[0] if len(terms) == 1 else And(tuple(terms))


def _parse_condition(name: str, condition: object, findings: Findings) -> list[Compare]:
    where: Where = (name,)
    if isinstance(condition, list | tuple | Mapping) and name.lower() in _COMBINING:
        findings.add(where, f"{_NO_COMBINING}; send one query for each alternative")
        return []
    path = _parse_path(name, where, findings)
    if isinstance(condition, list | tuple):
        findings.add(where, f'is a bare list; write {{"in": {shown(condition)}}}')
        return []
    if not isinstance(condition, Mapping):
        return _parse_compare(path, "eq", condition, where, findings)
    if not condition:
        findings.add(where, f"has no operator; one of {', '.join(_KNOWN)}")
    return [
        compare
        for word, value in condition.items()
        for compare in _parse_compare(path, word, value, (name, word), findings)
    ]


def _parse_path(name: str, where: Where, findings: Findings) -> Path:
    path = tuple(name.split("."))
    fault = fault_of_path(path) if all(path) else 'has an empty part; write a path such as "user.city"'
    if fault:
        findings.add(where, fault)
    return path


def _parse_compare(path: Path, word: str, value: object, where: Where, findings: Findings) -> list[Compare]:
    op = _OPERATORS.get(word)
    findings.count_comparison(where)
    fault = _no_operator(word) if op is None else _fault_of_types(op, value) or fault_of_operand(op, value)
    if fault:
        findings.add(where, fault)
    if op is None or fault:
        return []
    return [Compare(path, op, tuple(value) if isinstance(value, list | tuple) else value)]  # type: ignore[arg-type]


def _no_operator(word: str) -> str:
    if word.lower() in _COMBINING:
        return f"is no operator: {_NO_COMBINING}"
    nested = "; a property of a property is written as a dotted path"
    return f"is no operator{meant(word, _KNOWN)}; one of {', '.join(_KNOWN)}{nested}"


def _fault_of_types(op: Op, value: object) -> str:
    """Which type the operator does not take; "" where it takes the value."""
    match op:
        case Op.GT | Op.GTE | Op.LT | Op.LTE:
            fits = isinstance(value, int | float) and not isinstance(value, bool)
            return "" if fits else f"{shown(value)} is not a number"
        case Op.CONTAINS:
            return "" if isinstance(value, str) and value else f"{shown(value)} is not a text to search for"
        case Op.EQ | Op.NE if value is None:
            return 'null is compared with {"exists": false}'
        case Op.IN if isinstance(value, list | tuple):
            if None in value or len({_kind(each) for each in value}) > 1:
                return f"{shown(value)} mixes types; its values are all texts, all numbers or all true/false"
    return ""


def _kind(value: object) -> type:
    return float if type(value) is int else type(value)
