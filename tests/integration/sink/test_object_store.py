"""What the object_store sink leaves behind: partitions, manifests, schemas; after broken attempts, too."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from eventferry.sink import BatchTooLarge, SinkMisconfigured, SinkUnavailable
from eventferry.sink.kit import make_batch, sample_events
from eventferry.sink.kit.batches import NOON
from eventferry.sink.registry import make_sink
from eventferry_sinks.object_store import sink as module
from eventferry_sinks.object_store.manifest import manifest_key

DAY = 86_400_000


@pytest.fixture
def make(tmp_path):
    def make(**options):
        folder = Path(options.pop("folder", tmp_path / "lake"))
        return make_sink("object_store", "lake", {"url": str(folder), "create": True, "compression": "none", **options})

    return make


@pytest.fixture
def lake(tmp_path):
    return tmp_path / "lake"


def _found(lake):
    """The objects that a reader sees."""
    paths = sorted(path.relative_to(lake) for path in lake.rglob("*") if path.is_file())
    return [str(path) for path in paths if path.parts[0][0] not in "_."]


def _at(day, number):
    return b'{"event_type":"x","event_timestamp":%d,"n":%d}' % (NOON + day * DAY + number, number)


def _batch(*events, **more):
    return replace(make_batch(events), **more)


SPREAD = [_at(0, 0), _at(1, 1), b'{"n":2}', _at(0, 3), _at(1, 4)]


def test_a_batch_over_days_is_an_object_in_each(make, lake):
    """In each folder the events keep their order; the manifest lists all objects with sizes, counts and digests."""
    batch = _batch(*SPREAD)
    with make() as sink:
        sink.deliver(batch)
    days = ["2024-05-01", "2024-05-02", "__HIVE_DEFAULT_PARTITION__"]
    keys = [f"date={day}/{batch.id}.ndjson" for day in days]
    assert _found(lake) == keys
    contents = [(lake / key).read_bytes().split(b"\n")[:-1] for key in keys]
    assert contents == [[SPREAD[0], SPREAD[3]], [SPREAD[1], SPREAD[4]], [SPREAD[2]]]
    manifest = json.loads((lake / manifest_key(batch)).read_bytes())
    assert {key: manifest[key] for key in ("batch", "events")} == {"batch": batch.id, "events": 5}
    listed = {each["key"]: (each["events"], each["size"]) for each in manifest["objects"]}
    assert listed == {key: (len(lines), (lake / key).stat().st_size) for key, lines in zip(keys, contents, strict=True)}
    assert sink.counts["bytes.sent", ""] == sum(size for _, size in listed.values())


def test_readers_of_hive_partitions_find_columns_and_folders(make, lake):
    """DuckDB reads partitions, columns and the raw event of Parquet, and columns that came later."""
    with make(format="parquet", compression="zstd") as sink:
        sink.deliver(_batch(*SPREAD))
    with make(format="parquet", compression="snappy", columns={"n": {"path": "n", "type": "integer"}}) as sink:
        sink.deliver(_batch(_at(1, 7)))
    rows = duckdb.execute(
        f"SELECT date::VARCHAR, n, event->>'n' FROM read_parquet('{lake}/*/*.parquet', hive_partitioning = true,"
        " union_by_name = true) ORDER BY ALL"
    ).fetchall()
    second = [("2024-05-02", None, "1"), ("2024-05-02", None, "4")]
    assert rows == [
        ("2024-05-01", None, "0"),
        ("2024-05-01", None, "3"),
        ("2024-05-02", 7, "7"),
        *second,
        (None, None, "2"),
    ]


@pytest.mark.parametrize("form", ["ndjson", "csv", "parquet"])
@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_equal_batches_give_equal_bytes(make, tmp_path, form, compression):
    """No time and no machine is in an object: what a repeat overwrites does not change."""
    contents = []
    for name in ("a", "b"):
        with make(folder=tmp_path / name, format=form, compression=compression) as sink:
            sink.deliver(_batch(*SPREAD, *sample_events(200)))
        contents.append([(key, (tmp_path / name / key).read_bytes()) for key in _found(tmp_path / name)])
    assert contents[0] == contents[1]
    assert len(contents[0]) == 3


def _break_at(sink, monkeypatch, count, error=None):
    """The bucket fails at its nth write of events from now on."""
    bucket = sink._opened
    whole, left = bucket.put, [count]

    def put(key, body):
        left[0] -= not key.startswith("_")
        if left[0] <= 0:
            raise error or SinkUnavailable("the store is gone", untouched=True)
        whole(key, body)

    monkeypatch.setattr(bucket, "put", put)


@pytest.mark.parametrize("written", [1, 2])
def test_a_broken_attempt_is_finished_by_the_next(make, lake, monkeypatch, written):
    """Before the first write nothing was touched, afterwards that is not claimed; nothing is there twice."""
    batch = _batch(*SPREAD)
    with make() as sink:
        _break_at(sink, monkeypatch, written)
        with pytest.raises(SinkUnavailable) as caught:
            sink.deliver(batch)
        assert caught.value.untouched is (written == 1)
    assert len(_found(lake)) == written - 1
    assert not (lake / manifest_key(batch)).exists()
    with make() as sink:
        sink.deliver(replace(batch, attempt=2))
        assert sink.was_delivered(batch)
    assert len(_found(lake)) == 3


@pytest.mark.parametrize("changed", [{"format": "csv"}, {"compression": "gzip"}, {"partition": "y={year}"}])
def test_changed_options_leave_nothing_of_a_broken_attempt(make, lake, monkeypatch, changed):
    """The next attempt writes elsewhere, so it removes what the broken one left."""
    batch = _batch(*SPREAD)
    with make() as sink, pytest.raises(SinkUnavailable):
        _break_at(sink, monkeypatch, 3)
        sink.deliver(batch)
    before = _found(lake)
    with make(**changed) as sink:
        sink.deliver(replace(batch, attempt=2))
    assert len(before) == 2
    listed = json.loads((lake / manifest_key(batch)).read_bytes())["objects"]
    assert _found(lake) == sorted(each["key"] for each in listed)
    assert set(_found(lake)).isdisjoint(before)


def test_changed_time_paths_are_another_layout(make, lake, monkeypatch):
    """Where an event's time comes from decides on its folder, too."""
    events = [b'{"event_timestamp":%d,"at":%d}' % (NOON + n * DAY, NOON + 5 * DAY) for n in range(3)]
    with make() as sink, pytest.raises(SinkUnavailable):
        _break_at(sink, monkeypatch, 3)
        sink.deliver(_batch(*events))
    with make(columns={"event_time": {"path": "at", "type": "timestamp"}}) as sink:
        sink.deliver(_batch(*events, attempt=2))
    assert [key.split("/")[0] for key in _found(lake)] == ["date=2024-05-06"]


def test_before_a_split_what_is_not_whole_is_removed(make, lake, monkeypatch):
    """The daemon asks, then sends the halves under other ids: no event may lie there already."""
    batch = _batch(*SPREAD)
    with make() as sink:
        with monkeypatch.context() as patch, pytest.raises(SinkUnavailable):
            _break_at(sink, patch, 3)
            sink.deliver(batch)
        assert sink.was_delivered(batch) is False
        assert _found(lake) == []
        # Its manifest, still under way then, comes late; and the same batch is tried once more.
        late = {"key": f"date=2024-05-01/{batch.id}.ndjson", "events": 2, "size": 1, "sha256": ""}
        path = lake / manifest_key(batch)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"batch": batch.id, "events": 5, "objects": [late]}))
        assert sink.was_delivered(batch) is False
        sink.deliver(replace(batch, attempt=3))
        assert len(_found(lake)) == 3
        assert sink.was_delivered(batch)


def test_what_is_too_large_in_the_middle_leaves_nothing(make, lake, monkeypatch):
    """Halves come under other ids."""
    with make() as sink, pytest.raises(BatchTooLarge):
        _break_at(sink, monkeypatch, 3, BatchTooLarge("too large"))
        sink.deliver(_batch(*SPREAD))
    assert _found(lake) == []


def _overtaken(sink, other, batch, monkeypatch):
    """Deliver by `sink`; right before its manifest `other` delivers the same batch."""
    bucket = sink._opened
    write = bucket.put_new

    def put_new(key, body):
        if key == manifest_key(batch):
            other.deliver(batch)
        return write(key, body)

    monkeypatch.setattr(bucket, "put_new", put_new)
    sink.deliver(batch)


def test_of_two_attempts_under_other_options_the_first_manifest_stands(make, lake, monkeypatch):
    """An abandoned attempt comes in between: what is whole stays, and the other's objects go."""
    batch = _batch(*SPREAD)
    with make() as sink, make(format="csv") as other:
        _overtaken(sink, other, batch, monkeypatch)
    assert [key.partition(".")[2] for key in _found(lake)] == ["csv"] * 3


def test_a_manifest_whose_objects_are_gone_does_not_stand(make, lake, monkeypatch):
    """What cleared them away is about to be the only one."""
    batch = _batch(*SPREAD)
    with make() as sink, make(format="csv") as other:
        whole = other.deliver
        other.deliver = lambda batch: (whole(batch), [(lake / k).unlink() for k in _found(lake) if k.endswith("csv")])
        _overtaken(sink, other, batch, monkeypatch)
        assert sink.was_delivered(batch)
    assert [key.partition(".")[2] for key in _found(lake)] == ["ndjson"] * 3


def test_events_of_too_many_times_come_in_smaller_batches(make, lake, monkeypatch):
    """A batch of a hundred days is written, one of more is halved, and nothing of it is there."""
    monkeypatch.setattr(module, "MOST_OBJECTS", 3)
    with make() as sink:
        with pytest.raises(BatchTooLarge, match="4 partitions, at most 3"):
            sink.deliver(_batch(*[_at(day, 0) for day in range(4)]))
        assert _found(lake) == []
        sink.deliver(_batch(*[_at(day, 0) for day in range(3)]))
    assert len(_found(lake)) == 3


def test_without_partitions_a_batch_is_one_object_of_its_day(make, lake):
    """By its earliest time; an empty batch is a manifest."""
    batch, undated, empty = _batch(*SPREAD), _batch(b"{}", time_min=None), _batch()
    with make(partition="") as sink:
        for each in (batch, undated, empty):
            sink.deliver(each)
            assert sink.was_delivered(each)
    assert _found(lake) == [f"2024/05/01/{batch.id}.ndjson", f"undated/{undated.id}.ndjson"]
    assert (lake / f"2024/05/01/{batch.id}.ndjson").read_bytes() == batch.body
    assert (lake / "_manifests" / "undated" / f"{undated.id}.json").exists()


# The schema contract

N = {"n": {"path": "n", "type": "integer"}}


def _columns(lake):
    return json.loads((lake / "_schema.json").read_bytes())["columns"]


def test_evolve_adds_columns_to_the_schema(make, lake):
    """New columns appear; those that are no longer configured stay in the list."""
    for columns in ({"x": "x", "y": "y"}, N):
        with make(format="parquet", columns=columns) as sink:
            sink.deliver(_batch(_at(0, len(columns))))
    assert _columns(lake) == {"event_time": "timestamp", "event_type": "text", "x": "text", "y": "text", "n": "integer"}


def test_freeze_holds_the_sink_until_somebody_allows_the_column(make, lake):
    """The message says what to write into the file; then the same instance goes on."""
    with make(format="csv", schema_contract="freeze") as sink:
        sink.deliver(_batch(_at(0, 1)))
    with make(format="csv", schema_contract="freeze", columns=N) as sink:
        with pytest.raises(
            SinkMisconfigured, match=r'_schema.json lacks the configured columns n; add \{"n": "integer"\}'
        ):
            sink.deliver(_batch(_at(0, 2)))
        with pytest.raises(SinkMisconfigured, match="lacks the configured"):
            list(sink.check())
        (lake / "_schema.json").write_text(json.dumps({"columns": {**_columns(lake), "n": "integer"}}))
        sink.deliver(_batch(_at(0, 2)))
    assert len(_found(lake)) == 2


def test_discard_leaves_new_columns_out_and_counts_their_values(make, lake):
    """The files keep their columns; the raw event has the value."""
    with make(format="parquet") as sink:
        sink.deliver(_batch(_at(0, 1)))
    with make(format="parquet", schema_contract="discard", columns=N) as sink:
        sink.deliver(_batch(_at(0, 2), b'{"event_timestamp":%d}' % NOON))
        assert sink.counts["values.discarded", "n"] == 1
    for key in _found(lake):
        assert pq.read_schema(lake / key).names == ["event_time", "event_type", "event", "batch_id"]


@pytest.mark.parametrize("columns", [{"n": "n"}, {"N": {"path": "n", "type": "integer"}}])
def test_a_column_of_two_types_or_two_spellings_holds_the_sink(make, lake, columns):
    """Readers of many files would choke on it."""
    with make(format="parquet", columns=N) as sink:
        sink.deliver(_batch(_at(0, 1)))
    with make(format="parquet", columns=columns) as sink, pytest.raises(SinkMisconfigured, match="'n' is integer, but"):
        sink.deliver(_batch(_at(0, 2)))


@pytest.mark.parametrize("name", ["_schema.json", "_layouts/x.json"])
def test_records_that_are_none_are_named(make, lake, name):
    """Whoever wrote there is asked to mend it."""
    path = lake / name
    path.parent.mkdir(parents=True)
    path.write_text("[]")
    with make(format="csv") as sink, pytest.raises(SinkMisconfigured, match=name):
        sink.deliver(_batch(_at(0, 1)))


def test_parquet_without_its_library_says_what_installs_it(make, monkeypatch):
    """At open, before anything is sent."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SinkMisconfigured, match=r"pip install 'eventferry\[parquet\]'"):
        make(format="parquet").open()
