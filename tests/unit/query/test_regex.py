"""Patterns of strangers: linear time, bounded programs, answers for every text."""

import subprocess
import sys
import time

import pytest

from eventferry.query.regex import compile_pattern


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(a+)+$", "a" * 100_000 + "b"),
        ("(a|a)*b", "a" * 100_000),
        ("(.*)*x$", "y" * 100_000),
        ("^(([a-z])+.)+[A-Z]([a-z])+$", "a" * 100_000),
    ],
)
def test_a_pattern_that_stops_others_for_ages_takes_no_time(pattern: str, text: str) -> None:
    """Nested repetitions cost linear time, so that nobody can stop an export with one."""
    began = time.perf_counter()
    assert not compile_pattern(pattern)(text)
    assert time.perf_counter() - began < 1


def test_a_pattern_is_searched_anywhere_in_the_characters_of_a_text() -> None:
    """Characters beyond ASCII count as one each; without anchors any place will do."""
    assert compile_pattern("é.b")("xéüby")
    assert compile_pattern("(?i)ABC")("xabcx")
    assert not compile_pattern("^abc$")("xabc")
    assert not compile_pattern("a")("\ud800")


def test_the_library_of_patterns_is_loaded_by_filters_that_need_it_only() -> None:
    """A process whose filters have no pattern does without its memory."""
    code = (
        "import sys; from eventferry.query import parse_filter, compile_filter;"
        "compile_filter(parse_filter([{'field': 'a', 'eq': 1}])); print('re2' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
