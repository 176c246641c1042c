"""Transforms of NDJSON, held against a slow one that decodes and encodes everything."""

import hashlib
import json
import pickle
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventferry.query import Compare, Op, Redaction, Transform, parse_transform

KEYS = ["a", "b", "c", "é"]


class Number(str):
    """A number as it was spelled, so that a rewritten one is seen."""

    __slots__ = ()


def loads(text: bytes) -> Any:
    return json.loads(text, parse_int=Number, parse_float=Number)


numbers = st.sampled_from(["1", "1.50", "-0", "1e400", "12345678901234567890123", "1E5"])
scalars = st.sampled_from(["null", "true", "false", '"x"', '"\\u00e9"', '"é"', '""']) | numbers
keys = st.sampled_from(['"a"', '"b"', '"c"', '"é"', '"\\u00e9"', '"\\u0061"'])


def as_object(pairs: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{key}:{value}" for key, value in pairs) + "}"


texts = st.recursive(
    scalars,
    lambda inner: (
        st.lists(st.tuples(keys, inner), max_size=3).map(as_object)
        | st.lists(inner, max_size=3).map(lambda items: "[" + " , ".join(items) + "]")
    ),
    max_leaves=12,
)
lines = st.lists(st.tuples(keys, texts), max_size=4).map(lambda pairs: as_object(pairs).encode())
paths = st.lists(st.sampled_from(KEYS), min_size=1, max_size=3).map(tuple)
path_lists = st.lists(paths, max_size=3).map(tuple)
redactions = st.lists(paths, max_size=2, unique=True).flatmap(
    lambda chosen: st.tuples(
        *(st.sampled_from(["remove", "hash"]).map(lambda action, path=path: Redaction(path, action)) for path in chosen)
    )
)


def project(value: Any, allowed: tuple[tuple[str, ...], ...]) -> Any:
    if () in allowed:
        return value
    if isinstance(value, list):
        return [p for p in (project(item, allowed) for item in value) if p is not None] or None
    if not isinstance(value, dict):
        return None
    result = {}
    for key, inner in value.items():
        below = tuple(path[1:] for path in allowed if path[0] == key)
        kept = project(inner, below) if below else None
        if kept is not None or () in below:
            result[key] = kept
    return result or None


def edit(value: Any, path: tuple[str, ...], action: str) -> None:
    if isinstance(value, list):
        for item in value:
            edit(item, path, action)
    elif isinstance(value, dict) and path[0] in value:
        if len(path) > 1:
            edit(value[path[0]], path[1:], action)
        elif action == "remove":
            del value[path[0]]
        elif value[path[0]] is not None:
            value[path[0]] = ("hashed",)


def masked(value: Any) -> Any:
    """The decoded value with every string that looks like a hash made equal."""
    if isinstance(value, dict):
        return {key: masked(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [masked(inner) for inner in value]
    return ("hashed",) if isinstance(value, str) and len(value) == 64 and not isinstance(value, Number) else value


def without_covered(rules: tuple[Redaction, ...]) -> list[Redaction]:
    return [rule for rule in rules if not any(rule.path[: len(o.path)] == o.path for o in rules if o is not rule)]


@settings(deadline=None)
@given(st.lists(lines, max_size=4), path_lists, path_lists, redactions)
def test_agrees_with_the_slow_transform(
    events: list[bytes], fields: Any, drop: Any, redact: tuple[Redaction, ...]
) -> None:
    """Allow-list, drop and redact do what they say, and no number is ever spelled anew."""
    transform = Transform(fields=fields, drop=drop, redact=redact)
    body, kept = transform.apply(b"".join(line + b"\n" for line in events))
    assert kept == list(range(len(events)))
    expected = []
    for line in events:
        event = loads(line)
        if fields:
            event = project(event, fields) or {}
        for path in drop:
            edit(event, path, "remove")
        for rule in without_covered(redact):
            edit(event, rule.path, rule.action)
        expected.append(event)
    assert [masked(loads(line)) for line in body.splitlines()] == expected
    assert body.count(b"\n") == len(events)


@settings(deadline=None)
@given(st.lists(lines, max_size=6), paths, st.sampled_from(["x", True, None, 1]))
def test_filtering_keeps_exact_bytes_and_original_positions(events: list[bytes], path: Any, wanted: Any) -> None:
    """A kept line is the very line it was, and its position in the unfiltered body is told."""
    transform = Transform(filter=Compare(path, Op.EQ, wanted))
    body, kept = transform.apply(b"".join(line + b"\n" for line in events))
    assert body == b"".join(events[position] + b"\n" for position in kept)
    assert kept == sorted(set(kept))


def test_the_identity_returns_the_same_body() -> None:
    """A sink without a transform costs nothing."""
    body = b'{"a": 1}\n{"b":2}\n'
    assert Transform().is_identity
    assert Transform().fingerprint() == ""
    out, kept = Transform().apply(body)
    assert out is body
    assert kept == [0, 1]
    assert Transform().apply(b"") == (b"", [])


def test_a_hash_is_the_salted_sha256_of_the_json_bytes() -> None:
    """Whoever knows the salt can compute the same hash elsewhere; null stays null."""
    transform = parse_transform(redact={"id": "hash", "n": "hash", "z": "hash"}, salt="pepper")
    body, _ = transform.apply(b'{"id":"ab","n":1.50,"z":null}\n')
    digest = [hashlib.sha256(b"pepper" + raw).hexdigest() for raw in (b'"ab"', b"1.50")]
    assert json.loads(body) == {"id": digest[0], "n": digest[1], "z": None}


def test_nothing_hides_behind_duplicate_keys_or_escapes() -> None:
    """A dropped field is gone however its key is spelled and however often it occurs."""
    transform = parse_transform(drop=["u.email"])
    for line in (
        b'{"u":{"email":"secret","email":"secret"}}\n',
        b'{"u":{"email":"secret"},"u":{}}\n',
        b'{"\\u0075":{"\\u0065mail":"secret","x":1}}\n',
        b'{"u":[{"email":"secret"},[{"email":"secret"}]]}\n',
    ):
        assert b"secret" not in transform.apply(line)[0]


SAMPLE: dict[str, Any] = {
    "filter": [{"field": "a", "in": [1, "1", True, 1.5]}],
    "drop": ["x.y"],
    "redact": {"i": "hash"},
}


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    """A batch id computed today equals the one computed after a restart."""
    code = f"from eventferry.query import parse_transform; print(parse_transform(**{SAMPLE!r}, salt='s').fingerprint())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == parse_transform(**SAMPLE, salt="s").fingerprint()
    assert len(out.stdout.strip()) == 32


def test_the_fingerprint_changes_with_whatever_changes_the_outcome() -> None:
    """Two transforms with different outcomes never share batch ids; spelling and order of paths do not matter."""
    variants: list[dict[str, Any]] = [
        {},
        SAMPLE,
        {**SAMPLE, "salt": "s"},
        {**SAMPLE, "filter": [{"field": "a", "in": ["1", True, 1.5]}]},
        {"drop": ["a.b"]},
        {"drop": ["/a.b"]},
        {"fields": ["a.b"]},
        {"redact": {"a": "remove"}},
        {"redact": {"a": "hash"}},
        {"filter": [{"field": "a", "eq": 1}]},
        {"filter": [{"field": "a", "eq": True}]},
        {"filter": [{"field": "a", "eq": "1"}]},
    ]
    prints = [parse_transform(**each).fingerprint() for each in variants]
    assert len(set(prints)) == len(variants)
    assert parse_transform(drop=["a", "b"]).fingerprint() == parse_transform(drop=["b", "a"]).fingerprint()


def test_a_transform_can_be_stored_and_sent_to_another_process() -> None:
    """An attempted batch is re-made with the transform it was made with."""
    transform = parse_transform(**SAMPLE, salt="s")
    transform.apply(b'{"a":1}\n')
    assert Transform.from_json(transform.as_json(), salt=b"s").fingerprint() == transform.fingerprint()
    assert pickle.loads(pickle.dumps(transform)) == transform
    assert Transform.from_json(Transform().as_json()).is_identity
    assert "pepper" not in repr(parse_transform(redact={"a": "hash"}, salt="pepper"))


@pytest.mark.parametrize(
    ("new", "old", "hides"),
    [
        ({}, {}, False),
        ({"drop": ["a"]}, {}, True),
        ({"drop": ["a.b"]}, {"drop": ["a"]}, False),
        ({"drop": ["a"]}, {"drop": ["a.b"]}, True),
        ({"redact": {"a": "hash"}}, {"drop": ["a"]}, False),
        ({"redact": {"a": "remove"}}, {"redact": {"a": "hash"}}, True),
        ({"redact": {"a": "hash"}}, {"redact": {"a": "remove"}}, False),
        ({"drop": ["a"]}, {"redact": {"a": "hash"}}, True),
        ({"fields": ["a"]}, {}, True),
        ({"fields": ["a"]}, {"fields": ["a.b"]}, False),
        ({"fields": ["a.b"]}, {"fields": ["a"]}, True),
        ({"drop": ["z"]}, {"fields": ["a"]}, False),
        ({}, {"drop": ["a"]}, False),
        ({"redact": {"a": "hash"}, "salt": "new"}, {"redact": {"a": "hash"}, "salt": "old"}, True),
    ],
)
def test_a_tightened_redaction_is_recognised(new: dict[str, Any], old: dict[str, Any], hides: bool) -> None:
    """Batches made under a laxer redaction can be held back when it is tightened."""
    assert parse_transform(**new).hides_more_than(parse_transform(**old)) is hides


def test_the_package_needs_neither_configuration_nor_pydantic() -> None:
    """Filters can run in worker processes that import little."""
    code = "import sys, eventferry.query; print([m for m in sys.modules if 'pydantic' in m or '.config' in m])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
