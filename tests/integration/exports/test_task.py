"""One export from plan to files: what comes out, what a kill leaves, and what is told meanwhile."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from backports import zstd
from tests.builders import Ferry, event, events

from eventferry import clock
from eventferry.exports import parts, progress
from eventferry.exports.model import Output, Selection
from eventferry.exports.plan import plan, readables
from eventferry.exports.planned import write_plan
from eventferry.exports.task import PLAN, Cancelled, Failure, Made, TaskSpec, run_export
from eventferry.installing import command
from eventferry.ledger import log
from eventferry.query.expression import Compare, Op

EVERYTHING = Selection()


@pytest.fixture
def ferry(tmp_path) -> Iterator[Ferry]:
    with Ferry(tmp_path, sinks=()) as ferry:
        yield ferry


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store of some 12 MB whose files make several segments each."""
    rng = random.Random(3)
    with Ferry(tmp_path_factory.mktemp("store"), sinks=()) as ferry:
        for number in range(6):
            lines = [
                event(number * 2000 + at, pad=rng.randbytes(400).hex(), o={"x": at / 4}, mixed=at if at % 9 else "x")
                for at in range(2000)
            ]
            ferry.put(f"2026/01/02/03/{number}.gz", b"".join(lines))
        ferry.open().index()
        yield ferry


def prepare(ferry: Ferry, id_: str, output: Output, selection: Selection = EVERYTHING, **more: Any) -> TaskSpec:
    sources = readables(ferry.ledger, ferry.config.sources)
    with ferry.ledger.read() as tx:
        as_of = log.head(tx)
    spec = TaskSpec(id_, ferry.home / "exports", tuple(sources.values()), selection, output, as_of, **more)
    spec.work.mkdir(parents=True)
    write_plan(spec.work / PLAN, plan(ferry.ledger, sources, selection, as_of, clock.now_ms()))
    return spec


def make(
    ferry: Ferry, id_: str, output: Output, selection: Selection = EVERYTHING, **more: Any
) -> tuple[TaskSpec, Made]:
    spec = prepare(ferry, id_, output, selection, **more)
    made = run_export(spec)
    assert isinstance(made, Made), made
    return spec, made


def content(spec: TaskSpec) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(spec.finished.iterdir())}


OUTPUTS = {
    "ndjson": Output("ndjson", part_bytes=3_000_000),
    "ndjson.gz": Output("ndjson", "gzip", part_bytes=None),
    "json.zst": Output("json", "zstd", part_bytes=None),
    "csv.gz": Output("csv", "gzip", part_bytes=2_000_000),
    "csv": Output("csv", part_bytes=None),
    "parquet": Output("parquet", part_bytes=4_000_000),
}


def read_back(spec: TaskSpec) -> list[int]:
    """The numbers of the events in all files of the export."""
    found: list[int] = []
    for name, data in content(spec).items():
        if name == "manifest.json":
            continue
        data = (
            gzip.decompress(data) if name.endswith(".gz") else zstd.decompress(data) if name.endswith(".zst") else data
        )
        if ".ndjson" in name:
            found += [json.loads(line)["n"] for line in data.splitlines()]
        elif ".json" in name:
            found += [each["n"] for each in json.loads(data)]
        elif ".csv" in name:
            lines = data.decode().split("\r\n")
            at = lines[0].split(",").index("n")
            found += [int(line.split(",")[at]) for line in lines[1:-1]]
        else:
            found += pq.read_table(io.BytesIO(data)).column("n").to_pylist()
    return found


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_files_hold_the_selected_events_and_are_what_the_manifest_says(store, name, request):
    spec, made = make(store, f"whole-{name}", OUTPUTS[name])
    assert read_back(spec) == list(range(12_000))
    files = content(spec)
    manifest = json.loads(files.pop("manifest.json"))
    assert [each["name"] for each in manifest["files"]] == list(files) == [each.name for each in made.files]
    for each in made.files:
        assert each.sha256 == hashlib.sha256(files[each.name]).hexdigest()
        assert each.bytes == len(files[each.name])
    assert manifest["events"] == made.events == sum(each.events for each in made.files) == 12_000
    assert (len(files) > 1) == (OUTPUTS[name].part_bytes is not None)
    assert run_export(spec) == made  # the daemon was killed before it heard
    again, _ = make(store, f"again-{name}", OUTPUTS[name])
    assert content(again) == content(spec)


def test_a_selection_is_cut_out_exactly(store):
    selection = Selection(filter=Compare(("mixed",), Op.EQ, "x"), start_ms=1_767_323_001_000, end_ms=1_767_323_006_500)
    spec, made = make(store, "some", Output("csv", "gzip"), selection)
    wanted = [n for n in range(1000, 6500) if n % 2000 % 9 == 0]
    assert read_back(spec) == wanted
    assert made.events == len(wanted)
    (row,) = duckdb.sql(f"select count(*), min(n), max(n) from '{spec.finished}/*.csv.gz'").fetchall()
    assert row == (len(wanted), wanted[0], wanted[-1])


def test_nothing_selected_is_one_file_without_events(store):
    for name, output in OUTPUTS.items():
        spec, made = make(store, f"empty-{name}", output, Selection(end_ms=1))
        assert (made.events, len(made.files)) == (0, 1)
        assert read_back(spec) == [] if name not in ("csv.gz", "csv", "parquet") else True


KILLED = """
import pickle, sys
from eventferry.exports import parts
from eventferry.exports.task import run_export
parts._READ = parts._WRITTEN = 500_000
print("ready", flush=True)
run_export(pickle.load(open(sys.argv[1], "rb")))
"""


@pytest.mark.parametrize("name", OUTPUTS)
def test_killed_at_any_moment_it_ends_with_the_same_bytes(store, name, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "_READ", 500_000)
    monkeypatch.setattr(parts, "_WRITTEN", 500_000)
    whole, _ = make(store, f"unkilled-{name}", OUTPUTS[name])
    spec = prepare(store, f"killed-{name}", OUTPUTS[name])
    (tmp_path / "spec").write_bytes(pickle.dumps(spec))
    rng = random.Random(name)
    percents = []
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", KILLED, tmp_path / "spec"], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.wait(rng.uniform(0.01, 0.5))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            assert not spec.finished.exists() or (spec.finished / "manifest.json").exists()
        process.stdout.close()
        if (spec.work / progress.PROGRESS).exists():
            percents.append(json.loads((spec.work / progress.PROGRESS).read_bytes())["percent"])
    assert percents == sorted(percents)
    assert isinstance(run_export(spec), Made)
    assert content(spec) == content(whole)


@pytest.mark.parametrize("name", OUTPUTS)
def test_stopped_after_any_segment_it_goes_on_without_reading_what_is_safe(store, name, monkeypatch):
    monkeypatch.setattr(parts, "_READ", 1)
    whole, _ = make(store, f"unstopped-{name}", OUTPUTS[name])
    spec = prepare(store, f"stopped-{name}", OUTPUTS[name])
    real = parts.Parts.feed

    def feed(self: parts.Parts, *args: Any) -> None:
        real(self, *args)
        budget[0] -= 1
        if not budget[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(parts.Parts, "feed", feed)
    reads = 0
    for budget in ([1], [2], [3], [1], [1000]):
        before = budget[0]
        with contextlib.suppress(KeyboardInterrupt):
            run_export(spec)
        reads += before - budget[0]
    assert content(spec) == content(whole)
    if name in ("ndjson.gz", "json.zst", "csv"):
        assert reads == 6  # segments, each once


def test_a_half_written_journal_line_and_a_half_file_are_thrown_away(store):
    whole, _ = make(store, "uncut", OUTPUTS["ndjson"])
    spec = prepare(store, "cut", OUTPUTS["ndjson"])
    (spec.work / "files").mkdir()
    (spec.work / "files/part-00001.ndjson").write_bytes(b'{"n":')
    (spec.work / "journal.ndjson").write_bytes(b'{"export": "anoth')
    assert isinstance(run_export(spec), Made)
    assert content(spec) == content(whole)


@pytest.mark.parametrize("damage", ["no folder", "short file", "no file"])
def test_files_that_are_not_as_the_journal_says_are_made_anew(store, damage, monkeypatch):
    monkeypatch.setattr(parts, "_READ", 1)
    whole, _ = make(store, f"undamaged {damage}", OUTPUTS["ndjson"])
    spec = prepare(store, f"damaged {damage}", OUTPUTS["ndjson"])
    real = parts.Parts.end
    monkeypatch.setattr(parts.Parts, "end", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_export(spec)
    monkeypatch.setattr(parts.Parts, "end", real)
    first = sorted((spec.work / "files").iterdir())[-1 if damage == "short file" else 0]
    if damage == "no folder":
        shutil.rmtree(first.parent)
    elif damage == "no file":
        first.unlink()
    else:
        first.write_bytes(b"x")
    assert isinstance(run_export(spec), Made)
    assert content(spec) == content(whole)


def test_it_stops_when_asked_and_leaves_no_files(store):
    spec = prepare(store, "unwanted", OUTPUTS["csv"])
    (spec.work / progress.CANCEL).touch()
    assert run_export(spec) == Cancelled()
    assert not spec.finished.exists()
    assert not (spec.work / "files").exists()


def test_a_running_export_stops_within_a_second(store, tmp_path):
    spec = prepare(store, "stopping", OUTPUTS["parquet"])
    (tmp_path / "spec").write_bytes(pickle.dumps(spec))
    process = subprocess.Popen([sys.executable, "-c", KILLED, tmp_path / "spec"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    (spec.work / progress.CANCEL).touch()
    process.wait(5)
    process.stdout.close()
    assert not spec.finished.exists()


@pytest.mark.parametrize("output", [Output("csv"), Output("ndjson"), Output("ndjson", latest=None)])
def test_more_events_than_allowed_are_refused_with_nothing_left(store, output):
    selection = Selection(filter=Compare(("mixed",), Op.NE, "nothing"))
    for number, chosen in enumerate((Selection(), selection)):
        spec = prepare(store, f"many-{number}-{id(output)}", replace(output, max_events=11_999), chosen)
        result = run_export(spec)
        assert isinstance(result, Failure)
        assert (result.kind, result.retryable) == ("limit", False)
        assert "more than 11,999 events" in result.sentence
        assert not (spec.work / "files").exists()


def test_larger_files_than_allowed_are_refused(store):
    result = run_export(prepare(store, "large", OUTPUTS["ndjson"], max_bytes=1_000_000))
    assert isinstance(result, Failure)
    assert "more than 1,000,000 bytes" in result.sentence


def test_a_full_disk_is_said_so(store, monkeypatch):
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parts.Parts, "feed", full)
    spec = prepare(store, "full", OUTPUTS["ndjson"])
    result = run_export(spec)
    assert isinstance(result, Failure)
    assert (result.kind, result.retryable) == ("disk_full", True)
    assert "no room" in result.sentence
    assert "No space left" in (result.detail or "")


def test_a_vanished_file_fails_the_export_and_a_store_that_is_away_does_not(ferry):
    ferry.put("2026/01/02/03/a.gz", events(10))
    ferry.put("2026/01/02/03/b.gz", events(7))
    ferry.open().index()
    (ferry.home / "events").rename(ferry.home / "away")
    spec = prepare(ferry, "away", Output("ndjson"))
    result = run_export(spec)
    assert isinstance(result, Failure)
    assert (result.kind, result.retryable) == ("store", True)
    (ferry.home / "away").rename(ferry.home / "events")
    assert isinstance(run_export(spec), Made)
    (ferry.home / "events/2026/01/02/03/b.gz").unlink()
    result = run_export(prepare(ferry, "gone", Output("ndjson")))
    assert isinstance(result, Failure)
    assert (result.kind, result.retryable) == ("missing", False)
    assert "a file of source events" in result.sentence
    assert "b.gz of source events" in (result.detail or "")
    assert "7 events" in result.sentence


def test_a_touched_file_is_read_with_the_next_plan(ferry):
    path = ferry.put("2026/01/02/03/a.gz", events(10))
    ferry.open().index()
    os.utime(path, (path.stat().st_mtime - 1000,) * 2)
    spec = prepare(ferry, "touched", Output("csv"))
    result = run_export(spec)
    assert isinstance(result, Failure)
    assert (result.kind, result.retryable) == ("missing", True)
    assert not (spec.work / PLAN).exists()
    ferry.index(full=True)
    sources = readables(ferry.ledger, ferry.config.sources)
    write_plan(spec.work / PLAN, plan(ferry.ledger, sources, spec.selection, spec.as_of, clock.now_ms()))
    assert isinstance(run_export(spec), Made)
    assert read_back(spec) == list(range(10))


def test_parquet_without_its_extra_says_what_to_install(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    result = run_export(prepare(store, "bare", OUTPUTS["parquet"]))
    assert isinstance(result, Failure)
    assert command("eventferry[parquet]") in result.detail
    assert "eventferry[parquet]" in result.sentence
    assert sys.prefix not in result.sentence  # a requester sees no path of the server


def test_the_latest_in_a_table_have_only_their_own_columns(ferry):
    ferry.put("2026/01/02/03/a.gz", event(1, old=1) + event(2, new=1) + event(3))
    ferry.open().index()
    spec, made = make(ferry, "latest", Output("csv", latest=2))
    assert [each.name for each in made.columns] == ["event_timestamp", "event_type", "n", "new"]
    assert read_back(spec) == [2, 3]


def test_progress_is_told_and_only_grows(store, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS", 0)
    told: list[dict[str, int]] = []
    real = progress.Progress.tell

    def tell(self: progress.Progress, *args: Any, **more: Any) -> None:
        real(self, *args, **more)
        told.append(json.loads((self._work / progress.PROGRESS).read_bytes()))

    monkeypatch.setattr(progress.Progress, "tell", tell)
    _, made = make(store, "told", OUTPUTS["csv"])
    for what in ("events", "bytes", "percent"):
        assert [each[what] for each in told] == sorted(each[what] for each in told)
    assert told[-1] == {"events": made.events, "bytes": made.bytes, "percent": 100}
    assert {each["percent"] for each in told} >= {50}


BOUNDED = """
import pickle, re, sys
from eventferry.exports.task import run_export
print(run_export(pickle.load(open(sys.argv[1], "rb"))).events)
print(int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("output", [Output("csv", "gzip"), Output("parquet"), Output("ndjson", "zstd")])
def test_memory_does_not_grow_with_the_store(ferry, output, tmp_path):
    body = b"".join(event(n, pad=f"{n:0900}", o={"x": n / 7}) for n in range(20_000))
    ferry.put("2026/01/02/03/a.json", body * 10, packed=False)
    ferry.open().index()
    (tmp_path / "spec").write_bytes(pickle.dumps(prepare(ferry, "bounded", output)))
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED, tmp_path / "spec"], capture_output=True, text=True, check=True
    )
    made, megabytes = map(int, done.stdout.split())
    assert made == 200_000
    assert megabytes < 350, megabytes


def test_a_source_that_is_gone_from_the_configuration_fails_the_export_and_leaves_out_nothing(store):
    """The next attempt goes on by the plan of the one before, which is for all of the sources."""
    spec = prepare(store, "gone", Output("ndjson"))
    result = run_export(replace(spec, sources=()))
    assert isinstance(result, Failure)
    assert "no longer configured" in result.sentence
    assert not result.retryable
