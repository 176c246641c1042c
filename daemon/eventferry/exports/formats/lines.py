"""Events as JSON: one a line, or all in one array. Each keeps its bytes unless only some of its fields are wanted."""

from collections.abc import Sequence

from eventferry.query.expression import Path
from eventferry.query.transform import Transform


class Ndjson:
    """One event a line."""

    def __init__(self, fields: Sequence[Path] = ()) -> None:
        self._transform = Transform(fields=tuple(fields))

    def begin(self) -> bytes:
        return b""

    def feed(self, body: bytes) -> bytes:
        return self._transform.apply(body)[0] if body else b""

    def end(self) -> bytes:
        return b""


class JsonArray:
    """One array of all events, an event a line."""

    def __init__(self, fields: Sequence[Path] = (), *, is_empty: bool = True) -> None:
        self._transform = Transform(fields=tuple(fields))
        self.is_empty = is_empty  # nothing was fed yet

    def begin(self) -> bytes:
        return b"["

    def feed(self, body: bytes) -> bytes:
        if not body:
            return b""
        lines = self._transform.apply(body)[0]
        before, self.is_empty = b"\n" if self.is_empty else b",\n", False
        return before + lines[:-1].replace(b"\n", b",\n")

    def end(self) -> bytes:
        return b"\n]\n"
