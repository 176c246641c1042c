"""Puts a newline between JSON documents that were written one after another without any."""

import io
import re
from typing import Any, Protocol

# Text outside of strings up to one of: an opening quote whose string does not end here, or `}` before another `{`.
# No repetition can give back what another could take, so time is linear in the input whatever it holds. Groups are not
# possessive: before 3.11.5 Python matches such groups wrongly (gh-106052), and then documents would not come apart.
_STRING = rb'"[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*"'
_OUTSIDE = re.compile(rb'[^"}]*+(?:(?:' + _STRING + rb'|\}(?![ \t\r]*+\{))[^"}]*+)*')
_GAP = re.compile(rb"\}[ \t\r]*+(?=\{)")
_INSIDE = re.compile(rb'[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*')
_BLANK = b" \t\r"


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Separator:
    """Inserts `\\n` before a `{` that follows a `}` on the same line, outside of strings.

    Works on any cut of the input with the same result. A newline ends an open string: raw newlines cannot stand in
    JSON strings, so a bad line never reaches into the next one and newline-delimited input passes unchanged.
    """

    def __init__(self) -> None:
        self._in_string = False
        self._escaped = False  # the piece before ended in a backslash inside a string
        self._after_document = False  # the last byte but blanks was `}` outside of strings

    def feed(self, piece: bytes) -> bytes:
        """`piece` with the missing newlines."""
        out: list[bytes] = []
        start = self._finish_string(piece) if self._in_string else 0
        if start:
            out.append(piece[:start])
        if not self._in_string:
            self._pass_outside(piece, start, out)
        return b"".join(out) if len(out) > 1 else out[0] if out else b""

    def _finish_string(self, piece: bytes) -> int:
        """The end of the string that was open; the end of `piece` if it stays open."""
        start = 0
        if self._escaped and piece:
            start = 0 if piece[0] == 0x0A else 1
            self._escaped = False
        return self._leave_string(piece, start)

    def _leave_string(self, piece: bytes, start: int) -> int:
        match = _INSIDE.match(piece, start)
        end = match.end() if match else start
        if end < len(piece) and piece[end] == 0x5C:  # a backslash before a newline, or as the last byte
            self._escaped = end + 1 == len(piece)
            end += 1
        self._in_string = end == len(piece)
        if self._in_string:
            return end
        return end + 1 if piece[end] == 0x22 else end

    def _pass_outside(self, piece: bytes, start: int, out: list[bytes]) -> None:
        if self._after_document and _first_but_blanks(piece, start) == b"{":
            opening = piece.index(b"{", start)
            out += (piece[start:opening], b"\n")
            start = opening
        # Where nothing is to be inserted, only the last line matters: it says what the next piece begins in.
        at = start if _GAP.search(piece, start) else max(start, piece.rfind(b"\n"))
        while not self._in_string:
            match = _OUTSIDE.match(piece, at)
            at = match.end() if match else at
            if at == len(piece):
                break
            gap = _GAP.match(piece, at)
            if gap:
                at = gap.end()
                out += (piece[start:at], b"\n")
                start = at
            else:
                at = self._leave_string(piece, at + 1)
        out.append(piece[start:])
        self._remember_end(piece)

    def _remember_end(self, piece: bytes) -> None:
        if self._in_string:
            self._after_document = False
            return
        rest = piece.rstrip(_BLANK)
        if rest:
            self._after_document = rest.endswith(b"}")


class SeparatedReader(io.RawIOBase):
    """A reader that separates the documents of `source`; closes it when closed."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._separator = Separator()
        self._ready = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes; fewer only at the end."""
        parts = [self._ready]
        have = len(self._ready)
        while size < 0 or have < size:
            piece = self._source.read(size - have if size >= 0 else 1 << 20)
            if not piece:
                break
            parts.append(self._separator.feed(piece))
            have += len(parts[-1])
        whole = b"".join(parts) if len(parts) > 1 else parts[0]
        if size < 0 or have <= size:
            self._ready = b""
            return whole
        self._ready = whole[size:]
        return whole[:size]

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def verify(self) -> None:
        """As the source does."""
        self._source.verify()

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._source.close()


def _first_but_blanks(piece: bytes, start: int) -> bytes:
    return piece[start:].lstrip(_BLANK)[:1]
