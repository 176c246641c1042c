"""Takes chosen fields out of many events at once, column by column, without bytecode per event where that can be."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from eventferry.exports.exact import Number, as_json, decode_event
from eventferry.query.expression import Path

Column = Sequence[Any]

_NOT_AN_OBJECT = list[Any] | int | float | str | bool | None
UNFIT = frozenset('\\"').union(map(chr, range(32)))  # characters that msgspec bars from the names of fields
_CELLS = 500_000  # values held at once
DEEP = 32  # levels that are decoded into structs
_ROWS = 200  # so many events stay in the caches of the processor: 2,000 take twice as long each
_WIDE = 2000  # fields of one struct: its decoder searches among them

_Tree = dict[str, "_Tree | None"]  # None: the value itself is wanted


class Shape:
    """The columns at some paths. A path descends through objects only; what is missing is None, as null is.

    The values of `raw` paths come as the JSON text that they have in the file, those of the empty path as the whole
    event's; others decoded, with numbers that are no integers as Number, or as float where `floats` says so.
    """

    def __init__(self, paths: Sequence[Path], raw: Iterable[Path] = (), *, floats: bool = False) -> None:
        self.paths = tuple(paths)
        self._raw = frozenset(raw)
        self._floats = floats
        self._rows = max(1, min(_ROWS, _CELLS // max(1, len(self.paths))))
        self._quick = _quick_columns(self.paths, self._raw, floats)

    def batches(self, body: bytes) -> Iterator[tuple[int, list[Column]]]:
        """(number of events, one column per path) for canonical NDJSON, in pieces that bound memory."""
        for piece in pieces_of(body, self._rows):
            yield self.columns(piece)

    def columns(self, body: bytes) -> tuple[int, list[Column]]:
        """The same for all of a small body at once."""
        if self._quick is not None:
            try:
                return self._quick(body)
            except msgspec.DecodeError:
                pass  # a number beyond what it holds
        lines = lines_of(body)
        events = [decode_event(line) for line in lines]
        return len(lines), [self._slow_column(path, events, lines) for path in self.paths]

    def _slow_column(self, path: Path, events: list[dict[str, Any]], lines: list[bytes]) -> list[Any]:
        if not path:
            return [line.decode() for line in lines]
        found = [value_at(event, path) for event in events]
        if path in self._raw:
            return [None if value is None else as_json(value) for value in found]
        return [_plain(value) for value in found] if self._floats else found


def value_at(value: Any, path: Path) -> Any:
    """The decoded value at the path below; None where it is missing."""
    for key in path:
        if type(value) is not dict:
            return None
        value = value.get(key)
    return value


def lines_of(body: bytes) -> list[bytes]:
    """The lines of canonical NDJSON, without their newlines; a CR inside one stays in it."""
    lines = body.split(b"\n")
    lines.pop()  # what follows the last newline: nothing
    return lines


def pieces_of(body: bytes, rows: int) -> Iterator[bytes]:
    """Canonical NDJSON in pieces of at most `rows` lines."""
    if body.count(b"\n") <= rows:
        if body:
            yield body
        return
    lines = lines_of(body)
    for start in range(0, len(lines), rows):
        yield b"\n".join((*lines[start : start + rows], b""))


def _plain(value: Any) -> Any:
    if type(value) is Number:
        return float(value)
    return [_plain(each) for each in value] if type(value) is list else value


def _quick_columns(
    paths: tuple[Path, ...], raw: frozenset[Path], floats: bool
) -> Callable[[bytes], tuple[int, list[Column]]] | None:
    """A function from canonical NDJSON to its columns that decodes into structs; None where these paths allow none."""
    ends = frozenset(map(_fit_part, paths))
    bases = {path: next(path[:length] for length in range(len(path) + 1) if path[:length] in ends) for path in paths}
    leaves = tuple(dict.fromkeys(bases.values()))
    is_derived_from_text = any(base != path and base in raw | {()} for path, base in bases.items())
    if not paths or len(leaves) > _WIDE or () in leaves or is_derived_from_text or (raw - set(leaves)):
        return None
    node = _Node(_tree_of(leaves), raw)
    decode = msgspec.json.Decoder(node.kind, float_hook=None if floats else Number).decode_lines
    get = attrgetter(*(node.names[leaf] for leaf in leaves))

    def columns(body: bytes) -> tuple[int, list[Column]]:
        events = decode(body)
        found = _gather(events, get, leaves, node)
        for leaf in raw:
            found[leaf] = [_text(value) for value in found[leaf]]
        # By the paths as they were given: one that is there twice has two columns.
        return len(events), [_below(found[bases[path]], path[len(bases[path]) :]) for path in paths]

    return columns


def _fit_part(path: Path) -> Path:
    """The path up to a key that suits no struct."""
    fit = (number for number, key in enumerate(path) if number >= DEEP or UNFIT.intersection(key))
    return path[: next(fit, len(path))]


def _gather(
    events: list[Any], get: Callable[[Any], Any], leaves: tuple[Path, ...], node: "_Node"
) -> dict[Path, Column]:
    """The values at the leaves."""
    if not events:
        return dict.fromkeys(leaves, ())
    try:
        rows = list(map(get, events))
    except AttributeError:  # null, or anything but an object, where most events have one
        return node.gather(events)
    if len(leaves) == 1:
        return {leaves[0]: rows}
    return dict(zip(leaves, zip(*rows, strict=True), strict=True))


def _below(column: Column, rest: Path) -> Column:
    return [value_at(value, rest) for value in column] if rest else column


def _text(value: Any) -> str | None:
    if value is None:
        return None
    text = bytes(value).decode()
    return None if text == "null" else text


def _tree_of(leaves: Iterable[Path]) -> _Tree:
    """The paths, none of which leads to another, as nested dictionaries."""
    tree: _Tree = {}
    for path in leaves:
        level = tree
        for key in path[:-1]:
            below = level.setdefault(key, {})
            assert below is not None
            level = below
        level[path[-1]] = None
    return tree


class _Node:
    """A struct that decodes a tree and skips the rest."""

    def __init__(self, tree: _Tree, raw: frozenset[Path], above: Path = (), prefix: str = "") -> None:
        fields: list[tuple[str, Any, Any]] = []
        self.names: dict[Path, str] = {}  # the attribute path of each leaf, from the top
        self._leaves: list[tuple[str, Path]] = []
        self._inner: list[tuple[str, _Node]] = []
        for number, (key, below) in enumerate(tree.items()):
            attribute, here = f"f{number}", (*above, key)
            kind: Any = msgspec.Raw if here in raw else Any
            default: Any = None
            if below is None:
                self.names[here] = prefix + attribute
                self._leaves.append((attribute, here))
            else:
                inner = _Node(below, raw, here, f"{prefix}{attribute}.")
                self.names |= inner.names
                self._inner.append((attribute, inner))
                kind, default = inner.kind | _NOT_AN_OBJECT, inner.kind()
            fields.append((attribute, kind, msgspec.field(default=default, name=key)))
        self.kind: Any = msgspec.defstruct("Wanted", fields, frozen=True, gc=False)

    def gather(self, events: list[Any]) -> dict[Path, Column]:
        """The values at the leaves of decoded events, where some hold no object at an inner place."""
        found: dict[Path, Column] = {path: [getattr(event, name) for event in events] for name, path in self._leaves}
        for name, inner in self._inner:
            values, empty = [getattr(event, name) for event in events], inner.kind()
            found |= inner.gather([each if type(each) is inner.kind else empty for each in values])
        return found
