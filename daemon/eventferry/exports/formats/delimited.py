"""Events as CSV after RFC 4180: a header, one row per event, a column per path, CRLF, UTF-8 without BOM."""

import re
from collections.abc import Sequence
from typing import Any

from eventferry.exports.columns import Column
from eventferry.exports.exact import Number, as_json, text_of
from eventferry.exports.shape import Shape

_BREAKS = "\t\r\n"
_NUMBER = r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
# What looks like a formula, and is no number: at the beginning, behind blanks and marks that readers drop, but also
# behind a semicolon or a line break, where a cell begins for spreadsheets that separate lists by semicolons.
_FORMULA = re.compile(
    rf"((?:\A|[;{_BREAKS}])[ \0\u00a0\u200b\ufeff]*)(?=[-=+@＝＋－＠])(?!{_NUMBER}(?:[;{_BREAKS}]|\Z))"
)


class Csv:
    """A table. Lists are joined with `;`, with compact JSON for elements that are lists or objects.

    Null and missing are empty. An object at a column is empty, because its properties have columns of their own, or
    its JSON where `shows_objects`. With `guard` what a spreadsheet would run as a formula has a ' before it.
    """

    def __init__(self, columns: Sequence[Column], *, guard: bool = False, shows_objects: bool = False) -> None:
        self._names = [column.name for column in columns]
        self._shape = Shape([column.path for column in columns])
        self._guard = guard
        self._shows_objects = shows_objects

    def begin(self) -> bytes:
        names = _guarded(self._names) if self._guard else self._names
        return (",".join(map(_quoted, names)) + "\r\n").encode()

    def feed(self, body: bytes) -> bytes:
        rows: list[str] = []
        for _, columns in self._shape.batches(body):
            cells = [self._cells(column) for column in columns]
            if len(cells) > 1:
                rows += map(",".join, zip(*cells, strict=True))
            else:  # an empty line would be no row
                rows += [cell or '""' for cell in cells[0]]
        rows.append("")
        return "\r\n".join(rows).encode()

    def end(self) -> bytes:
        return b""

    def _cells(self, column: Sequence[Any]) -> Sequence[str]:
        """The column as it is written. Whole columns are looked at: few have anything to be quoted."""
        kinds = set(map(type, column))
        if kinds == {int}:
            return list(map(str, column))
        if not kinds <= {str, Number}:
            column = [value if type(value) is str else "" if value is None else self._cell(value) for value in column]
        if self._guard:
            column = _guarded(column)
        joined = "".join(column)
        if '"' in joined or "," in joined or "\r" in joined or "\n" in joined:
            return [_quoted(cell) for cell in column]
        return column

    def _cell(self, value: Any) -> str:
        if type(value) is list:
            return ";".join([as_json(each) if type(each) in (list, dict) else text_of(each) for each in value])
        if type(value) is dict:
            return as_json(value) if self._shows_objects else ""
        return text_of(value)


def _guarded(cells: Sequence[str]) -> Sequence[str]:
    if not _FORMULA.search("\n".join(cells)) and {cell[:1] for cell in cells}.isdisjoint(_BREAKS):
        return cells
    return [_guarded_cell(cell) for cell in cells]


def _guarded_cell(cell: str) -> str:
    cell = _FORMULA.sub(lambda found: f"{found[1]}'" if found.start() else f"'{found[1]}", cell)
    return f"'{cell}" if cell.startswith(tuple(_BREAKS)) else cell


def _quoted(cell: str) -> str:
    if '"' in cell:
        return '"' + cell.replace('"', '""') + '"'
    return f'"{cell}"' if "," in cell or "\r" in cell or "\n" in cell else cell
