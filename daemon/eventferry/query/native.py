"""Parses the product's own form of filters, field lists and redactions, of configuration and native API alike."""

from collections.abc import Iterator, Mapping
from typing import Any

from eventferry.query.expression import And, Compare, Expression, Not, Op, Or, Path, Value, split_path
from eventferry.query.operands import fault_of_operand
from eventferry.query.problems import Findings, Where, fault_of_path, meant, shown
from eventferry.query.transform import Redaction, Transform

_Pair = tuple[Any, Any, Where, Where]  # field, action, and where each is written

_OPERATORS: dict[str, Op] = {op.value: op for op in Op} | {"not_in": Op.IN}
_COMBINED = ("and", "or", "not")
_NEW_WORDS = {
    "equals": "eq",
    "not_equals": "ne",
    "prefix": "starts_with",
    "suffix": "ends_with",
    "any": "or",
    "all": "and",
}
_FORM = '{field = "event_type", eq = "pageView"}'


def parse_filter(data: object) -> Expression | None:
    """The expression of a table or list of tables that all must hold; None for an empty list.

    A table is `{field, <operator> = value, …}`, `{and = [tables]}`, `{or = [tables]}` or `{not = table}`. Operators:
    eq, ne, gt, gte, lt, lte, exists, in, not_in, contains, not_contains, starts_with, ends_with, regex. Raises
    QueryError.
    """
    findings = Findings()
    expression = _parse_all(data, (), findings, 0)
    findings.end()
    return None if expression == And(()) else expression


def parse_transform(
    filter: object = (), fields: object = (), drop: object = (), redact: object = (), salt: str = ""
) -> Transform:
    """The transform of a sink's four keys. Raises QueryError whose places begin with the key."""
    findings = Findings()
    expression = _parse_all(filter, ("filter",), findings, 0)
    transform = Transform(
        filter=None if expression == And(()) else expression,
        fields=_parse_paths(fields, ("fields",), findings),
        drop=_parse_paths(drop, ("drop",), findings),
        redact=_parse_redact(redact, findings),
        salt=salt.encode(),
    )
    findings.end()
    return transform


def _parse_all(data: object, where: Where, findings: Findings, depth: int) -> Expression:
    if isinstance(data, Mapping):
        return _parse_table(data, where, findings, depth)
    if not isinstance(data, list | tuple):
        findings.add(where, f"{shown(data)} is not a filter; write a list of tables such as [{_FORM}]")
        return And(())
    terms = tuple(_parse_item(item, (*where, index), findings, depth) for index, item in enumerate(data))
    return terms[0] if len(terms) == 1 else And(terms)


def _parse_item(data: object, where: Where, findings: Findings, depth: int) -> Expression:
    if isinstance(data, Mapping):
        return _parse_table(data, where, findings, depth)
    findings.add(where, f"{shown(data)} is not a table; write {_FORM}")
    return And(())


def _parse_table(table: Mapping[str, Any], where: Where, findings: Findings, depth: int) -> Expression:
    if "field" not in table and any(word in table for word in _COMBINED):
        return _parse_combined(table, where, findings, depth)
    for word in ("any", "all"):
        if "field" not in table and word in table:
            findings.add((*where, word), _no_operator(word))
            return And(())
    path = _parse_path(table.get("field"), (*where, "field"), findings)
    terms = [
        _parse_compare(path, key, value, (*where, key), findings) for key, value in table.items() if key != "field"
    ]
    if not terms:
        findings.add(where, f"says nothing of the field; write {_FORM}, or one of {', '.join(_OPERATORS)}")
    return terms[0] if len(terms) == 1 else And(tuple(terms))


def _parse_combined(table: Mapping[str, Any], where: Where, findings: Findings, depth: int) -> Expression:
    word = next(each for each in _COMBINED if each in table)
    if len(table) != 1:
        findings.add(where, "and, or and not stand alone in their table")
    below = (*where, word)
    findings.check_depth(depth + 1, below)
    if word == "not" and table[word]:
        return Not(_parse_all(table[word], below, findings, depth + 1))
    if word == "not" or not isinstance(table[word], list | tuple) or not table[word]:
        findings.add(below, f"is not a list of tables; write {word} = [{_FORM}, …]")
        return And(())
    terms = tuple(_parse_item(item, (*below, index), findings, depth + 1) for index, item in enumerate(table[word]))
    return Or(terms) if word == "or" else And(terms)


def _parse_compare(path: Path, key: str, value: object, where: Where, findings: Findings) -> Expression:
    op = _OPERATORS.get(key)
    if op is None:
        findings.add(where, _no_operator(key))
        return And(())
    findings.count_comparison(where)
    if op is Op.REGEX:
        findings.count_pattern(where)
    fault = fault_of_operand(op, value)
    if fault:
        findings.add(where, fault)
        return And(())
    checked: Value = tuple(value) if isinstance(value, list | tuple) else value  # type: ignore[assignment]
    compare = Compare(path, op, checked)
    return Not(compare) if key == "not_in" else compare


def _no_operator(key: str) -> str:
    if key in _NEW_WORDS:
        return f"is no operator; write {_NEW_WORDS[key]}"
    return f"is no operator{meant(key, _OPERATORS)}; one of {', '.join(_OPERATORS)}"


def _parse_path(text: object, where: Where, findings: Findings) -> Path:
    try:
        if isinstance(text, str):
            path = split_path(text)
            if not (fault := fault_of_path(path)):
                return path
            findings.add(where, fault)
        else:
            findings.add(
                where, 'is missing; write field = "attributes.url"' if text is None else f"{shown(text)} is no text"
            )
    except ValueError as error:
        findings.add(where, str(error))
    return ("",)


def _parse_paths(data: object, where: Where, findings: Findings) -> tuple[Path, ...]:
    if not isinstance(data, list | tuple):
        findings.add(where, f'{shown(data)} is not a list of fields; write ["event_type", "attributes.url"]')
        return ()
    return tuple(_parse_path(each, (*where, index), findings) for index, each in enumerate(data))


def _parse_redact(data: object, findings: Findings) -> tuple[Redaction, ...]:
    pairs: list[_Pair]
    if isinstance(data, Mapping):
        pairs = list(_flat(data, ()))
    elif isinstance(data, list | tuple):
        pairs = [_redact_pair(item, index, findings) for index, item in enumerate(data)]
    else:
        findings.add(("redact",), f'{shown(data)} is not a table of fields; write {{"client.client_id" = "hash"}}')
        return ()
    rules: list[Redaction] = []
    for name, action, at_name, at_action in pairs:
        path = _parse_path(name, at_name, findings)
        if action not in ("remove", "hash"):
            findings.add(at_action, f'{shown(action)} is no action; write "remove" or "hash"')
        elif any(rule.path == path for rule in rules):
            findings.add(at_name, f"{shown(name)} is named twice")
        else:
            rules.append(Redaction(path, action))
    return tuple(rules)


def _flat(table: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[_Pair]:
    """The fields of a table; TOML reads an unquoted `client.id = "hash"` as a table in a table, which is meant too."""
    for key, action in table.items():
        if isinstance(action, Mapping):
            yield from _flat(action, (*above, key))
        else:
            where = ("redact", *above, key)
            yield ".".join((*above, key)), action, where, where


def _redact_pair(item: object, index: int, findings: Findings) -> _Pair:
    where: Where = ("redact", index)
    if not isinstance(item, Mapping) or item.keys() != {"field", "action"}:
        findings.add(where, f'{shown(item)} is no redaction; write {{field = "client.client_id", action = "hash"}}')
        return "x", "remove", where, where
    return item["field"], item["action"], (*where, "field"), (*where, "action")
