"""What is written is what was read: CSV, JSON and Parquet against readers that know nothing of the writers."""

import csv
import gzip
import io
import json
import math
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from eventferry.exports.columns import Column, columns_of
from eventferry.exports.formats import extension_of, make_encoder
from eventferry.exports.formats import parquet as parquet_format
from eventferry.exports.formats.members import make_compressor
from eventferry.exports.model import Output
from eventferry.exports.survey import Survey
from eventferry.exports.surveyor import Surveyor
from eventferry.query.expression import join_path

KEYS = st.sampled_from(["a", "b", "c.d", "", "é", 'q"', "new\nline", "=cmd", "x,y"])
TEXTS = st.text(st.characters(blacklist_categories=("Cs",)), max_size=8)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS | st.sampled_from(["=1", "-5", "+1e3", "@x", "\t", "a;b", 'say "hi"', "line\r\nbreak", "\0", "＝1"])
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6
)
EVENTS = st.lists(st.dictionaries(KEYS, VALUES, max_size=4), max_size=8)


def body_of(events: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(each, ensure_ascii=False).encode() + b"\n" for each in events)


def survey_of(*bodies: bytes) -> Survey:
    surveyor = Surveyor()
    for body in bodies:
        surveyor.add(body)
    return surveyor.survey


def encode(output: Output, *bodies: bytes, survey: Survey | None = None) -> bytes:
    encoder = make_encoder(output, columns_of(output, survey or survey_of(*bodies)))
    return b"".join((encoder.begin(), *(encoder.feed(body) for body in bodies), encoder.end()))


def flat(value: dict[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """An independent flattening: everything but objects, by path."""
    found: dict[tuple[str, ...], Any] = {}
    for key, each in value.items():
        found |= flat(each, (*path, key)) if isinstance(each, dict) else {(*path, key): each}
    return found


def object_paths(value: dict[str, Any], path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Where objects lie: null there is a missing object, not a column."""
    inner = [object_paths(each, (*path, key)) | {(*path, key)} for key, each in value.items() if isinstance(each, dict)]
    return set().union(*inner)


def cell(value: Any) -> str:
    """An independent spelling of a cell."""
    if value is None:
        return ""
    if isinstance(value, list):
        dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
        return ";".join(dumps(each) if isinstance(each, list | dict) else cell(each) for each in value)
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else json.dumps(value)


def read_csv(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode(), newline="")))


@given(EVENTS)
@settings(max_examples=300, deadline=None)
def test_csv_holds_every_value_where_an_independent_flattening_puts_it(events):
    header, *rows = read_csv(encode(Output("csv"), body_of(events))) or [[]]
    wanted = [flat(each) for each in events]
    objects = {path for each in events for path in object_paths(each)}
    paths = sorted(
        {path for each in wanted for path, value in each.items() if value is not None or path not in objects},
        key=join_path,
    )
    if events and not paths:
        assert (header, [json.loads(row[0]) for row in rows]) == (["event"], events)
        return
    assert header == [join_path(path) for path in paths]
    assert rows == [[cell(each.get(path)) for path in paths] for each in wanted]


@given(EVENTS, st.integers(0, 8))
def test_a_json_array_is_valid_however_the_events_come(events, cut):
    data = encode(Output("json"), body_of(events[:cut]), b"", body_of(events[cut:]))
    assert json.loads(data) == events


@given(EVENTS)
@settings(max_examples=200, deadline=None)
def test_parquet_holds_every_value_or_its_json_text(events):
    data = encode(Output("parquet"), body_of(events))
    table = pq.read_table(io.BytesIO(data))
    columns = columns_of(Output("parquet"), survey_of(body_of(events)))
    assert table.num_rows == len(events)
    assert json.loads(table.schema.metadata[b"eventferry.json_columns"]) == [
        each.name for each in columns if each.type == "json"
    ]
    for column in columns:
        for event, found in zip(events, table.column(column.name).to_pylist(), strict=True):
            value: Any = event
            for key in column.path:
                value = value.get(key) if isinstance(value, dict) else None
            if column.type == "json" and value is not None:
                found = json.loads(found)
            assert found == value or (found is None and isinstance(value, dict))


@given(EVENTS, st.integers(0, 8))
def test_a_survey_does_not_depend_on_how_the_events_come(events, cut):
    whole = survey_of(body_of(events)).to_data()
    one, other = survey_of(body_of(events[:cut])), survey_of(body_of(events[cut:]))
    one.merge(Survey.from_data(json.loads(json.dumps(other.to_data()))))
    assert one.to_data() == whole
    assert survey_of(*(body_of([each]) for each in events)).to_data() == whole


def test_what_many_alike_events_teach_does_not_hide_the_odd_one():
    alike = [{"a": "x", "n": 1, "o": {"p": True}}] * 500
    odd = [{"a": 1, "n": 2**60, "o": None}, {"a": "x", "n": 1.5, "o": {"p": "t", "q": []}}, {"n": None, "o": 3}]
    for at in (0, 1, 250, 500):
        events = alike[:at] + odd + alike[at:]
        found = dict(survey_of(body_of(events)).rows())
        assert found["a"] == {"string": 501, "integer": 1}
        assert found["n"] == {"integer": 501, "null": 1, "number": 1}
        assert found["o"] == {"object": 501, "integer": 1, "null": 1}
        assert found["o.p"] == {"boolean": 500, "string": 1}
        assert found["o.q"] == {"array": 1}


@pytest.mark.parametrize("number", ["1.50", "1E5", "123456789012345678901234567890", "1e400", "-0.0", "9" * 5000])
def test_numbers_keep_their_spelling(number):
    body = f'{{"a":{number},"l":[{number},[{number}]]}}\n'.encode()
    assert read_csv(encode(Output("csv"), body))[1] == [number, f"{number};[{number}]"]
    table = pq.read_table(io.BytesIO(encode(Output("parquet"), body)))
    assert math.isclose(float(table.column("a")[0].as_py()), float(number))
    if table.column("a").type == "string":
        assert table.column("a")[0].as_py() == number


def test_cells_that_a_spreadsheet_would_run_are_guarded_and_numbers_are_not():
    risky = ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠1"]
    safe = ["-5", "+5", "-1.5e-3", "5", "", "a=1", "'=1"]
    body = body_of([{"a": each} for each in (*risky, *safe)] + [{"a": -5}, {"a": -1.5}, {"a": ["=1", 2]}])
    rows = [row[0] for row in read_csv(encode(Output("csv", formula_guard=True), body))[1:]]
    assert rows == [*("'" + each for each in risky), *safe, "-5", "-1.5", "'=1;2"]
    assert read_csv(encode(Output("csv", formula_guard=True), body_of([{"=cmd": 1}])))[0] == ["'=cmd"]


@pytest.mark.parametrize(
    ("cell", "guarded"),
    [
        (" =1+1", "' =1+1"),
        ("\ufeff=1+1", "'\ufeff=1+1"),
        ("\u200b\xa0@x", "'\u200b\xa0@x"),
        ("x;=1+1", "x;'=1+1"),
        ("x\n=1;", "x\n'=1;"),
        ("1;-2", "1;-2"),
        ("-1;-2", "-1;-2"),
        ("2026-01-02", "2026-01-02"),
    ],
)
def test_a_formula_is_found_behind_blanks_and_where_semicolons_separate(cell, guarded):
    """Spreadsheets of half the world begin a cell at a semicolon, whatever the quotes; lists of numbers stay."""
    body = body_of([{"a": cell}])
    assert read_csv(encode(Output("csv", formula_guard=True), body))[1] == [guarded]
    assert read_csv(encode(Output("csv"), body))[1] == [cell]


def test_fields_choose_and_order_the_columns():
    body = body_of([{"a": {"b": 1, "c": [{"d": 1.0}]}, "e": True}, {"a": 2}])
    fields = (("e",), ("a",), ("a", "b"), ("no",))
    assert read_csv(encode(Output("csv", fields=fields), body)) == [
        ["e", "a", "a.b", "no"], ["true", '{"b":1,"c":[{"d":1.0}]}', "1", ""], ["", "2", "", ""],
    ]  # fmt: skip
    assert encode(Output("ndjson", fields=(("a", "b"), ("e",))), body) == b'{"a":{"b":1},"e":true}\n{}\n'
    table = pq.read_table(io.BytesIO(encode(Output("parquet", fields=fields), body)))
    assert table.column_names == ["e", "a", "a.b", "no"]
    assert table.column("a.b").to_pylist() == [1, None]
    assert [json.loads(each) for each in table.column("a").to_pylist()] == [{"b": 1, "c": [{"d": 1.0}]}, 2]


def test_types_of_parquet_columns_lose_nothing():
    cases: dict[str, tuple[list[Any], str]] = {
        "text": (["a", None], "string"),
        "long": ([1, 2**62], "int64"),
        "huge": ([1, 2**64], "json"),
        "mixed": ([1, 2.5], "double"),
        "lossy": ([2**53 + 1, 2.5], "json"),
        "bools": ([True, False], "bool"),
        "odd": ([True, 1], "json"),
        "texts": ([["a"], []], "list<string>"),
        "ints": ([[1, None], None], "list<int64>"),
        "doubles": ([[1], [2.5]], "list<double>"),
        "oddlist": ([[1], ["a"]], "json"),
        "deep": ([[[1]], [{"a": 1}]], "json"),
        "nulls": ([None, None], "string"),
        "split": ([{"x": 1}, "x"], "json"),
    }
    events = [{name: values[number] for name, (values, _) in cases.items()} for number in (0, 1)]
    found = {each.name: each.type for each in columns_of(Output("parquet"), survey_of(body_of(events)))}
    assert found == {name: kind for name, (_, kind) in cases.items()}


def test_duckdb_reads_what_was_written(tmp_path):
    events = [{"n": n, "t": f'x,"{n}"\n', "o": {"b": n % 2 == 0}, "l": ["a", str(n)]} for n in range(1000)]
    body = body_of(events)
    for format_ in ("csv", "parquet"):
        (tmp_path / f"a.{format_}").write_bytes(encode(Output(format_), body))
    query = 'select count(*), sum(n), count(*) filter ("o.b"), min(t) from '
    for read in (f"read_csv('{tmp_path}/a.csv', all_varchar=false)", f"'{tmp_path}/a.parquet'"):
        assert duckdb.sql(query + read).fetchall() == [(1000, 499500, 500, 'x,"0"\n')]


@pytest.mark.parametrize("format_", ["csv", "parquet"])
def test_duckdb_reads_as_many_rows_as_there_are_events_without_properties(tmp_path, format_):
    (tmp_path / f"a.{format_}").write_bytes(encode(Output(format_), b"{}\n" * 7))
    assert duckdb.sql(f"select event from '{tmp_path}/a.{format_}'").fetchall() == [("{}",)] * 7


def test_an_empty_selection_gives_valid_files():
    assert encode(Output("csv")) == b"\r\n"
    assert json.loads(encode(Output("json"))) == []
    table = pq.read_table(io.BytesIO(encode(Output("parquet"))))
    assert (table.num_rows, table.column_names) == (0, ["event"])


def test_events_without_properties_are_rows_all_the_same():
    assert encode(Output("csv"), b"{}\n{ }\n") == b"event\r\n{}\r\n{ }\r\n"
    assert read_csv(encode(Output("csv"), b'{"o":{}}\n')) == [["event"], ['{"o":{}}']]
    table = pq.read_table(io.BytesIO(encode(Output("parquet"), b"{}\n{ }\n")))
    assert table.column("event").to_pylist() == ["{}", "{ }"]


def test_row_groups_are_bounded_and_bytes_are_the_same_each_time(monkeypatch):
    monkeypatch.setattr(parquet_format, "ROW_GROUP", 10_000)
    bodies = [body_of([{"n": n, "t": "x" * 50} for n in range(start, start + 100)]) for start in range(0, 1000, 100)]
    data = encode(Output("parquet"), *bodies)
    assert pq.ParquetFile(io.BytesIO(data)).num_row_groups == 5
    assert data == encode(Output("parquet"), *bodies)
    assert pq.read_table(io.BytesIO(data)).column("n").to_pylist() == list(range(1000))


@pytest.mark.parametrize(("compression", "undo"), [("gzip", gzip.decompress), ("zstd", zstd.decompress)])
@given(pieces=st.lists(st.binary(max_size=30), max_size=8))
def test_compressed_members_stand_alone_and_go_together(compression, undo, pieces):
    compressor = make_compressor(compression, member=20)
    found = b"".join([*(compressor.feed(piece) for piece in pieces), compressor.end()])
    assert undo(found) == b"".join(pieces)


def test_names_say_how_a_file_is_packed():
    assert extension_of(Output("csv", "gzip")) == ".csv.gz"
    assert extension_of(Output("ndjson", "zstd")) == ".ndjson.zst"
    assert extension_of(Output("parquet", "gzip")) == ".parquet"


def test_a_column_of_a_key_with_dots_is_named_as_a_pointer():
    body = body_of([{"a.b": 1, "a": {"b": 2}}])
    assert read_csv(encode(Output("csv"), body)) == [["/a.b", "a.b"], ["1", "2"]]
    assert Column(("a.b", "c")).name == "/a.b/c"
