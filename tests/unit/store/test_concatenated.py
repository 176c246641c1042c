"""Documents written without newlines between them are told apart, and nothing else is touched."""

import io
import itertools
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventferry.store.concatenated import SeparatedReader, Separator


def separate_slowly(text: bytes) -> bytes:
    """The oracle: byte by byte, no regular expressions."""
    out = bytearray()
    in_string = escaped = after_document = False
    for byte in text:
        char = bytes([byte])
        if char == b"\n":
            in_string = escaped = after_document = False
        elif in_string:
            if escaped:
                escaped = False
            elif char == b"\\":
                escaped = True
            elif char == b'"':
                in_string = False
        else:
            if char == b"{" and after_document:
                out += b"\n"
            in_string = char == b'"'
            if char not in b" \t\r":
                after_document = char == b"}"
        out += char
    return bytes(out)


def cut(text: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:end] for start, end in itertools.pairwise(edges)]


nasty = st.lists(
    st.sampled_from(
        [b"{", b"}", b'"', b"\\", b"\n", b" ", b"\r", b"a", b"}{", b'{"a":"}{"}', b'\\"', b",", b"[", b"\xff"]
    ),
    max_size=40,
).map(b"".join)
places = st.lists(st.integers(0, 200), max_size=8)


@given(nasty, places)
@example(b'{"a":"\\', [7])
@example(b'{"a":"x\\\n}{', [8])
def test_any_bytes_cut_anywhere_give_the_same(text: bytes, edges: list[int]) -> None:
    """The result depends on the bytes alone, not on how they came, and equals a byte-by-byte reading."""
    separator = Separator()
    assert b"".join(separator.feed(piece) for piece in cut(text, edges)) == separate_slowly(text)


json_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.sampled_from(["}{", '"}{"', "\\", "\n{"])
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=8,
)
documents = st.lists(st.dictionaries(st.text(max_size=4), json_values, max_size=3), max_size=8)


@given(documents, st.sampled_from([b"", b" ", b"\n", b"\r\n", b" \n ", b"\t"]), st.integers(1, 50))
def test_every_document_gets_its_line(events: list[dict[str, object]], gap: bytes, size: int) -> None:
    """However the documents are set apart, each is found again; those with newlines pass unchanged."""
    text = gap.join(json.dumps(event, ensure_ascii=False).encode() for event in events)
    reader = SeparatedReader(io.BytesIO(text))
    separated = b"".join(iter(lambda: reader.read(size), b""))
    assert [json.loads(line) for line in separated.split(b"\n") if line.strip()] == events
    if b"\n" in gap:
        assert separated == text


def test_reads_are_full_until_the_end() -> None:
    """A read gives exactly as much as was asked for while there is more."""
    reader = SeparatedReader(io.BytesIO(b"{}" * 1000))
    sizes = [len(piece) for piece in iter(lambda: reader.read(128), b"")]
    assert sizes == [128] * 23 + [2999 - 128 * 23]
    assert reader.read(1) == b""
    assert SeparatedReader(io.BytesIO(b"{}{}")).read() == b"{}\n{}"
    buffer = bytearray(3)
    assert SeparatedReader(io.BytesIO(b"{}{}")).readinto(buffer) == 3
    assert buffer == b"{}\n"


@pytest.mark.parametrize(
    "text", [b'{"a":"' + b"\\" * 100_001, b'"' * 100_001, b"}" * 100_000, b"} " * 50_000, b"}" + b" " * 100_000]
)
def test_hostile_text_costs_linear_time(text: bytes) -> None:
    """No input makes the search go back and forth."""
    assert len(Separator().feed(text * 20)) == len(text * 20)
