"""Parses Keen's filters, a list of triples, of its API 2.0 and of 3.0."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from eventferry.query.expression import And, Compare, During, Expression, Not, Op, Or, Path, Value
from eventferry.query.operands import fault_of_operand
from eventferry.query.problems import Findings, QueryError, Where, fault_of_path, meant, shown
from eventferry.query.timeframe import parse_instant

Version = Literal[2, 3]

_NAME, _OPERATOR, _VALUE, _SHORT_VALUE, _OPERANDS = "property_name", "operator", "property_value", "value", "operands"
_FORM = '{"property_name": "body:amount", "operator": "gt", "property_value": 3.5}'
_TWO = (Op.EQ, Op.NE, Op.LT, Op.GT, Op.LTE, Op.GTE, Op.EXISTS, Op.IN)
_OPERATORS: dict[Version, dict[str, Op]] = {
    2: {op.value: op for op in _TWO},
    3: {op.value: op for op in (*_TWO, Op.CONTAINS, Op.NOT_CONTAINS, Op.REGEX)},
}
_TEXT, _NUMBER, _BOOLEAN = "a text", "a number", "true or false"
_ANY = (_TEXT, _NUMBER, _BOOLEAN)
_TYPES: dict[Op, tuple[str, ...]] = {  # what the documents let each operator take
    Op.EQ: _ANY,
    Op.NE: (_TEXT, _NUMBER),
    Op.LT: (_TEXT, _NUMBER),
    Op.GT: (_TEXT, _NUMBER),
    Op.LTE: (_NUMBER,),
    Op.GTE: (_NUMBER,),
    Op.EXISTS: (_BOOLEAN,),
    Op.IN: _ANY,  # each of the list
    Op.CONTAINS: _ANY,
    Op.NOT_CONTAINS: _ANY,
    Op.REGEX: (_TEXT,),
}


def parse_filters(data: object, *, version: Version) -> Expression | None:
    """The expression of a list of filters that all must hold; None for an empty list.

    Paths are `body:user:email` in version 2, where `body:` is the event itself and may be left out, and `user.email`
    in version 3. `header:timestamp` and `keen.timestamp` are the event's time. Raises QueryError.
    """
    findings = Findings()
    parser = _Parser(version, findings)
    if not isinstance(data, list | tuple):
        raise QueryError([((), f"{shown(data)} is not a list of filters; write [{_FORM}] or []")])
    terms = tuple(parser.parse(item, (index,), 0) for index, item in enumerate(data))
    findings.end()
    if not terms:
        return None
    return terms[0] if len(terms) == 1 else And(terms)


def parse_property(name: object, *, version: Version) -> Path:
    """The path of one property, named as filters name it; () for the event's time. Raises QueryError."""
    findings = Findings()
    path = _Parser(version, findings).parse_name(name, ())
    findings.end()
    assert path is not None, name
    return path


class _Parser:
    """Reads single filters of one version."""

    def __init__(self, version: Version, findings: Findings) -> None:
        self._version = version
        self._operators = _OPERATORS[version]
        self._findings = findings

    def parse(self, data: object, where: Where, depth: int) -> Expression:
        """One filter; what stands for a bad one is noted in the findings, and of no use."""
        if not isinstance(data, Mapping):
            return self._refuse(where, f"{shown(data)} is not a filter; write {_FORM}")
        if data.get(_OPERATOR) == "or" and self._version == 3:
            return self._parse_or(data, where, depth)
        for key in data:
            if key not in (_NAME, _OPERATOR, _VALUE, _SHORT_VALUE):
                return self._refuse((*where, key), f"is not part of a filter; write {_FORM}")
        op = self._parse_operator(data.get(_OPERATOR), (*where, _OPERATOR))
        name = self.parse_name(data.get(_NAME), (*where, _NAME))
        at = (*where, _SHORT_VALUE if _SHORT_VALUE in data else _VALUE)
        if (_VALUE in data) is (_SHORT_VALUE in data):
            return self._refuse(at, "is there twice; write property_value only" if _VALUE in data else "is missing")
        if op is None or name is None:
            return And(())
        self._findings.count_comparison(where)
        value = data[at[-1]]
        return self._compare_time(op, value, at) if name == () else self._compare(name, op, value, at)

    def _parse_or(self, data: Mapping[str, Any], where: Where, depth: int) -> Expression:
        self._findings.check_depth(depth + 1, where)
        operands = data.get(_OPERANDS)
        if data.keys() != {_OPERATOR, _OPERANDS} or not isinstance(operands, list | tuple) or not operands:
            return self._refuse(where, f'is no "or"; write {{"operator": "or", "operands": [{_FORM}, …]}}')
        return Or(tuple(self.parse(item, (*where, _OPERANDS, at), depth + 1) for at, item in enumerate(operands)))

    def _parse_operator(self, word: object, where: Where) -> Op | None:
        if isinstance(word, str) and word in self._operators:
            return self._operators[word]
        known = f"one of {', '.join(self._operators)}" + (", or" if self._version == 3 else "")
        if word is None:
            self._refuse(where, f"is missing; {known}")
        elif word == "within":
            self._refuse(where, f"within is not supported: there is no search by distance; {known}")
        elif isinstance(word, str):
            later = word in _OPERATORS[3] or word == "or"
            hint = " in this version" if later else meant(word, self._operators)
            self._refuse(where, f"{shown(word)} is no operator{hint}; {known}")
        else:
            self._refuse(where, f"{shown(word)} is no operator; {known}")
        return None

    def parse_name(self, name: object, where: Where) -> Path | None:
        """The path of a property; () for the time of the event, None where it is refused."""
        if not isinstance(name, str):
            example = "body:user:email" if self._version == 2 else "user.email"
            self._refuse(where, "is missing" if name is None else f'{shown(name)} is no text; write "{example}"')
            return None
        path = tuple(name.split(":" if self._version == 2 else "."))
        if name == ("header:timestamp" if self._version == 2 else "keen.timestamp"):
            return ()
        if self._version == 2 and path[0] == "header" and len(path) > 1:
            self._refuse(where, f"{shown(name)} is not known: of the header there is header:timestamp only")
            return None
        path = path[1:] if self._version == 2 and path[0] == "body" and len(path) > 1 else path
        fault = fault_of_path(path) if all(path) else f"{shown(name)} has an empty part"
        if fault:
            self._refuse(where, fault)
            return None
        return path

    def _compare(self, path: Path, op: Op, value: Any, where: Where) -> Expression:
        if op is Op.REGEX:
            self._findings.count_pattern(where)
        fault = _fault_of_types(op, value) or fault_of_operand(op, value)
        if fault:
            return self._refuse(where, fault)
        checked: Value = tuple(value) if isinstance(value, list | tuple) else value
        return Compare(path, op, checked)

    def _compare_time(self, op: Op, value: Any, where: Where) -> Expression:
        """The comparison of the event's time with ISO 8601 operands, as ranges of time."""
        if op is Op.EXISTS:
            ever = During(None, None)
            if not isinstance(value, bool):
                return self._refuse(where, f"{shown(value)} is neither true nor false")
            return ever if value else Not(ever)
        if op in (Op.CONTAINS, Op.NOT_CONTAINS, Op.REGEX):
            return self._refuse(where, f"{op} does not go with the event's time; compare it with gt, gte, lt, lte")
        try:
            if op is Op.IN:
                return self._one_of_times(value, where)
            return _during(op, parse_instant(value, where))
        except QueryError as error:
            return self._refuse(*error.problems[0])

    def _one_of_times(self, values: Any, where: Where) -> Expression:
        if fault := fault_of_operand(Op.IN, values):
            return self._refuse(where, fault)
        for _ in values[1:]:
            self._findings.count_comparison(where)
        return Or(tuple(_during(Op.EQ, parse_instant(each, (*where, at))) for at, each in enumerate(values)))

    def _refuse(self, where: Where, text: str) -> Expression:
        self._findings.add(where, text)
        return And(())


def _during(op: Op, ms: int) -> Expression:
    ranges: dict[Op, Callable[[], Expression]] = {
        Op.EQ: lambda: During(ms, ms + 1),
        Op.NE: lambda: Not(During(ms, ms + 1)),
        Op.GT: lambda: During(ms + 1, None),
        Op.GTE: lambda: During(ms, None),
        Op.LT: lambda: During(None, ms),
        Op.LTE: lambda: During(None, ms + 1),
    }
    return ranges[op]()


def _fault_of_types(op: Op, value: object) -> str:
    """Which type the operator does not take; "" where it takes the value."""
    values = value if op is Op.IN and isinstance(value, list | tuple) else (value,)
    if op is Op.IN and values == (value,):
        return ""  # no list at all: told elsewhere
    allowed = _TYPES[op]
    for each in values:
        if _type_of(each) not in allowed:
            hint = "; gt and lt take texts, too" if op in (Op.GTE, Op.LTE) and isinstance(each, str) else ""
            return f"{shown(each)} does not go with {op}, which takes {' or '.join(allowed)}{hint}"
    return ""


def _type_of(value: object) -> str:
    if isinstance(value, bool):
        return _BOOLEAN
    return _NUMBER if isinstance(value, int | float) else _TEXT if isinstance(value, str) else ""
