"""Parses the product's own form of filters, field lists and redactions, as written in the configuration."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from eventferry.query.expression import And, Compare, Expression, Not, Op, Or, Path, Scalar, Value, split_path
from eventferry.query.transform import Redaction, Transform

Where = tuple[str | int, ...]
Problem = tuple[Where, str]
_Pair = tuple[Any, Any, Where, Where]  # field, action, and where each is written

_OPERATORS: dict[str, Op] = {
    "equals": Op.EQ,
    "not_equals": Op.NE,
    "in": Op.IN,
    "not_in": Op.IN,
    "exists": Op.EXISTS,
    "prefix": Op.STARTS_WITH,
    "suffix": Op.ENDS_WITH,
    "contains": Op.CONTAINS,
    "not_contains": Op.NOT_CONTAINS,
    "gt": Op.GT,
    "gte": Op.GTE,
    "lt": Op.LT,
    "lte": Op.LTE,
}
_COMBINED = ("any", "all", "not")
_FORM = '{field = "event_type", equals = "pageView"}'


class QueryError(ValueError):
    """What was written is not a filter or transform. `problems` holds (place inside it, sentence) pairs."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{_dotted(where)}: {text}" if where else text for where, text in problems))


def parse_filter(data: object) -> Expression | None:
    """The expression of a table or list of tables that all must hold; None for an empty list.

    A table is `{field, <operator> = value, …}`, `{any = [tables]}`, `{all = [tables]}` or `{not = table}`. Operators:
    equals, not_equals, in, not_in, exists, prefix, suffix, contains, not_contains, gt, gte, lt, lte. Raises QueryError.
    """
    problems: list[Problem] = []
    expression = _parse_all(data, (), problems)
    if problems:
        raise QueryError(problems)
    return None if expression == And(()) else expression


def parse_transform(
    filter: object = (), fields: object = (), drop: object = (), redact: object = (), salt: str = ""
) -> Transform:
    """The transform of a sink's four keys. Raises QueryError whose places begin with the key."""
    problems: list[Problem] = []
    expression = _parse_all(filter, ("filter",), problems)
    transform = Transform(
        filter=None if expression == And(()) else expression,
        fields=_parse_paths(fields, ("fields",), problems),
        drop=_parse_paths(drop, ("drop",), problems),
        redact=_parse_redact(redact, problems),
        salt=salt.encode(),
    )
    if problems:
        raise QueryError(problems)
    return transform


def _parse_all(data: object, where: Where, problems: list[Problem]) -> Expression:
    if isinstance(data, Mapping):
        return _parse_table(data, where, problems)
    if not isinstance(data, list | tuple):
        problems.append((where, f"{data!r} is not a filter; write a list of tables such as [{_FORM}]"))
        return And(())
    terms = tuple(_parse_item(item, (*where, index), problems) for index, item in enumerate(data))
    return terms[0] if len(terms) == 1 else And(terms)


def _parse_item(data: object, where: Where, problems: list[Problem]) -> Expression:
    if isinstance(data, Mapping):
        return _parse_table(data, where, problems)
    problems.append((where, f"{data!r} is not a table; write {_FORM}"))
    return And(())


def _parse_table(table: Mapping[str, Any], where: Where, problems: list[Problem]) -> Expression:
    if "field" not in table and any(word in table for word in _COMBINED):
        return _parse_combined(table, where, problems)
    path = _parse_path(table.get("field"), (*where, "field"), problems)
    terms = [
        _parse_compare(path, key, value, (*where, key), problems) for key, value in table.items() if key != "field"
    ]
    if not terms:
        problems.append((where, f"says nothing of the field; write {_FORM}, or one of {', '.join(_OPERATORS)}"))
    return terms[0] if len(terms) == 1 else And(tuple(terms))


def _parse_combined(table: Mapping[str, Any], where: Where, problems: list[Problem]) -> Expression:
    word = next(iter(table))
    if len(table) != 1:
        problems.append((where, "any, all and not stand alone in their table"))
    below = (*where, word)
    if word == "not":
        return Not(_parse_all(table[word], below, problems))
    if not isinstance(table[word], list | tuple) or not table[word]:
        problems.append((below, f"is not a list of tables; write {word} = [{_FORM}, …]"))
        return And(())
    terms = tuple(_parse_item(item, (*below, index), problems) for index, item in enumerate(table[word]))
    return Or(terms) if word == "any" else And(terms)


def _parse_compare(path: Path, key: str, value: object, where: Where, problems: list[Problem]) -> Expression:
    op = _OPERATORS.get(key)
    if op is None:
        problems.append((where, f"is no operator; one of {', '.join(_OPERATORS)}"))
        return And(())
    fault = _fault(op, value)
    if fault:
        problems.append((where, fault))
        return And(())
    checked: Value = tuple(value) if isinstance(value, list | tuple) else value  # type: ignore[assignment]
    compare = Compare(path, op, checked)
    return Not(compare) if key == "not_in" else compare


def _fault(op: Op, value: object) -> str:
    """What is wrong with the value of an operator; "" where nothing is."""
    if op is Op.IN:
        if not isinstance(value, list | tuple) or not value:
            return f'{value!r} is not a list of values; write ["a", "b"]'
        return next((_no_scalar(each) for each in value if not isinstance(each, get_args(Scalar))), "")
    if op is Op.EXISTS:
        return "" if isinstance(value, bool) else f"{value!r} is neither true nor false"
    if op in (Op.STARTS_WITH, Op.ENDS_WITH):
        return "" if isinstance(value, str) and value else f"{value!r} is not a text to compare with"
    if op in (Op.GT, Op.GTE, Op.LT, Op.LTE):
        ordered = isinstance(value, str | int | float) and not isinstance(value, bool)
        return "" if ordered else f"{value!r} has no order; write a number or a text"
    return "" if isinstance(value, get_args(Scalar)) else _no_scalar(value)


def _no_scalar(value: object) -> str:
    if hasattr(value, "isoformat"):
        return f'{value} is a date; write it as events do: a text "{value.isoformat()}" or epoch milliseconds'
    return f"{value!r} is not a text, number or true/false"


def _parse_path(text: object, where: Where, problems: list[Problem]) -> Path:
    try:
        if isinstance(text, str):
            return split_path(text)
        problems.append(
            (where, 'is missing; write field = "attributes.url"' if text is None else f"{text!r} is no text")
        )
    except ValueError as error:
        problems.append((where, str(error)))
    return ("",)


def _parse_paths(data: object, where: Where, problems: list[Problem]) -> tuple[Path, ...]:
    if not isinstance(data, list | tuple):
        problems.append((where, f'{data!r} is not a list of fields; write ["event_type", "attributes.url"]'))
        return ()
    return tuple(_parse_path(each, (*where, index), problems) for index, each in enumerate(data))


def _parse_redact(data: object, problems: list[Problem]) -> tuple[Redaction, ...]:
    pairs: list[_Pair]
    if isinstance(data, Mapping):
        pairs = list(_flat(data, ()))
    elif isinstance(data, list | tuple):
        pairs = [_redact_pair(item, index, problems) for index, item in enumerate(data)]
    else:
        problems.append((("redact",), f'{data!r} is not a table of fields; write {{"client.client_id" = "hash"}}'))
        return ()
    rules: list[Redaction] = []
    for name, action, at_name, at_action in pairs:
        path = _parse_path(name, at_name, problems)
        if action not in ("remove", "hash"):
            problems.append((at_action, f'{action!r} is no action; write "remove" or "hash"'))
        elif any(rule.path == path for rule in rules):
            problems.append((at_name, f"{name!r} is named twice"))
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


def _redact_pair(item: object, index: int, problems: list[Problem]) -> _Pair:
    where: Where = ("redact", index)
    if not isinstance(item, Mapping) or item.keys() != {"field", "action"}:
        problems.append((where, f'{item!r} is no redaction; write {{field = "client.client_id", action = "hash"}}'))
        return "x", "remove", where, where
    return item["field"], item["action"], (*where, "field"), (*where, "action")


def _dotted(where: Where) -> str:
    text = ""
    for step in where:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
