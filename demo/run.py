"""The demo: a sample store, two runs, the status, and the books beside an independent count."""

import argparse
import datetime as dt
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import store

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
# What `eventferry once` ends with when it is done, or done with something left for a person (the truncated file).
EXPECTED_CODES = (0, 1)


@dataclass(frozen=True)
class Place:
    """Where the demo keeps its things."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.toml"

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def delivered(self) -> Path:
        return self.root / "delivered"

    @property
    def warehouse(self) -> Path:
        return self.root / "warehouse.duckdb"


def main() -> int:
    """Tell the story; 0 where the books and the independent count agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=HERE.parent / "demo-data", help="where everything is written")
    parser.add_argument("--events", type=int, default=240_000, help="about how many events the sample store holds")
    given = parser.parse_args()
    place = Place(given.directory.resolve())
    say(f"Everything happens in {shorten(place.root)}; it is safe to delete.")
    prepare(place)

    heading("1  A store with a day of events")
    late = fill_store(place, given.events)

    heading("2  The first run takes all there is")
    eventferry(place, "once")

    heading("3  A file arrives late, and the next run takes it alone")
    store.write_file(late)
    say(f"+ {late.path.relative_to(place.store)}")
    say(f"  Its events are {store.LATE_HOURS} hours older than the newest that were delivered.\n")
    eventferry(place, "once")

    heading("4  Where things stand")
    eventferry(place, "status")

    heading("5  The books, beside a count by a script that knows nothing of eventferry")
    agreed = compare(place)

    heading("6  What to try next")
    advise(place)
    return 0 if agreed else 1


def prepare(place: Place) -> None:
    """An empty directory with a configuration; what a former demo left is removed, and nothing else."""
    if place.config.is_file() and 'instance = "demo"' in place.config.read_text():
        shutil.rmtree(place.root)
    elif place.root.exists() and any(place.root.iterdir()):
        sys.exit(f"{place.root} holds something that this demo did not write; choose another --directory")
    place.store.mkdir(parents=True)
    place.delivered.mkdir()
    place.config.write_text((HERE / "config.toml").read_text().replace("@DATA@", str(place.root)))


def fill_store(place: Place, events: int) -> store.SampleFile:
    """Write the store; the file that comes later."""
    files, late = store.plan_store(place.store, dt.datetime.now(dt.UTC), events)
    raw = store.write_files(files, processes=len(os.sched_getaffinity(0)))
    packed = sum(file.path.stat().st_size for file in files)
    say(f"{len(files)} files in {store.HOURS} hours, {raw / 1e6:,.0f} MB of NDJSON in {packed / 1e6:,.0f} MB of gzip,")
    say("shaped as a web tracker's, and as dirty: one file is truncated, one empty, one was edited on Windows,")
    say("and three hold lines that are no JSON objects.")
    return late


def eventferry(place: Place, *command: str) -> None:
    """Run a command as a person would, on this terminal."""
    config = shorten(place.config)
    say(f"$ {shorten(BIN)}/eventferry --config {config} {' '.join(command)}\n", "dim")
    sys.stdout.flush()
    # Where nobody watches, what a log collector would get is shown only if something goes wrong.
    log = None if sys.stderr.isatty() else subprocess.PIPE
    called = [BIN / "eventferry", "--config", config, *command]  # not by the environment: then what it advises names it
    done = subprocess.run(called, env=environment(), check=False, stderr=log)
    if done.returncode not in EXPECTED_CODES:
        sys.exit(f"eventferry {command[0]} ended with {done.returncode}\n{(done.stderr or b'').decode()}")


def environment() -> dict[str, str]:
    """That of this process, without another configuration."""
    return {name: value for name, value in os.environ.items() if name != "EVENTFERRY_CONFIG"}


def read_json(*command: str | Path) -> Any:
    """The JSON that a command prints."""
    done = subprocess.run(command, env=environment(), check=False, capture_output=True, text=True)
    if done.returncode not in EXPECTED_CODES:
        sys.exit(f"{command[0]} ended with {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout)


def compare(place: Place) -> bool:
    """Show what eventferry says and what was counted; whether it is the same."""
    status = read_json(BIN / "eventferry", "--config", place.config, "status", "--json")
    counted = read_json(sys.executable, HERE / "count.py", place.store, place.delivered, place.warehouse)
    (source,) = status["sources"]
    sinks = {sink["name"]: sink for sink in status["sinks"]}
    rows = list(list_books(source, sinks, counted))
    say(f"{'':34}{'eventferry':>12}{'counted':>12}", "dim")
    for label, ours, theirs in rows:
        say(f"{label:<34}{ours:>12,}{theirs:>12,}   {tick(ours == theirs)}")
    sums = {counted[place]["sum"] for place in ("store", "files", "warehouse")}
    balanced = source["lines"] == source["events"] + source["bad"] + source["blank"] and status["balanced"]
    say()
    say(f"{tick(balanced)} The books balance: lines = events + bad + blank; every event is at every sink.")
    say(f"{tick(len(sums) == 1)} Store, files and DuckDB hold the very same events, byte for byte (sum {min(sums)}).")
    return balanced and len(sums) == 1 and all(ours == theirs for _, ours, theirs in rows)


def list_books(source: Any, sinks: Any, counted: Any) -> Iterator[tuple[str, int, int]]:
    """What is compared: the words, the number in eventferry's books, the number counted."""
    theirs = counted["store"]
    yield "Lines in the store's files", source["lines"], theirs["lines"]
    yield "  events", source["events"], theirs["events"]
    yield "  bad lines", source["bad"], theirs["bad"]
    yield "  blank lines", source["blank"], theirs["blank"]
    yield "Files that cannot be read", source["quarantined"], theirs["unreadable"]
    yield "Events in NDJSON files", sinks["files"]["delivered"], counted["files"]["events"]
    yield "Events in DuckDB", sinks["warehouse"]["delivered"], counted["warehouse"]["events"]


def advise(place: Place) -> None:
    """What a person might look at now."""
    say(f". {shorten(BIN)}/activate; export EVENTFERRY_CONFIG={shorten(place.config)}\n")
    for what, command in (
        ("The file that is quarantined", "eventferry files list --state quarantined"),
        ("The lines that are bad", "eventferry files list --bad"),
        ("A question to the warehouse", f"python {shorten(HERE)}/ask.py"),
        ("The daemon (Ctrl-C ends it)", "eventferry run"),
        ("  meanwhile, elsewhere: one more file", f"python {shorten(HERE)}/store.py"),
        ("Everything that can be configured", "eventferry config example"),
        ("Your own events", "README.md, “Your own data”"),
    ):
        say(f"{what:<40} {command}")


def shorten(path: Path) -> str:
    """A path as it is typed from here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def heading(text: str) -> None:
    """Begin a part."""
    say()
    say(text, "bold")
    say()


def tick(good: bool) -> str:
    """A sign for right or wrong."""
    return "✓" if good else "✗"


def say(text: str = "", style: str = "") -> None:
    """Print a line, in a style where the terminal has any."""
    code = {"bold": "1", "dim": "2"}.get(style) if sys.stdout.isatty() and "NO_COLOR" not in os.environ else None
    print(f"\x1b[{code}m{text}\x1b[0m" if code else text)


if __name__ == "__main__":
    sys.exit(main())
