"""Which lines count as events: RFC 8259 and UTF-8 to the letter, objects only, no lone surrogates, bounded nesting."""

import io

import pytest

from eventferry.pipeline.scan import ScanResult, scan_stream

GOOD = b'{"event_timestamp":1700000000000,"a":{"b":"c"}}'

# What may stand as a value, and whether it may.
VALUES: dict[str, tuple[bytes, bool]] = {
    "string": (b'"x"', True),
    "cut string": (b'"x', False),
    "NaN": (b"NaN", False),
    "Infinity": (b"-Infinity", False),
    "dup keys": (b'{"k":1,"k":2}', True),
    "utf8 ff in value": (b'"\xff"', False),
    "utf8 ff in key": (b'{"\xff":1}', False),
    "utf8 overlong": (b'"\xc0\xaf"', False),
    "utf8 CESU surrogate": (b'"\xed\xa0\x80"', False),
    "utf8 cut": (b'"\xe2\x82"', False),
    "utf8 beyond 10FFFF": (b'"\xf4\x90\x80\x80"', False),
    "utf8 valid": ('"zażółć 東京 😀"'.encode(), True),
    "lone high surrogate escape": (b'"\\ud800"', False),
    "reversed surrogate escapes": (b'"\\udc00\\ud800"', False),
    "surrogate pair": (b'"\\ud83d\\ude00"', True),
    "raw NUL in string": (b'"\x00"', False),
    "NUL escape": (b'"\\u0000"', True),
    "NUL between tokens": (b"\x001", False),
    "raw control in string": (b'"\x01"', False),
    "raw TAB in string": (b'"\t"', False),
    "bad escape": (b'"\\x41"', False),
    "bad unicode escape": (b'"\\u12G4"', False),
    "leading zero": (b"01", False),
    "plus": (b"+1", False),
    "no integer part": (b".5", False),
    "no fraction": (b"1.", False),
    "no exponent": (b"1e", False),
    "minus": (b"-", False),
    "hex": (b"0x10", False),
    "1e400": (b"1e400", True),
    "20 digit int": (b"1" * 20, True),
    "30 digit int": (b"1" * 30, True),
    "5000 digit int": (b"1" * 5000, True),
    "trailing comma in object": (b'{"k":1,}', False),
    "trailing comma in array": (b"[1,]", False),
    "missing comma": (b'{"k":1 "l":2}', False),
    "missing colon": (b'{"k" 1}', False),
    "unquoted key": (b"{k:1}", False),
    "single quotes": (b"'x'", False),
    "comment": (b"1/* one */", False),
    "True": (b"True", False),
    "nul": (b"nul", False),
    "key is no string": (b"{1:1}", False),
    "BOM between tokens": (b"\xef\xbb\xbf1", False),
    "vertical tab": (b"\x0b1", False),
    "NBSP": (b"\xc2\xa01", False),
    "depth 500": (b"[" * 500 + b"]" * 500, True),
    "depth 1100": (b"[" * 1100 + b"]" * 1100, False),
    "depth 100k": (b"[" * 100_000 + b"]" * 100_000, False),
    "depth 100k unclosed": (b"[" * 100_000, False),
    "mismatch": (b'[{"k":1]}', False),
    "unescaped quote": (b'"x"y"', False),
}

# What may be a line.
LINES: dict[str, tuple[bytes, bool]] = {
    "good": (GOOD, True),
    "empty object": (b"{}", True),
    "truncated": (GOOD[:-1], False),
    "truncated in a skipped string": (GOOD[:-4], False),
    "trailing brace": (GOOD + b"}", False),
    "trailing text": (GOOD + b"x", False),
    "two documents": (GOOD + GOOD, False),
    "two documents and a space": (GOOD + b" " + GOOD, False),
    "two documents and a comma": (GOOD + b"," + GOOD, False),
    "dup keys at the top": (b'{"event_timestamp":1,"event_timestamp":2}', True),
    "NUL after the document": (GOOD + b"\x00", False),
    "BOM in a later line": (b"\xef\xbb\xbf" + GOOD, False),
    "CRLF": (GOOD + b"\r", True),
    "space around": (b" \t" + GOOD + b" \t", True),
    "scalar 1": (b"1", False),
    "scalar string": (b'"s"', False),
    "null": (b"null", False),
    "array": (b"[1]", False),
}

PLACES = {
    "a skipped field": b'{"event_timestamp":1700000000000,"a":%s}',
    "deep in a skipped field": b'{"a":{"b":[{"c":%s}],"d":"e"},"event_timestamp":1700000000000}',
    "the time field": b'{"event_timestamp":%s}',
    "a nested time field": b'{"keen":{"timestamp":%s},"a":1}',
    "the parent of a time field": b'{"keen":%s,"a":1}',
}


def scan_lines(*lines: bytes) -> ScanResult:
    return scan_stream(io.BytesIO(b"".join(line + b"\n" for line in lines)))


def assert_judged(line: bytes, is_event: bool) -> None:
    found = scan_lines(GOOD, line, GOOD)
    assert (found.lines, found.events, found.bad, found.blank) == (3, 2 + is_event, 1 - is_event, 0)
    alone = scan_stream(io.BytesIO(line))  # the same without a newline
    if not line.startswith(b"\xef\xbb\xbf"):
        assert (alone.lines, alone.events, alone.bad) == (1, int(is_event), 1 - is_event)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", VALUES)
def test_a_defect_makes_its_line_bad_wherever_it_lies(name: str, place: str) -> None:
    """A wrong value is found in fields that are skipped and in those that are read; a legal one never harms."""
    value, is_event = VALUES[name]
    assert_judged(PLACES[place] % value, is_event)


@pytest.mark.parametrize("name", LINES)
def test_a_line_is_one_json_object(name: str) -> None:
    """Exactly one JSON object makes a line an event."""
    assert_judged(*LINES[name])


@pytest.mark.parametrize("blank", [b"", b" ", b"\t \t", b"\r"])
def test_a_line_of_nothing_but_white_is_blank(blank: bytes) -> None:
    """Empty and white lines are neither events nor bad."""
    found = scan_lines(GOOD, blank, GOOD)
    assert (found.lines, found.events, found.bad, found.blank) == (3, 2, 0, 1)


def test_the_table_is_whole() -> None:
    """No case gets lost: one for each way in which JSON readers were found to differ."""
    assert len(VALUES) + len(LINES) == 70


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"attributes":"\xff"}', "not valid UTF-8 at byte 15"),
        (b'{"a":NaN}', "invalid JSON: invalid character"),
        (b'{"a":1}{"a":2}', "invalid JSON: trailing characters"),
        (b'{"a":1', "invalid JSON: Input data was truncated"),
        (b"[1]", "not an object"),
        (b'{"a":' * 2000 + b"1" + b"}" * 2000, "invalid JSON: nested too deeply"),
    ],
)
def test_a_bad_line_says_why(line: bytes, reason: str) -> None:
    """The reason of a bad line is short and names the byte where one is to blame."""
    (bad,) = scan_lines(GOOD, line).samples
    assert bad.reason.startswith(reason)
    assert (bad.line, bad.offset, bad.length) == (2, len(GOOD) + 1, len(line))
