"""Events as CSV after RFC 4180: a header, one row per event, a column per path, CRLF, UTF-8 without BOM."""

import csv
import io
import re
from collections.abc import Sequence
from typing import Any

from eventferry.exports.exact import Number, as_json, text_of
from eventferry.exports.shape import Shape
from eventferry.query.expression import Path, join_path

_AS_THEY_ARE = {str, int, Number, type(None)}  # what the writer writes as it should
_RISKY = tuple("=+-@\t\r\n＝＋－＠")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


class Csv:
    """A table. Lists are joined with `;`, with compact JSON for elements that are lists or objects.

    Null and missing are empty. An object at a column is empty, because its properties have columns of their own, or
    its JSON where `shows_objects`. With `guard` a cell that a spreadsheet would run as a formula begins with '.
    """

    def __init__(self, paths: Sequence[Path], *, guard: bool = False, shows_objects: bool = False) -> None:
        self._shape = Shape(paths)
        self._guard = guard
        self._shows_objects = shows_objects
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text, lineterminator="\r\n")

    def begin(self) -> bytes:
        names: Sequence[str] = [join_path(path) for path in self._shape.paths]
        self._writer.writerow(_guarded(names) if self._guard else names)
        return self._taken()

    def feed(self, body: bytes) -> bytes:
        for count, columns in self._shape.batches(body):
            if columns:
                self._writer.writerows(zip(*map(self._cells, columns), strict=True))
            else:
                self._writer.writerows([()] * count)
        return self._taken()

    def end(self) -> bytes:
        return b""

    def _taken(self) -> bytes:
        data = self._text.getvalue().encode()
        self._text.seek(0)
        self._text.truncate()
        return data

    def _cells(self, column: Sequence[Any]) -> Sequence[Any]:
        kinds = set(map(type, column))
        if not kinds <= _AS_THEY_ARE:
            column = [value if type(value) in _AS_THEY_ARE else self._cell(value) for value in column]
            kinds.add(str)
        return _guarded(column) if self._guard and str in kinds else column

    def _cell(self, value: Any) -> str:
        if type(value) is list:
            return ";".join([as_json(each) if type(each) in (list, dict) else text_of(each) for each in value])
        if type(value) is dict:
            return as_json(value) if self._shows_objects else ""
        return text_of(value)


def _guarded(cells: Sequence[Any]) -> list[Any]:
    return [
        f"'{cell}" if type(cell) is str and cell.startswith(_RISKY) and not _NUMBER.fullmatch(cell) else cell
        for cell in cells
    ]
