"""The map from every line of the five source documents to the test that proves it: complete, and true.

A row is one line that is not blank, known by the digest of its text. Its proof names tests, or says `narrative`
(nothing is promised in it) or `decided: why` (the documents contradict themselves or leave it open, and this is what
was chosen). With EVENTFERRY_SEEDS naming the folder of the documents the digests are held against them, too.
"""

import ast
import csv
import hashlib
import os
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
MAP = Path(__file__).with_name("seeds.csv")
DOCUMENTS = {
    "altis": ("altis-data-export.md", 72),
    "gooee": ("gooee-analytics-export.rst", 115),
    "connect": ("connect-exporting-events.md", 126),
    "keen": ("keen-data-extractions.rst", 68),
    "ombori": ("ombori-raw-data-export.md", 51),
}
OVER_HTTP = ("tests/acceptance/",)
EXCUSES = ("mark.skip", "mark.xfail", "pytest.skip", "pytest.xfail")


def rows() -> list[dict[str, str]]:
    with MAP.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))


def proofs(row: dict[str, str]) -> list[str]:
    if row["proof"] == "narrative" or row["proof"].startswith("decided: "):
        return [word for word in row["proof"].split() if word.startswith("tests/")]
    return row["proof"].split()


@cache
def find_tests(path: Path) -> dict[str, bool]:
    """The tests of a file, and whether each one really runs: neither skipped nor expected to fail."""
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            text = ast.unparse(node)
            found[node.name] = not any(
                mark in text for mark in ("mark.skip", "mark.xfail", "pytest.skip", "pytest.xfail")
            )
    return found


def is_proof(proof: str) -> bool:
    path, _, name = proof.partition("::")
    return (CHECKOUT / path).is_file() and find_tests(CHECKOUT / path).get(name.partition("[")[0], False)


def digest_of(line: str) -> str:
    return hashlib.sha256(line.strip().encode()).hexdigest()[:12]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_line_of_the_document_is_in_the_map(document: str) -> None:
    """No line is left out, none is there twice, and each says what it is about and what became of it."""
    mine = [row for row in rows() if row["document"] == document]
    assert max(Counter(row["line"] for row in mine).values()) == 1
    assert len(mine) == DOCUMENTS[document][1]
    assert [row["line"] for row in mine if not row["says"] or not row["proof"]] == []


def test_every_proof_is_a_test_that_runs() -> None:
    """Each line names tests that exist and are not skipped."""
    assert sorted({proof for row in rows() for proof in proofs(row) if not is_proof(proof)}) == []


def test_what_is_no_test_is_narrative_or_decided_with_a_reason() -> None:
    """No line is waved through without a word."""
    odd = [row for row in rows() if not proofs(row) and row["proof"] != "narrative"]
    assert [row["proof"] for row in odd if len(row["proof"]) < len("decided: ") + 20] == []


def test_most_lines_are_proved_by_the_running_product() -> None:
    """The proofs drive the served product, not its parts."""
    named = {proof for row in rows() for proof in proofs(row)}
    assert [proof for proof in named if not proof.startswith(OVER_HTTP)] == []


def test_the_map_is_of_the_documents_as_they_are() -> None:
    """Where the documents are at hand, each digest is that of the line it stands for."""
    folder = os.environ.get("EVENTFERRY_SEEDS")
    for document, (name, _) in DOCUMENTS.items() if folder else ():
        lines = Path(str(folder), name).read_text(encoding="utf-8").splitlines()
        digests = {
            str(n): hashlib.sha256(line.strip().encode()).hexdigest()[:12]
            for n, line in enumerate(lines, 1)
            if line.strip()
        }
        assert {row["line"]: row["digest"] for row in rows() if row["document"] == document} == digests
    assert len({row["document"] for row in rows()}) == len(DOCUMENTS)
