"""Bad lines and odd ones: a bad line stops nothing and is told; an odd one arrives with the bytes it came with."""

import gzip
from pathlib import Path

import duckdb
import pytest
from tests.acceptance.hostile import CHECKOUT, MIB, carry
from tests.builders import Ferry, event, events
from tests.scripted import refusing

# What looks odd and is an event all the same: every byte of it arrives.
ODD = {
    "a NUL escape": rb'{"n":1,"s":"a\u0000b","\u0000":1}',
    "2^63 to 2^64": b'{"n":1,"a":9223372036854775808,"b":18446744073709551615,"c":18446744073709551616}',
    "an integer of 5000 digits": b'{"n":1,"a":' + b"7" * 5000 + b',"b":-' + b"7" * 5000 + b"}",
    "a number beyond what a double holds": b'{"n":1,"a":1e999,"b":-1e999,"c":1e-999,"d":1e400000}',
    "digits that a double rounds": b'{"n":1,"a":0.1000000000000000055511151231257827,"b":1.0,"c":-0.0,"d":1E5}',
    "duplicate keys": b'{"n":1,"k":1,"k":2,"n":3,"event_timestamp":1,"event_timestamp":2}',
    "line separators of Unicode": b'{"n":1,"s":"a\xe2\x80\xa8b\xe2\x80\xa9c\xc2\x85d\x7f"}',
    "escaped separators": rb'{"n":1,"s":"\r\n\u001e\u001c\u001d\u2028\u0085\f"}',
    "white space of all sorts": b' \t{ "n" :\t1 , "s" :\r[ ] } \t',
    "field names of SQL and JavaScript": b'{"n":1,"\\"; DROP TABLE events; --":1,"__proto__":{"x":1},"constructor":2}',
    "field names of 70 bytes, twins, dots": b'{"n":1,"'
    + b"y" * 70
    + b'":1,"Event":2,"EVENT":3,"event":4,"a.b":5,"":6}',
    "no field at all": b"{}",
    "a hundred levels": b'{"n":1,"a":' + b'{"a":[' * 50 + b"]}" * 50 + b"}",
    "the same event once more": event(0)[:-1],
}

# What is no event, and what is said about it.
BAD = {
    "invalid UTF-8": (b'{"n":1,"s":"\xff"}', "not valid UTF-8 at byte 12"),
    "a lone surrogate": (rb'{"n":1,"s":"\ud800"}', "invalid JSON"),
    "a lone surrogate in a key": (rb'{"\udfff":1}', "invalid JSON"),
    "an encoded surrogate": (b'{"n":1,"s":"\xed\xa0\x80"}', "not valid UTF-8"),
    "NaN": (b'{"n":1,"a":NaN}', "invalid JSON"),
    "Infinity": (b'{"n":1,"a":-Infinity}', "invalid JSON"),
    "a raw NUL": (b'{"n":1,"a":"\x00"}', "invalid JSON"),
    "a record separator": (b'\x1e{"n":1}', "invalid JSON"),
    "a raw record separator in a string": (b'{"n":1,"s":"a\x1eb"}', "invalid JSON"),
    "a raw next-line": (b'{"n":1,"s":"a\x85b"}', "not valid UTF-8"),
    "a byte order mark": (b'\xef\xbb\xbf{"n":1}', "invalid JSON"),
    "a number": (b"1", "not an object"),
    "a string": (b'"n"', "not an object"),
    "null": (b"null", "not an object"),
    "an array": (b'[{"n":1}]', "not an object"),
    "a hundred thousand levels": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    "a hundred thousand open levels": (b'{"a":' * 100_000, "nested too deeply"),
    "levels in the time": (b'{"event_timestamp":' + b"[" * 100_000, "nested too deeply"),
    "half an event": (b'{"n":1,"s":"hal', "invalid JSON"),
    "two events": (b'{"n":1}{"n":2}', "invalid JSON"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_event_arrives_byte_for_byte(tmp_path: Path, name: str) -> None:
    """Nothing is parsed and written anew, nothing is split or dropped, and nobody is told."""
    content = event(0) + ODD[name] + b"\n" + event(2)
    found = carry(tmp_path, {"a.ndjson.gz": gzip.compress(content)})
    assert found.body == content
    assert (found.book.events, found.book.bad, found.alerts) == (3, 0, {})


def test_odd_events_pass_a_filter_and_keep_their_bytes(tmp_path: Path) -> None:
    """Looking into an event to choose it does not change it, whatever its numbers and keys are."""
    chosen = [line for name, line in ODD.items() if name != "no field at all"]
    with Ferry(tmp_path) as ferry:
        ferry.sinks["out"]["filter"] = [{"field": "n", "exists": True}]
        ferry.put("2026/01/02/03/a.ndjson", b"\n".join(ODD.values()))
        ferry.open()
        ferry.index()
        ferry.deliver()
        assert ferry.script().lines() == chosen
        assert ferry.book().filtered == 1


@pytest.mark.parametrize("name", BAD)
def test_a_bad_line_is_told_with_its_place_and_stops_nothing(tmp_path: Path, name: str) -> None:
    """File, line, byte, length and reason; the lines around it arrive."""
    line, reason = BAD[name]
    found = carry(tmp_path, {"a.ndjson": event(0) + line + b"\n" + event(2)})
    assert found.body == event(0) + event(2)
    assert (found.book.events, found.book.bad) == (2, 1)
    [(number, offset, length, said)] = found.bad
    assert (number, offset, length) == (2, len(event(0)), len(line))
    assert reason in said
    assert list(found.alerts) == ["lines.bad:events"]


def test_all_bad_lines_together_leave_exactly_the_good_ones(tmp_path: Path) -> None:
    """Good and bad in turn, in one file: each line is judged by itself."""
    bad, odd = [line for line, _ in BAD.values()], list(ODD.values())
    lines = [line for pair in zip(bad, [*odd, *odd[: len(bad) - len(odd)]], strict=True) for line in pair]
    found = carry(tmp_path, {"a.ndjson": b"\n".join(lines)}, bad_share=1.0)
    assert found.lines == lines[1::2]
    assert [row[0] for row in found.bad] == list(range(1, 2 * len(bad), 2))


def test_a_byte_order_mark_is_stripped_at_the_start_of_a_file_only(tmp_path: Path) -> None:
    """Not at the start of a later line, nor of a later gzip member."""
    mark = b"\xef\xbb\xbf"
    found = carry(
        tmp_path,
        {
            "a.ndjson": mark + event(0) + mark + event(1) + event(2),
            "b.ndjson.gz": gzip.compress(mark + event(3)) + gzip.compress(mark + event(4)),
            "c.ndjson": mark + mark + event(5),
        },
    )
    assert found.body == event(0) + event(2) + event(3)
    assert [row[0] for row in found.bad] == [2, 2, 1]


def test_lines_end_at_newlines_and_nowhere_else(tmp_path: Path) -> None:
    """CRLF becomes a newline, blank lines are counted, no other separator ends a line or begins one."""
    separated = b'{"n":1,"s":"\xe2\x80\xa8\xe2\x80\xa9\xc2\x85"}'
    content = b"\r\n\n \t\n" + separated + b"\r\n" + event(2)[:-1] + b"\r\n\r\n\n" + event(3)[:-1]
    found = carry(tmp_path, {"a.ndjson": content})
    assert found.body == separated + b"\n" + event(2) + event(3)
    assert (found.book.events, found.book.bad) == (3, 0)
    assert found.alerts == {}


def test_a_line_of_a_million_keys_meets_the_limit_of_a_line(tmp_path: Path) -> None:
    """12 MB in one object is a bad line; where the source allows it, it is an event like any other."""
    line = b'{"n":1,' + b",".join(b'"%x":%d' % (number, number % 10) for number in range(1_000_000)) + b"}"
    content = event(0) + line + b"\n" + event(2)
    found = carry(tmp_path / "a", {"a.ndjson": content})
    assert found.body == event(0) + event(2)
    assert [row[2:] for row in found.bad] == [(len(line), "longer than 1 MiB")]
    assert carry(tmp_path / "b", {"a.ndjson": content}, max_line="16MiB").body == content


def test_nothing_that_is_shipped_fixes_the_seed_of_hashes() -> None:
    """Keys that were chosen to collide need to know the seed; Python draws a new one for each process."""
    shipped = [path for folder in ("systemd", "daemon", "sinks") for path in (CHECKOUT / folder).rglob("*")]
    texts = [
        path.read_bytes() for path in [CHECKOUT / "Makefile", *shipped] if path.is_file() and path.suffix != ".pyc"
    ]
    assert len(texts) > 100
    assert not any(b"PYTHONHASHSEED" in text for text in texts)


def test_the_longest_line_is_an_event_and_one_byte_more_is_not(tmp_path: Path) -> None:
    """max_line counts the line without its newline."""
    longest = b'{"n":1,"s":"' + b"x" * (MIB - 14) + b'"}'
    assert len(longest) == MIB
    found = carry(tmp_path, {"a.ndjson": longest + b"\n" + longest[:-1] + b" }\n" + event(2)})
    assert found.body == longest + b"\n" + event(2)
    assert [row[:3] for row in found.bad] == [(2, MIB + 1, MIB + 1)]


# -- times ------------------------------------------------------------------------------------------------------------

NO_TIMES = [
    "-1", "-1e3", "253402300800000", "9223372036854775808", "1" * 400, "1e300", "1e999", "null", "true", "{}", "[1]",
    '""', '"soon"', '"../../../etc/passwd"', '"0001-01-01T00:00:00Z"', '"1969-12-31T23:59:59Z"', '"+10000-01-01"',
    '"2026-02-30T00:00:00Z"', '"2026-01-01T25:00:00Z"', '"20260101"', '"NaN"',
]  # fmt: skip


def test_an_odd_time_is_counted_and_harms_nothing(tmp_path: Path) -> None:
    """Negative, too far, of another kind, missing: no bad line, delivered as it came, counted as untimed."""
    odd = b"".join(b'{"event_timestamp":%s}\n' % time.encode() for time in NO_TIMES) + b'{"n":1}\n'
    found = carry(tmp_path, {"a.ndjson": odd + events(3)})
    assert found.body == odd + events(3)
    assert (found.book.bad, found.book.untimed, found.alerts) == (0, len(NO_TIMES) + 1, {})


def test_no_time_in_an_event_moves_a_cursor(tmp_path: Path) -> None:
    """After events of the year 9999 files of today are taken as ever: what is taken is decided by keys."""
    with Ferry(tmp_path) as ferry:
        ferry.put("2026/01/02/03/a.ndjson", b'{"n":0,"event_timestamp":"9999-12-31T23:59:59Z"}\n')
        ferry.open()
        ferry.index()
        ferry.deliver()
        ferry.put("2026/01/02/03/b.ndjson", event(1))
        ferry.put("2026/01/02/04/c.ndjson", event(2))
        ferry.index()
        ferry.deliver()
        assert len(ferry.script().lines()) == 3


def test_no_time_in_an_event_becomes_a_path_without_being_looked_at(tmp_path: Path) -> None:
    """Files of the `file` sink lie in days of the calendar or in `undated`, whatever the events say."""
    (tmp_path / "out").mkdir()
    times = [*NO_TIMES, "253402300799999", "0"]
    with Ferry(tmp_path) as ferry:
        batch = {"max_wait": "0s", "max_events": 1}
        ferry.sinks["out"] = {"type": "file", "path": str(tmp_path / "out"), "batch": batch}
        for number, time in enumerate(times):
            ferry.put(f"2026/01/02/03/{number:02}.ndjson", b'{"event_timestamp":%s}\n' % time.encode())
        ferry.open()
        ferry.index()
        ferry.deliver()
        written = [path for path in (tmp_path / "out").rglob("*.ndjson*") if path.is_file()]
        assert len(written) == len(times)
        days = {str(path.parent.relative_to(tmp_path / "out")) for path in written}
        assert days == {"undated", "9999/12/31", "1970/01/01"}
        assert set(tmp_path.iterdir()) == {tmp_path / name for name in ("out", "events", "state", "config.toml")}


# -- what a sink makes of them ----------------------------------------------------------------------------------------


def test_odd_events_reach_duckdbs_raw_column_intact(tmp_path: Path) -> None:
    """Hostile field names, NULs, numbers beyond all types, twins: one JSON column holds each event as it was."""
    path = tmp_path / "bi.duckdb"
    with Ferry(tmp_path) as ferry:
        ferry.sinks["out"] = {"type": "duckdb", "path": str(path), "batch": {"max_wait": "0s"}}
        ferry.put("2026/01/02/03/a.ndjson", b"\n".join(ODD.values()) + b"\n")
        ferry.open()
        ferry.index()
        ferry.deliver()
        assert ferry.letters() == []
        assert ferry.book().delivered == len(ODD)
    with duckdb.connect(str(path), read_only=True) as connection:
        rows = connection.execute("SELECT event FROM events ORDER BY rowid").fetchall()
    assert [row[0].encode() for row in rows] == list(ODD.values())


def test_an_event_that_a_sink_refuses_blocks_no_other(tmp_path: Path) -> None:
    """A NUL that the sink's database cannot hold becomes a dead letter with its bytes; all the others arrive."""
    poison = rb'{"n":500,"s":"a\u0000b"}' + b"\n"
    with Ferry(tmp_path) as ferry:
        ferry.script().behave = refusing(rb"\u0000", "unsupported Unicode escape sequence")
        ferry.put("2026/01/02/03/a.ndjson", events(500) + poison + events(499, 501))
        ferry.open()
        ferry.index()
        ferry.deliver()
        assert b"".join(line + b"\n" for line in ferry.script().lines()) == events(500) + events(499, 501)
        [letter] = ferry.letters()
        assert (letter.body, letter.place) == (poison, "2026/01/02/03/a.ndjson:501")
