"""Finds the line on which a key of a TOML text stands, so that a mistake can name it."""

import re
from collections.abc import Iterator

KeyPath = tuple[str | int, ...]

_KEY = r'(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|\'[^\']*\')'
_DOTTED = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]")
_ASSIGNMENT = re.compile(rf"\s*({_DOTTED})\s*=")
_TOKEN = re.compile(r'"""|\'\'\'|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#[^\n]*|[\[\]{}]')


class Locator:
    """Maps key paths such as ("sources", 0, "interval") to line numbers (from 1) of a text that parsed."""

    def __init__(self, text: str) -> None:
        self._lines: dict[KeyPath, int] = {}
        self._arrays: dict[KeyPath, int] = {}
        table: KeyPath = ()
        for number, line in _statements(text):
            if header := _HEADER.match(line):
                table = self._enter(_keys(header[2]), header[1] == "[[")
                self._lines.setdefault(table, number)
            elif assignment := _ASSIGNMENT.match(line):
                path = table
                for key in _keys(assignment[1]):
                    path = (*path, key)
                    self._lines.setdefault(path, number)

    def line(self, path: KeyPath) -> int | None:
        """The line of the key, else of the closest table around it that is written down; None where there is none."""
        while path:
            if path in self._lines:
                return self._lines[path]
            path = path[:-1]
        return None

    def _enter(self, keys: list[str], is_array: bool) -> KeyPath:
        """The path of a table header; a name that is an array of tables means its last table."""
        path: KeyPath = ()
        for key in keys[:-1]:
            path = self._last((*path, key))
        path = (*path, keys[-1])
        if is_array:
            self._arrays[path] = self._arrays.get(path, -1) + 1
        return self._last(path)

    def _last(self, path: KeyPath) -> KeyPath:
        return (*path, self._arrays[path]) if path in self._arrays else path


def _keys(dotted: str) -> list[str]:
    return [key[1:-1] if key[0] in "\"'" else key for key in re.findall(_KEY, dotted)]


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """The lines on which a statement begins: not those inside a multi-line text, array or inline table."""
    depth, quote = 0, ""
    for number, line in enumerate(text.split("\n"), start=1):
        if not depth and not quote:
            yield number, line
        depth, quote = _scan(line, depth, quote)


def _scan(line: str, depth: int, quote: str) -> tuple[int, str]:
    """How deep in brackets and in which multi-line text the end of the line is."""
    position = 0
    while True:
        if quote:
            end = line.find(quote, position)
            while quote == '"""' and end > 0 and _is_escaped(line, end):
                end = line.find(quote, end + 1)
            if end < 0:
                return depth, quote
            position, quote = end + 3, ""
        token = _TOKEN.search(line, position)
        if token is None:
            return depth, ""
        position = token.end()
        if token[0] in ('"""', "'''"):
            quote = token[0]
        elif token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth -= 1


def _is_escaped(line: str, position: int) -> bool:
    before = line[:position]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1
