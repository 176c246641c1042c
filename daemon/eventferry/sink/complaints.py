"""Turns what pydantic says about a sink's options into sentences that name key, value and remedy, never a secret."""

import difflib
import json
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from eventferry.sink.safe import safe_text, safe_url


def option_problems(error: ValidationError, model: type[BaseModel], name: str) -> list[str]:
    """One sentence per mistake in the options of sink `name`."""
    known = [field.alias or key for key, field in model.model_fields.items()]
    said = dict.fromkeys(_sentence(detail, model, f"sinks.{name}", known) for detail in error.errors())
    return list(said)


def _sentence(detail: ErrorDetails, model: type[BaseModel], table: str, known: list[str]) -> str:
    where = _place(detail["loc"], model)
    key = ".".join([table, *where])
    if detail["type"] == "extra_forbidden":
        unknown = str(detail["loc"][-1])
        known = known if len(where) == 1 else _known_below(where[0], model)
        close = difflib.get_close_matches(unknown, known, 1)
        rest = f"did you mean {close[0]!r}?" if close else f"expected one of: {', '.join(known) or 'no options'}"
        return f"{key}: unknown key; {rest}"
    if detail["type"] == "missing":
        return f"{key}: missing; {_expected(detail)}"
    value = _shown(detail, model)
    said = detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if detail["type"] in ("value_error", "assertion_error"):
        return f"{key}: {said}" if said.startswith(repr(detail["input"])) else f"{key}: {value}{said}"
    return f"{key}: {value}{_expected(detail)}"


def _known_below(key: str, model: type[BaseModel]) -> list[str]:
    """The keys of the tables that option `key` holds."""
    nested = _models_of(model.model_fields[key].annotation) if key in model.model_fields else []
    return list(dict.fromkeys(field.alias or name for one in nested for name, field in one.model_fields.items()))


def _place(location: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    """The keys a person wrote: pydantic also lists the branches of a union, which look like type names."""
    return [str(step) for step in location if not _is_branch(str(step), model)]


def _is_branch(step: str, model: type[BaseModel]) -> bool:
    if step in model.model_fields:
        return False
    return "[" in step or step in ("str", "int", "float", "bool") or step in _model_names(model)


def _model_names(model: type[BaseModel]) -> set[str]:
    return {one.__name__ for field in model.model_fields.values() for one in _models_of(field.annotation)}


def _models_of(annotation: Any) -> list[type[BaseModel]]:
    return [one for one in _arguments(annotation) if isinstance(one, type) and issubclass(one, BaseModel)]


def _arguments(annotation: Any) -> Iterator[Any]:
    yield annotation
    for one in get_args(annotation):
        if not isinstance(one, str):
            yield from _arguments(one)


def _expected(detail: ErrorDetails) -> str:
    said = detail["msg"][:1].lower() + detail["msg"][1:]
    for prefix, instead in (
        ("input should be ", "expected "),
        ("field required", "this option has no default"),
    ):
        said = said.replace(prefix, instead)
    return said


def _shown(detail: ErrorDetails, model: type[BaseModel]) -> str:
    value = detail["input"]
    if not detail["loc"] or _is_secret(detail["loc"], model):
        return ""
    if isinstance(value, bool) or value is None:
        return f"{json.dumps(value)} "
    if isinstance(value, str):
        return f"{safe_text(safe_url(value) if '://' in value else value, 60)!r} "
    if isinstance(value, int | float):
        return f"{value} "
    return f"a {'table' if isinstance(value, dict) else type(value).__name__} "


def _is_secret(location: tuple[int | str, ...], model: type[BaseModel]) -> bool:
    """Whether the key, or a table above it, holds a secret or is unknown."""
    field = model.model_fields.get(str(location[0]))
    if field is None:
        return True
    if any(one in (SecretStr, SecretBytes) for one in _arguments(field.annotation)):
        return True
    nested = _models_of(field.annotation)
    below = location[1:]
    return bool(below) and any(str(below[0]) in one.model_fields and _is_secret(below, one) for one in nested)
