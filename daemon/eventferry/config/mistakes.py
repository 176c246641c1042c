"""Turns what is wrong with a configuration into sentences with file, line, key, value and remedy."""

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from eventferry.config.locate import KeyPath, Locator
from eventferry.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong, at one key; an empty path means the file as a whole."""

    path: KeyPath
    text: str


class ConfigMistakes(ConfigError):
    """The configuration is wrong; every mistake at once."""

    def __init__(
        self, file: str, locator: Locator, mistakes: Iterable[Mistake], redact: Callable[[str], str] = str
    ) -> None:
        self.mistakes = tuple(dict.fromkeys(mistakes))
        in_order = sorted(self.mistakes, key=lambda each: locator.line(each.path) or 0)
        super().__init__(*(f"{place(file, locator, each.path)}: {redact(each.text)}" for each in in_order))


def place(file: str, locator: Locator, path: KeyPath) -> str:
    """Where a key stands: `config.toml:12: sources[0].interval`."""
    line = locator.line(path)
    where = file if line is None else f"{file}:{line}"
    return f"{where}: {dotted(path)}" if path else where


def dotted(path: Sequence[str | int]) -> str:
    """A key path as people write it: `sources[0].s3.region`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            key = step if re.fullmatch(r"[\w-]+", step) else repr(step)
            text += f".{key}" if text else key
    return text


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """`did you mean "interval"?`, or the whole choice where nothing is close."""
    choice = sorted(words)
    close = difflib.get_close_matches(word, choice, 1, 0.6)
    return f'did you mean "{close[0]}"?' if close else f"known are {', '.join(choice)}"


def mistakes_of(error: ValidationError, model: type[BaseModel], secrets: Collection[KeyPath]) -> Iterator[Mistake]:
    """What pydantic found, in the words of this product. Values at secret paths are not shown."""
    for detail in error.errors(include_url=False):
        path = detail["loc"]
        if detail["type"] == "nested":
            for where, text in detail["ctx"]["problems"]:
                yield Mistake((*path, *where), text)
        elif detail["type"] == "extra_forbidden":
            known = _fields_at(model, path[:-1])
            yield Mistake(path, f"unknown key; {did_you_mean(str(path[-1]), known)}")
        elif detail["type"] == "missing":
            yield Mistake(path, f"is missing; {_MISSING.get(str(path[-1]), 'write it')}")
        elif any(each[: len(path)] == path for each in secrets):
            yield Mistake(path, "its value, which is not shown because it is a secret, is not accepted")
        else:
            yield Mistake(path, _sentence(detail))


_MISSING = {
    "name": 'give it one that stays, such as name = "events"',
    "url": 'write url = "/srv/events", "s3://bucket/prefix", "gs://…" or "azure://…"',
    "type": 'write type = "file", or another one that `eventferry sinks` lists',
}

_KINDS = {
    "bool_type": "is neither true nor false; write true or false without quotes",
    "int_type": "is not a whole number; write it without quotes",
    "float_type": "is not a number; write it without quotes",
    "string_type": 'is not a text; write it in quotes "…"',
    "string_too_short": "is empty; write a text",
}


def _sentence(detail: ErrorDetails) -> str:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind in _KINDS:
        return f"{_shown(value)} {_KINDS[kind]}"
    if kind == "literal_error":
        choice = re.findall(r"'([^']*)'", str(context["expected"]))
        listed = " or ".join(f'"{each}"' for each in choice)
        return f"{_shown(value)} is not known; write {listed}"
    if kind in ("greater_than_equal", "greater_than"):
        return f"{_shown(value)} is too small; write {context.get('ge', context.get('gt'))} or more"
    if kind in ("less_than_equal", "less_than"):
        return f"{_shown(value)} is too large; write {context.get('le', context.get('lt'))} or less"
    if kind in ("tuple_type", "list_type", "dict_type", "model_type"):
        return _wrong_shape(kind, value, ".".join(step for step in detail["loc"] if isinstance(step, str)))
    said = detail["msg"]
    return f"{_shown(value)}: {said[:1].lower()}{said[1:]}"


def _wrong_shape(kind: str, value: Any, key: str) -> str:
    if kind in ("tuple_type", "list_type"):
        if isinstance(value, dict):
            return f"is one table where a list of tables is expected; write [[{key}]] in double brackets"
        return f'{_shown(value)} is not a list; write ["…"] or []'
    if isinstance(value, list):
        return f"is a list where one table is expected; write [{key}] in single brackets"
    return f"{_shown(value)} is not a table; write [{key}] and its keys below it"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _fields_at(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """The keys that the table at the path may have."""
    for step in path:
        if isinstance(step, str) and step in model.model_fields:
            inner = _model_in(model.model_fields[step].annotation)
            if inner is None:
                return []
            model = inner
    return [key for key in model.model_fields if key != "options"]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _model_in(each))), None)
