"""The demo: its books balance, and equal a count by a script that imports nothing of eventferry."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
DEMO = CHECKOUT / "demo"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Where a smaller demo left its files, and what it printed."""
    folder = tmp_path_factory.mktemp("demo") / "data"
    done = subprocess.run(
        [sys.executable, DEMO / "run.py", "--directory", folder, "--events", "8800"],
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def count(folder: Path) -> dict[str, dict[str, object]]:
    """What the independent script counts."""
    done = subprocess.run(
        [sys.executable, DEMO / "count.py", folder / "store", folder / "delivered", folder / "warehouse.duckdb"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    found: dict[str, dict[str, object]] = json.loads(done.stdout)
    return found


def test_the_books_equal_an_independent_count(demo: tuple[Path, str]) -> None:
    """Lines = events + bad + blank, both sinks have all events byte for byte, and eventferry says the same."""
    folder, printed = demo
    counted = count(folder)
    store, files, warehouse = counted["store"], counted["files"], counted["warehouse"]
    # 88 files and a late one of 100 events each, but an empty and a truncated one; three hold five bad lines each.
    assert store == store | {"files": 89, "unreadable": 1, "lines": 8718, "events": 8700, "bad": 15, "blank": 3}
    assert files == files | {"events": store["events"], "sum": store["sum"]}
    assert warehouse == {"events": store["events"], "sum": store["sum"]}
    table = dict(re.findall(r"(?m)^ *([A-Z]?[\w '.]+?) +([\d,]+ +[\d,]+) +✓$", printed))
    said = {label: tuple(int(n.replace(",", "")) for n in numbers.split()) for label, numbers in table.items()}
    assert said == {
        "Lines in the store's files": (8718, 8718),
        "events": (8700, 8700),
        "bad lines": (15, 15),
        "blank lines": (3, 3),
        "Files that cannot be read": (1, 1),
        "Events in NDJSON files": (8700, 8700),
        "Events in DuckDB": (8700, 8700),
    }
    assert "✗" not in printed.partition("5  The books")[2]


def test_the_late_file_is_taken_alone_by_the_second_run(demo: tuple[Path, str]) -> None:
    """A file with older events than those delivered is found by the next run, which sends nothing else again."""
    _, printed = demo
    first, second = (part.split("\n\n$ ")[0] for part in re.split(r"\$ \S*eventferry --config \S+ once", printed)[1:])
    assert "8,600" in first
    assert "87" in first
    (source,) = [line.split() for line in second.splitlines() if line.startswith("website")]
    sinks = [line.split() for line in second.splitlines() if line.startswith(("files", "warehouse"))]
    assert source[1:3] == ["1", "100"]
    assert [row[1] for row in sinks[:2]] == ["100", "100"]


def test_the_truncated_file_is_quarantined_and_sends_nothing(demo: tuple[Path, str]) -> None:
    """A person is told which file it is, why, and what to run."""
    _, printed = demo
    assert "1 quarantined" in printed
    assert "truncated: the object ends inside a gzip stream" in printed
    assert "eventferry files list --state quarantined" in printed
    assert "files list --state quarantined" in printed.partition("6  What")[0]


def test_what_is_advised_names_the_configuration(demo: tuple[Path, str]) -> None:
    """Each command can be copied as it is, without an environment variable."""
    folder, printed = demo
    advised = re.findall(r"eventferry .*", printed.partition("6  What")[0].replace("\n", " \n"))
    commands = [each for each in advised if re.search(r"\b(once|status|files) ", each)]
    assert commands
    assert all(each.startswith(f"eventferry --config {folder}/config.toml ") for each in commands)


def test_a_difference_does_not_go_unnoticed(demo: tuple[Path, str], tmp_path: Path) -> None:
    """The script that counts is worth something: one event more or less, or another one, and it says so."""
    folder, _ = demo
    lines = [path.read_bytes().splitlines(keepends=True) for path in sorted((folder / "delivered").rglob("*.ndjson"))]
    events = [line for each in lines for line in each]
    for name, tampered in {
        "fewer": events[1:],
        "twice": [*events, events[0]],
        "changed": [events[0].replace(b'"platform"', b'"Platform"'), *events[1:]],
        "swapped": [*events[1:], events[1]],
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "all.ndjson").write_bytes(b"".join(tampered))
        done = subprocess.run(
            [sys.executable, DEMO / "count.py", folder / "store", tmp_path / name, folder / "warehouse.duckdb"],
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 1, name


def test_the_counting_script_is_independent() -> None:
    """It imports the standard library and DuckDB, nothing that eventferry is made of."""
    found = set()
    for node in ast.walk(ast.parse((DEMO / "count.py").read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    assert found - sys.stdlib_module_names == {"duckdb"}


def test_the_demo_removes_only_what_it_wrote(tmp_path: Path) -> None:
    """A directory with something else in it is refused and left as it is."""
    (tmp_path / "mine.txt").write_text("keep")
    done = subprocess.run(
        [sys.executable, DEMO / "run.py", "--directory", tmp_path], capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert "did not write" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
