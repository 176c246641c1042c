"""The figures that the product promises, measured: python bench/run.py [--short] [--work DIR] [--json FILE].

Everything runs in interleaved rounds on this machine, and only ratios of the same round are judged: absolute speeds of
a shared machine mean little. Exit 1 where a promise is missed.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).parent
# What the configuration takes where it is silent; memory is measured with two, as promised.
PROCESSES = max(1, len(os.sched_getaffinity(0)) // 2)
ROUNDS = 5


@dataclass(frozen=True)
class Figure:
    """One promise with what was measured."""

    name: str
    value: float
    low: float
    high: float
    promise: str
    kept: bool

    def row(self) -> str:
        kept = "yes" if self.kept else "NO"
        return f"| {self.name} | {self.value:.3g} | {self.low:.3g}–{self.high:.3g} | {self.promise} | {kept} |"


def run(command: Sequence[object], one_core: bool = False) -> tuple[float, str]:
    """(seconds on the clock, what it printed)."""
    pin = ["taskset", "-c", str(max(os.sched_getaffinity(0)))] if one_core and shutil.which("taskset") else []
    begun = time.perf_counter()
    done = subprocess.run([*pin, *map(str, command)], check=True, capture_output=True, text=True)
    return time.perf_counter() - begun, done.stdout


def python(script: str, *arguments: object, one_core: bool = False) -> tuple[float, str]:
    return run([sys.executable, HERE / script, *arguments], one_core)


def generate(data: Path, profile: str, mb: float, name: str = "") -> Path:
    """A store of generated events, made once."""
    target = data / (name or profile)
    if not target.exists():
        python("gen.py", target, "--profile", profile, "--mb", mb)
    return target


def one_file(data: Path, source: Path, mb: int) -> Path:
    """The files of a store repeated into one: gzip members one after another are one gzip file."""
    target = data / f"one-{mb}"
    if target.exists():
        return target
    folder = target / "2024/01/01/00"
    folder.mkdir(parents=True)
    members = sorted(source.rglob("*.gz"))
    size = json.loads(python("product.py", source, data / "work", "--processes", 0)[1])["mb"]
    with (folder / "one.gz").open("wb") as out:
        for _ in range(max(1, round(mb / size))):
            for member in members:
                out.write(member.read_bytes())
    return target


def rounds(count: int, measure: Callable[[], float]) -> list[float]:
    """Ratios of `count` rounds, after one that warms up."""
    measure()
    return [measure() for _ in range(count)]


def figure(name: str, values: list[float], promise: str, keeps: Callable[[float], bool]) -> Figure:
    middle = statistics.median(values)
    found = Figure(name, middle, min(values), max(values), promise, keeps(middle))
    print(found.row(), flush=True)
    return found


def at_least(name: str, values: list[float], least: float, places: int) -> Figure:
    """A promise that the median keeps from `least` on, which is told with so many decimal places."""
    return figure(name, values, f"≥ {least:.{places}f}", lambda value: value >= least)


def at_most(name: str, values: list[float], most: int) -> Figure:
    """A promise that the median keeps up to `most`."""
    return figure(name, values, f"≤ {most}", lambda value: value <= most)


def clear(work: Path) -> None:
    """Remove what was written, and wait for the disk: nobody pays for what the one before left unwritten."""
    shutil.rmtree(work, ignore_errors=True)
    os.sync()


def index_share(source: Path, work: Path) -> float:
    """Decompression alone ÷ the product's indexing with its ledger, each on one core."""
    limit = float(python("limit.py", source, one_core=True)[1].split()[0])
    product = json.loads(python("product.py", source, work, "--processes", 0, one_core=True)[1])
    return limit / product["index_processor_seconds"]


def times_naive(source: Path, work: Path) -> float:
    """The naive script ÷ the product, files in to NDJSON files out; whole work, start-up left out of both."""
    clear(work)
    naive = json.loads(python("naive.py", source, "--files", work / "naive")[1])["seconds"]
    clear(work)
    product = json.loads(python("product.py", source, work, "--processes", PROCESSES, "--deliver")[1])["seconds"]
    return naive / product


def times_split(source: Path, work: Path) -> float:
    """`zcat | split` (which checks nothing) ÷ the product."""
    clear(work)
    work.mkdir(parents=True)
    split, _ = run(["sh", "-c", f"find '{source}' -name '*.gz' | sort | xargs zcat | split -l 10000 - '{work}/x'"])
    clear(work)
    product = json.loads(python("product.py", source, work, "--processes", PROCESSES, "--deliver")[1])["seconds"]
    return split / product


def growth(small: Path, large: Path, work: Path) -> float:
    """Time for ten times the files ÷ time for the files, each as one whole delivery."""
    one = json.loads(python("product.py", small, work, "--processes", PROCESSES, "--deliver")[1])["seconds"]
    ten = json.loads(python("product.py", large, work, "--processes", PROCESSES, "--deliver")[1])["seconds"]
    return ten / one


def peak_memory(source: Path, work: Path, processes: int = 2) -> float:
    """Largest PSS of the whole process tree, MB, while everything is indexed and delivered."""
    command = [sys.executable, HERE / "product.py", source, work, "--processes", str(processes), "--deliver"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, sum(pss(pid) for pid in tree(child.pid)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = child.wait()
    done.set()
    watcher.join()
    if code:
        raise RuntimeError(f"{command} ended with {code}")
    return peak / 1e6


def tree(pid: int) -> list[int]:
    """The process with all its descendants."""
    found = [pid]
    for each in found:
        try:
            for task in Path(f"/proc/{each}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
    return found


def pss(pid: int) -> int:
    """Proportional set size in bytes; 0 for a process that is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def measure_speed(pinpoint: Path, flat: Path, work: Path, slack: float) -> list[Figure]:
    """Against decompression alone, a naive script and `split`; of each promise a share of `slack` is to be kept."""
    return [
        at_least(
            "indexing ÷ decompression alone, one core, 1.4 KB nested events",
            rounds(ROUNDS, lambda: index_share(pinpoint, work)),
            0.25 * slack,
            places=2,
        ),
        at_least(
            "indexing ÷ decompression alone, one core, 400 B flat events",
            rounds(ROUNDS, lambda: index_share(flat, work)),
            0.29 * slack,
            places=2,
        ),
        at_least(
            "naive script ÷ files to files, nested",
            rounds(ROUNDS, lambda: times_naive(pinpoint, work)),
            4 * slack,
            places=1,
        ),
        at_least(
            "naive script ÷ files to files, flat",
            rounds(ROUNDS, lambda: times_naive(flat, work)),
            4 * slack,
            places=1,
        ),
        figure(
            "zcat | split (checks nothing) ÷ files to files, nested",
            rounds(ROUNDS, lambda: times_split(pinpoint, work)),
            "no promise",
            lambda _: True,
        ),
    ]


def measure_all(data: Path, short: bool) -> list[Figure]:
    """Every promise in turn: speed, growth, memory."""
    mb, files, big_mb = (100, 200, 100) if short else (500, 1000, 1000)
    work = data / "work"
    pinpoint, flat = (generate(data, profile, mb) for profile in ("pinpoint", "flat"))
    print("| what | median | range | promise | kept |\n|---|---|---|---|---|", flush=True)
    # A short run amortises its fixed costs less: it guards against a collapse, the promise is the full run's.
    found = measure_speed(pinpoint, flat, work, slack=0.35 if short else 1.0)

    small = generate(data, "tiny", files * 0.0731, f"tiny-{files}")
    large = generate(data, "tiny", files * 0.731, f"tiny-{files * 10}")
    ratios = rounds(3 if short else ROUNDS, lambda: growth(small, large, work))
    found.append(at_most(f"ten times {files} files ÷ {files} files", ratios, 11))

    big = one_file(data, pinpoint, big_mb)
    found.append(at_most(f"memory, {big_mb} MB in one file, MB", [peak_memory(big, work)], 200))
    found.append(at_most(f"memory, {files * 10} tiny files, MB", [peak_memory(large, work)], 200))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="small data, fewer rounds: for CI")
    parser.add_argument("--work", type=Path, help="where the data is made and kept; a temporary directory otherwise")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    data = options.work or Path(tempfile.mkdtemp(prefix="eventferry-bench-"))
    try:
        found = measure_all(data, options.short)
    finally:
        if options.work is None:
            shutil.rmtree(data, ignore_errors=True)
        else:
            shutil.rmtree(data / "work", ignore_errors=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in found], indent=2))
    missed = [each.name for each in found if not each.kept]
    if missed:
        sys.exit(f"missed: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
