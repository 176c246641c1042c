"""What a sink wants of each event: which events, which of their fields, and what of them is hidden."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Self

import msgspec

from eventferry.query.evaluate import Matcher, compile_filter, select
from eventferry.query.expression import Expression, Path, as_data, from_data

_VERSION = 1  # raise it when the same settings begin to give other bytes: it is part of every fingerprint

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode

_Action = Callable[[Any], Any]  # takes the value, gives the value to write instead; None removes the key
_Rules = dict[str, "_Rules | _Action"]


@dataclass(frozen=True, slots=True)
class Redaction:
    """What happens to one field that people must not see."""

    path: Path
    action: Literal["remove", "hash"]


@dataclass(frozen=True)
class Transform:
    """Filter, then the allow-list, then drop, then redact. Paths go through arrays: each element is treated alike.

    An event that is only filtered keeps its exact bytes; one that is rewritten is compact and keeps the exact bytes of
    every value that no path leads into, so that numbers are never rewritten. An empty `fields` lets every field pass.
    """

    filter: Expression | None = None
    fields: tuple[Path, ...] = ()
    drop: tuple[Path, ...] = ()
    redact: tuple[Redaction, ...] = ()
    salt: bytes = field(default=b"", repr=False)

    @property
    def is_identity(self) -> bool:
        """Whether every event passes untouched."""
        return self.filter is None and not self._rewrites

    @property
    def _rewrites(self) -> bool:
        return bool(self.fields or self.drop or self.redact)

    def fingerprint(self) -> str:
        """32 hex digits that change when the outcome may change; "" for the identity."""
        if self.is_identity:
            return ""
        salt = hashlib.sha256(b"salt" + self.salt).hexdigest() if self._salted else ""
        return hashlib.sha256(f"{_VERSION}{self.as_json()}{salt}".encode()).hexdigest()[:32]

    def selection(self) -> str:
        """16 hex digits that change when other events may pass; "" where all do."""
        if self.filter is None:
            return ""
        return hashlib.sha256(f"{_VERSION}{json.dumps(as_data(self.filter), sort_keys=True)}".encode()).hexdigest()[:16]

    @property
    def _salted(self) -> bool:
        return bool(self.salt) and any(rule.action == "hash" for rule in self.redact)

    def as_json(self) -> str:
        """The transform, without its salt, as text that from_json reads back; "" for the identity."""
        if self.is_identity:
            return ""
        data = {
            "filter": None if self.filter is None else as_data(self.filter),
            "fields": sorted(self.fields),
            "drop": sorted(self.drop),
            "redact": sorted([rule.path, rule.action] for rule in self.redact),
        }
        return json.dumps(data, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, salt: bytes = b"") -> Self:
        """The transform that as_json wrote down."""
        if not text:
            return cls()
        data = json.loads(text)
        return cls(
            filter=None if data["filter"] is None else from_data(data["filter"]),
            fields=tuple(tuple(path) for path in data["fields"]),
            drop=tuple(tuple(path) for path in data["drop"]),
            redact=tuple(Redaction(tuple(path), action) for path, action in data["redact"]),
            salt=salt,
        )

    def apply(self, body: bytes) -> tuple[bytes, list[int]]:
        """The transformed NDJSON and, for each line kept, its position in `body` (0-based).

        `body` is canonical NDJSON: one JSON object a line, each line ended by one newline; so is what comes back.
        """
        if self.is_identity:
            return body, list(range(body.count(b"\n")))
        body, kept = (body, None) if self._matches is None else select(body, self._matches)
        if self._rewrites:
            lines = body.split(b"\n")
            lines.pop()  # what follows the last newline: nothing
            out = [*map(self._rewrite, lines), b""]
            body = b"\n".join(out)
        return body, list(range(body.count(b"\n"))) if kept is None else kept

    def hides_more_than(self, other: "Transform") -> bool:
        """Whether this one hides something that the other let through; in doubt, yes."""
        gone = {*other.drop, *(rule.path for rule in other.redact if rule.action == "remove")}
        hashed = {rule.path for rule in other.redact if rule.action == "hash"}
        passing = other.fields or ((),)
        wanted = [(path, gone) for path in self.drop]
        wanted += [(rule.path, gone if rule.action == "remove" else gone | hashed) for rule in self.redact]
        for path, unseen in wanted:
            if not _covered(path, unseen) and any(_overlap(path, each) for each in passing):
                return True
        if self._salted and self.salt != other.salt:
            return True
        return bool(self.fields) and not all(_covered(each, self.fields) for each in passing)

    @cached_property
    def _matches(self) -> Matcher | None:
        return None if self.filter is None else compile_filter(self.filter)

    @cached_property
    def _rewrite(self) -> Callable[[bytes], bytes]:
        allowed = _rules((path, _keep) for path in self.fields)
        dropped = _rules((path, _remove) for path in self.drop)
        actions: dict[str, _Action] = {"remove": _remove, "hash": lambda value: _hash(value, self.salt)}
        redacted = _rules((rule.path, actions[rule.action]) for rule in self.redact)

        def rewrite(line: bytes) -> bytes:
            event: Any = _decode_object(line)
            if allowed:
                event = _project(event, allowed) or {}
            for rules in (dropped, redacted):
                event = _edit(event, rules)
            return _encode(event)

        return rewrite

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the settings, not the compiled functions."""
        return type(self), (self.filter, self.fields, self.drop, self.redact, self.salt)


def _overlap(one: Path, two: Path) -> bool:
    shared = min(len(one), len(two))
    return one[:shared] == two[:shared]


def _covered(path: Path, paths: Iterable[Path]) -> bool:
    """Whether the path or one that leads to it is among the paths."""
    return any(path[: len(each)] == each for each in paths)


def _rules(actions: Iterable[tuple[Path, _Action]]) -> _Rules:
    """The paths as nested dictionaries; a path that leads to another one covers it."""
    tree: _Rules = {}
    for path, action in sorted(actions, key=lambda each: len(each[0])):
        level = tree
        for key in path[:-1]:
            below = level.setdefault(key, {})
            if not isinstance(below, dict):
                break
            level = below
        else:
            level.setdefault(path[-1], action)
    return tree


def _opened(value: Any) -> Any:
    """One level of a raw value decoded: a dictionary or list of raw values, or the raw scalar as it was."""
    if not isinstance(value, msgspec.Raw):
        return value
    match memoryview(value)[0]:
        case 0x7B:  # {
            return _decode_object(value)
        case 0x5B:  # [
            return _decode_array(value)
        case _:
            return value


def _project(value: Any, rules: _Rules) -> Any:
    """What the allow-list leaves of a value; None where that is nothing."""
    value = _opened(value)
    if isinstance(value, dict):
        found = ((key, _allowed(each, rules[key])) for key, each in value.items() if key in rules)
        return {key: each for key, each in found if each is not None} or None
    if isinstance(value, list):
        return [each for each in (_project(item, rules) for item in value) if each is not None] or None
    return None


def _allowed(value: Any, rule: _Rules | _Action) -> Any:
    return _project(value, rule) if isinstance(rule, dict) else value


def _edit(value: Any, rules: _Rules) -> Any:
    """The value with the actions of the rules carried out in it."""
    if not rules:
        return value
    value = _opened(value)
    if isinstance(value, list):
        return [_edit(item, rules) for item in value]
    if not isinstance(value, dict):
        return value
    for key, rule in rules.items():
        if key not in value:
            continue
        changed = _edit(value[key], rule) if isinstance(rule, dict) else rule(value[key])
        if changed is None:
            del value[key]
        else:
            value[key] = changed
    return value


def _keep(value: Any) -> Any:
    return value


def _remove(_value: Any) -> None:
    return None


def _hash(value: Any, salt: bytes) -> msgspec.Raw:
    """SHA-256 of the salt followed by the value's JSON bytes, in hex, as a JSON string; null stays null."""
    raw = bytes(value) if isinstance(value, msgspec.Raw) else _encode(value)
    return msgspec.Raw(raw if raw == b"null" else b'"%s"' % hashlib.sha256(salt + raw).hexdigest().encode())
