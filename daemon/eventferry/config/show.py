"""Shows a configuration to people: as TOML, as a list of differences, as a digest; secrets stay hidden."""

import hashlib
import json
import re
from collections.abc import Collection, Iterator
from typing import Any

from eventferry.config.secrets import MASK, KeyPath
from eventferry.config.urls import is_url, mask_url

Dump = tuple[dict[str, Any], Collection[KeyPath]]  # settings in clear, and the paths of the secret ones

_NAMED = ("sources", "sinks", "channels")  # lists of tables that have names


def digest_of(data: Any) -> str:
    """16 hex digits that are equal for equal settings, in every process."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def masked(data: Any, secrets: Collection[KeyPath], path: KeyPath = ()) -> Any:
    """The data with *** in place of the secret values, and of what is secret inside of URLs."""
    if path in secrets:
        return MASK
    if isinstance(data, str):
        return _masked_text(data, path)
    if isinstance(data, dict):
        return {key: masked(value, secrets, (*path, key)) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [masked(value, secrets, (*path, index)) for index, value in enumerate(data)]
    return data


def _masked_text(text: str, path: KeyPath) -> str:
    """A condition of a filter is no address, even if it speaks of one."""
    keys = [step for step in path if isinstance(step, str)]
    return mask_url(text) if "filter" not in keys and is_url(keys[-1] if keys else "", text) else text


def as_toml(data: dict[str, Any]) -> str:
    """TOML text that reads back as the data."""
    return "\n".join(_table(data, "")).lstrip("\n") + "\n"


def _table(data: dict[str, Any], name: str) -> Iterator[str]:
    """The lines of a table: its plain values first, because a header ends them."""
    later: list[tuple[str, Any]] = []
    for key, value in data.items():
        if (isinstance(value, dict) and value) or (key in _NAMED and _is_list_of_tables(value)):
            later.append((key, value))
        else:
            yield f"{_key(key)} = {_value(value)}"
    for key, value in later:
        header = f"{name}.{_key(key)}" if name else _key(key)
        for each in value if isinstance(value, list) else [value]:
            yield f"\n[[{header}]]" if isinstance(value, list) else f"\n[{header}]"
            yield from _table(each, header)


def _is_list_of_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    return str(value)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def differences(old: Dump, new: Dump) -> list[str]:
    """What is new, gone or changed, one sentence each, named by the tables' names rather than their order."""
    renamed = _renamed(old[0], new[0])
    before = {renamed.get(label, label): leaves for label, leaves in _grouped(*old).items()}
    after = _grouped(*new)
    sentences = [f"{label}: removed" for label in before if label not in after]
    for label, leaves in after.items():
        if label not in before:
            sentences.append(f"{label}: added")
            continue
        if label in renamed.values():
            sentences.append(f"{label}: renamed from {leaves['renamed_from'][0]}")
        sentences.extend(_changes(label, before[label], leaves))
    return sentences


_Leaves = dict[str, tuple[Any, bool]]  # by dotted key: the value, and whether it is secret


def _grouped(data: dict[str, Any], secrets: Collection[KeyPath]) -> dict[str, _Leaves]:
    """The settings by the named table they stand in; "" for those of no named table."""
    groups: dict[str, _Leaves] = {"": {}}
    for label, key, path, value in _leaves(data, "", "", ()):
        secret = any(each[: len(path)] == path for each in secrets) or masked(value, (), path) != value
        groups.setdefault(label, {})[key] = (value, secret)
    return groups


def _leaves(data: dict[str, Any], label: str, above: str, path: KeyPath) -> Iterator[tuple[str, str, KeyPath, Any]]:
    for key, value in data.items():
        dotted = f"{above}.{key}" if above else key
        if key in _NAMED and isinstance(value, list | tuple) and not label:
            for index, each in enumerate(value):
                yield from _leaves(each, f"{dotted}.{each['name']}", "", (*path, key, index))
        elif isinstance(value, dict) and value:
            yield from _leaves(value, label, dotted, (*path, key))
        else:
            yield label, dotted, (*path, key), value


def _changes(label: str, before: _Leaves, after: _Leaves) -> Iterator[str]:
    for key in dict.fromkeys((*before, *after)):
        old, was_secret = before.get(key, (None, False))
        new, is_secret = after.get(key, (None, False))
        if old == new or (label and key in ("name", "renamed_from")):
            continue
        where = f"{label}.{key}" if label else key
        if was_secret or is_secret:
            yield f"{where}: changed"
        else:
            yield f"{where}: {_plain(old)} → {_plain(new)}"


def _plain(value: Any) -> str:
    if value is None:
        return "not set"
    return value if isinstance(value, str) and value else _value(value)


def _renamed(old: dict[str, Any], new: dict[str, Any]) -> dict[str, str]:
    """Labels of tables that go by another name now."""
    found: dict[str, str] = {}
    for kind in ("sources", "sinks"):
        names = {each["name"] for each in old.get(kind, ())} - {each["name"] for each in new.get(kind, ())}
        for each in new.get(kind, ()):
            if each.get("renamed_from") in names:
                found[f"{kind}.{each['renamed_from']}"] = f"{kind}.{each['name']}"
    return found
