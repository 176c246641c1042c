"""Whose an event is: what its file's key says, else a field of the event, else the defaults of its source."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from eventferry.exports.exact import text_of
from eventferry.exports.shape import Shape
from eventferry.exports.sources import Readable
from eventferry.query.expression import Path
from eventferry.query.scope import DEFAULT, Scope
from eventferry.store.layout import KeyInfo, Layout

# Which events of canonical NDJSON are taken, in their order.
Mask = Callable[[bytes], list[bool]]


@dataclass(frozen=True, slots=True)
class _Part:
    """One part of an owner: settled for all events of a file, or in a field of each."""

    settled: str  # also where the field is missing or holds no scalar
    field: Path | None


def judge(source: Readable, key: str, scope: Scope) -> "bool | Mask":
    """Whether the events of the file belong to the scope; where only they can tell, a function that asks them."""
    if scope.is_all:
        return True
    asked: list[tuple[_Part, frozenset[str]]] = []
    for part, names in zip(_parts_of(source, key), (scope.tenants, scope.projects, scope.collections), strict=True):
        if names is None:
            continue
        if part.field is not None:
            asked.append((part, frozenset(names)))
        elif part.settled not in names:
            return False
    return _mask(asked) if asked else True


def _mask(asked: list[tuple[_Part, frozenset[str]]]) -> Mask:
    shape = Shape([part.field for part, _ in asked if part.field is not None])

    def mask(body: bytes) -> list[bool]:
        taken: list[bool] = []
        for _, columns in shape.batches(body):
            answers = [
                [_name(value, part.settled) in names for value in column]
                for (part, names), column in zip(asked, columns, strict=True)
            ]
            taken += map(all, zip(*answers, strict=True))
        return taken

    return mask


def _name(value: Any, otherwise: str) -> str:
    return otherwise if value is None or isinstance(value, dict | list) else text_of(value)


def _parts_of(source: Readable, key: str) -> tuple[_Part, _Part, _Part]:
    info = _layout(source.key_pattern).match(key) or KeyInfo()
    return (
        _part(info.tenant, source.tenant_field, DEFAULT),
        _part(info.project, source.project_field, DEFAULT),
        _part(info.collection, source.collection_field, source.name),
    )


def _part(said: str | None, field: str | None, default: str) -> _Part:
    """An empty group says nothing."""
    if said:
        return _Part(said, None)
    return _Part(default, None if field is None else tuple(field.split(".")))


@lru_cache(maxsize=64)
def _layout(pattern: str | None) -> Layout:
    return Layout(pattern)
