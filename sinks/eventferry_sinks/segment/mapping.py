"""Makes the body of one of Segment's calls of an event, by a table of what goes where; numbers keep their digits."""

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from eventferry.sink.columns import Column, steps_of

WHOLE = "."  # the path of the event itself
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_array = msgspec.json.Decoder(list[msgspec.Raw])
_NOTHING = (b"null", b"[]", b"{}")


def _as_paths(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class Take(BaseModel):
    """Where a value comes from: the first of `path` that is there, or always `value`. With `merge` the contents of all
    these branches, lists by their first element."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    path: Annotated[tuple[str, ...], BeforeValidator(_as_paths)] = ()
    value: Any = None
    form: Literal["value", "text", "time"] = Field(default="value", alias="as")
    merge: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.path) == (self.value is not None):
            raise ValueError("says nothing, or two things; expected a path or {value = …}")
        for path in self.path:
            if path != WHOLE:
                Column(path=(path,))
        return self


def as_take(value: object) -> object:
    """A path alone, a list of branches to merge, or a table."""
    if isinstance(value, str):
        return {"path": value}
    if isinstance(value, list | tuple):
        return {"path": value, "merge": True}
    if isinstance(value, Mapping) and not value.keys() & {"path", "value"}:
        raise ValueError('is a table of tables; expected the whole key in quotes, such as "context.page.path"')
    return value


class Event:
    """One event, of which only the branches that are asked for are decoded, each once."""

    def __init__(self, line: bytes) -> None:
        self._line = line
        self._branches: dict[tuple[str, ...], dict[str, msgspec.Raw]] = {(): _object.decode(line)}

    def raw(self, path: str) -> bytes | None:
        """The JSON text at a path; None where nothing is."""
        if path == WHOLE:
            return self._line
        *above, last = steps_of(path)
        found = self._branch(tuple(above)).get(last)
        text = None if found is None else bytes(found).strip()
        return None if text in _NOTHING else text

    def contents(self, path: str) -> Iterable[tuple[str, msgspec.Raw]]:
        """What a branch holds: of lists their first element, nothing of what is empty."""
        branch = _object.decode(self._line) if path == WHOLE else self._branch(steps_of(path))
        for key, raw in branch.items():
            text = bytes(raw).strip()
            if text[:1] == b"[" and path != WHOLE:
                items = _array.decode(text)
                text = bytes(items[0]).strip() if items else b"null"
            if text not in _NOTHING:
                yield key, msgspec.Raw(text)

    def _branch(self, steps: tuple[str, ...]) -> dict[str, msgspec.Raw]:
        known = self._branches.get(steps)
        if known is None:
            raw = self._branch(steps[:-1]).get(steps[-1])
            text = b"" if raw is None else bytes(raw).strip()
            if text[:1] == b"{":
                known = _object.decode(text)
            elif text[:1] == b"[":
                known = {str(number): item for number, item in enumerate(_array.decode(text))}
            else:
                known = {}
            self._branches[steps] = known
        return known


def fill(takes: Mapping[tuple[str, ...], Take], event: Event) -> tuple[dict[str, Any], list[str]]:
    """The call's fields, and the targets whose value is there and does not fit."""
    made: dict[str, Any] = {}
    misfits: list[str] = []
    for target, take in takes.items():
        value = _value(take, event, misfits, target)
        if value is None:
            continue
        node = made
        for step in target[:-1]:
            node = node.setdefault(step, {})
        if take.merge:
            value = {**node.get(target[-1], {}), **value}
        node[target[-1]] = value
    return made, misfits


def _value(take: Take, event: Event, misfits: list[str], target: tuple[str, ...]) -> Any:
    if take.value is not None:
        return take.value
    if take.merge:
        return {key: raw for path in take.path for key, raw in event.contents(path)} or None
    raw = next((raw for raw in map(event.raw, take.path) if raw is not None), None)
    if raw is None or take.form == "value":
        return None if raw is None else msgspec.Raw(raw)
    made = _text(raw) if take.form == "text" else _time(raw)
    if made is None and raw != b'""':
        misfits.append(".".join(target))
    return made


def _text(raw: bytes) -> Any:
    """Texts as they are, numbers and booleans as texts; None for what is empty, an object or a list."""
    if raw[:1] == b'"':
        return None if raw == b'""' else msgspec.Raw(raw)
    return None if raw[:1] in (b"{", b"[") else raw.decode()


def _time(raw: bytes) -> str | None:
    """ISO 8601 in UTC, of epoch milliseconds or ISO 8601, which is UTC where it names no offset."""
    try:
        value = msgspec.json.decode(raw, type=int | str)
        if isinstance(value, str) and not value.isdigit():
            moment = dt.datetime.fromisoformat(value)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
        else:
            moment = _EPOCH + dt.timedelta(milliseconds=int(value))
        return moment.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (msgspec.MsgspecError, ValueError, OverflowError):
        return None
