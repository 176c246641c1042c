"""The map from kinds of bad input to the tests that prove what is required of them: complete, and true."""

import ast
import csv
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
MAP = Path(__file__).with_name("bad_input.csv")

# Every kind of bad input that was found to break a product of this sort.
KINDS = {
    "truncated .gz",
    "truncated .zst",
    "bad CRC / bit flip",
    "several members/frames",
    "trailing garbage / zeros",
    "empty file, 0-byte .zst",
    "gzip bomb / zstd bomb",
    "zstd windowLog 30",
    "one 256 MiB line, no newline",
    "nesting bomb",
    "invalid UTF-8, lone surrogate",
    r"\u0000 in a string",
    "NaN/Infinity/1e999",
    "integers beyond 64 bits",
    "duplicate keys",
    "BOM",
    r"CRLF, blank lines, U+2028, \x85, \x1e",
    "scalar or array line",
    "hash-flood keys",
    "odd timestamps",
    "hostile field names",
    "hostile key names",
    "10^6 files in a prefix, deep keys, loops",
    "every line bad (1 GB)",
    "configuration",
}
EXCUSES = ("pull side: ", "typed sinks: later issue (", "later issue: ")
END_TO_END = ("tests/acceptance/", "tests/integration/")


def rows() -> list[dict[str, str]]:
    with MAP.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))


def proofs(row: dict[str, str]) -> list[str]:
    return [] if row["proof"].startswith(EXCUSES) else row["proof"].split()


@cache
def find_tests(path: Path) -> frozenset[str]:
    """The tests of a file, `Class::test` in classes; a class of promises stands for all of them."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            inner = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
            found |= {node.name, *(f"{node.name}::{name}" for name in inner)}
    return frozenset(name for name in found if name.rpartition("::")[2].startswith(("test_", "Test")))


def is_there(proof: str) -> bool:
    path, _, name = proof.partition("::")
    return (CHECKOUT / path).is_file() and name in find_tests(CHECKOUT / path)


def test_every_kind_is_in_the_map() -> None:
    """No kind of bad input is left out, none is there under another name, each line says what is required."""
    assert {row["input"] for row in rows()} == KINDS
    assert all(row["required"] and row["proof"] for row in rows())


def test_every_proof_is_a_test() -> None:
    """Each line of the map names tests that exist, or says why there is none."""
    assert [proof for row in rows() for proof in proofs(row) if not is_there(proof)] == []


def test_every_kind_is_proved_end_to_end() -> None:
    """For each kind at least one proof carries files through the product, beside those of its parts."""
    proved = {row["input"] for row in rows() if any(proof.startswith(END_TO_END) for proof in proofs(row))}
    assert proved == KINDS


def test_every_test_of_bad_input_is_in_the_map() -> None:
    """A test of bad input that the map does not name has lost its reason, or the map a line."""
    named = {proof for row in rows() for proof in proofs(row)}
    paths = [path for path in Path(__file__).parent.glob("test_bad_*.py") if path != Path(__file__)]
    assert len(paths) == 4
    assert [f"tests/acceptance/{path.name}::{name}" for path in paths for name in find_tests(path)
            if f"tests/acceptance/{path.name}::{name}" not in named] == []  # fmt: skip


def test_the_map_can_be_wrong() -> None:
    """What is no test, or no file, is noticed."""
    assert is_there("tests/acceptance/test_bad_input.py::test_the_map_can_be_wrong")
    assert not is_there("tests/acceptance/test_bad_input.py::test_nothing")
    assert not is_there("tests/acceptance/test_bad_input.py::proofs")
    assert not is_there("tests/acceptance/test_bad.py::test_nothing")
