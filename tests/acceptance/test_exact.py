"""Exports by random filters, counted by DuckDB over the raw files."""

import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench"


def test_exports_hold_what_somebody_else_finds_in_the_files_for_twenty_random_filters() -> None:
    """Number, times and ids of the events in CSV, NDJSON and Parquet are those that SQL over the store selects."""
    done = subprocess.run(
        [sys.executable, BENCH / "exact.py", "--events", "20000", "--filters", "20"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("same     ") == 20
