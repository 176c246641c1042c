"""The iceberg sink keeps the contract, with a catalog in SQLite and local files read back with pyarrow alone."""

import datetime as dt
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import ClassVar

import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import NoSuchTableError
from tests.lakes import Failing, absent, events_in, silent

from eventferry.sink import SinkMisconfigured, SinkUnavailable
from eventferry.sink.arrow import schema_of
from eventferry.sink.kit import SinkPromises, Target, make_batch, sample_events
from eventferry.sink.registry import make_sink
from eventferry_sinks.iceberg.sink import IcebergSink

TABLE = "analytics.events"


def _catalog(folder):
    return {"type": "sql", "uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}/warehouse"}


def _files(folder):
    try:
        table = load_catalog("default", **_catalog(folder)).load_table(TABLE)
    except NoSuchTableError:
        return []
    found = []
    for snapshot in sorted(table.metadata.snapshots, key=lambda one: one.sequence_number):
        for manifest in snapshot.manifests(table.io):
            if manifest.added_snapshot_id == snapshot.snapshot_id:
                found += [one.data_file.file_path for one in manifest.fetch_manifest_entry(table.io)]
    return [path.removeprefix("file://") for path in found]


def _rows(folder):
    return [row for path in _files(folder) for row in pq.ParquetFile(path).read().to_pylist()]


def _remote(uri):
    return {"catalog": {"type": "rest", "uri": uri, "token": "top-secret-token"}, "table": TABLE}


class TestIceberg(SinkPromises):
    sink_type = IcebergSink
    counterpart = "a catalog in SQLite, local files, and OpenStack Swift's S3"
    options: ClassVar = {"catalog": {"type": "sql"}, "table": TABLE}
    secrets = ("top-secret-token",)

    @contextmanager
    def healthy(self, **options):
        folder = tempfile.mkdtemp(dir=self.tmp_path)
        options = {"catalog": _catalog(folder), "table": TABLE, "create": True, **options}
        yield Target(lambda: make_sink("iceberg", "lake", options), lambda: events_in(_files(folder)))

    def with_columns(self, columns):
        return self.healthy(columns=columns)

    @contextmanager
    def unreachable(self):
        with absent() as url:
            yield Target(lambda: make_sink("iceberg", "lake", _remote(url)))

    def misconfigured(self):
        return self.healthy(create=False)

    @contextmanager
    def hanging(self):
        with silent() as url:
            yield Target(lambda: make_sink("iceberg", "lake", {**_remote(url), "timeout": self.deadline}))

    @contextmanager
    def losing_reply(self, *, after=True):
        made = []
        with self.healthy() as target:

            def sink():
                made.append(target.sink())
                return made[-1]

            def arm():
                made[-1]._catalog = Failing(made[-1]._catalog, "commit_table", after=after)
                # Tables keep the catalog that loaded them.
                load = made[-1]._load

                def loaded(**how):
                    table = load(**how)
                    table.catalog = made[-1]._catalog
                    return table

                made[-1]._load = loaded

            yield Target(sink, target.arrived, arm=arm)

    def crashing_before(self):
        return self.losing_reply(after=False)


@pytest.fixture
def make(tmp_path):
    return lambda **options: make_sink(
        "iceberg", "lake", {"catalog": _catalog(tmp_path), "table": TABLE, "create": True, **options}
    )


def test_columns_and_days(make, tmp_path):
    """Columns hold what fits, NULL otherwise; with partition = "day" the events of one UTC day share their files."""
    events = [
        b'{"event_type":"a","event_timestamp":1714564800000,"n":7}',
        b'{"event_type":"b","event_timestamp":"2024-05-02T00:30:00+02:00","n":"many"}',
        b'{"n":1.5}',
    ]
    with make(partition="day", columns={"n": {"path": "n", "type": "integer"}}) as sink:
        sink.deliver(make_batch(events))
        assert sink.counts == {("values.misfitted", "n"): 2}
    noon = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)
    late = dt.datetime(2024, 5, 1, 22, 30, tzinfo=dt.UTC)
    rows = {row["event"].encode(): (row["event_time"], row["event_type"], row["n"]) for row in _rows(tmp_path)}
    assert rows == dict(zip(events, [(noon, "a", 7), (late, "b", None), (None, None, None)], strict=True))
    assert sorted(path.split("/")[-2] for path in _files(tmp_path)) == ["event_date=2024-05-01", "event_date=null"]


def test_schema_contracts(make, tmp_path):
    """A column that is configured later is added, held against, or left out and counted, as schema_contract says."""
    more = {"n": {"path": "n", "type": "integer"}}
    with make() as sink:
        sink.deliver(make_batch(sample_events(1)))
    with (
        make(columns=more, schema_contract="freeze") as sink,
        pytest.raises(SinkMisconfigured, match=r"COLUMNS \(n long\)"),
    ):
        sink.deliver(make_batch(sample_events(1, 1)))
    with make(columns=more, schema_contract="discard") as sink:
        sink.deliver(make_batch(sample_events(1, 1)))
        assert sink.counts == {("values.discarded", "n"): 1}
    with make(columns=more) as sink:
        assert "adds n" in list(sink.check())[-1]
        sink.deliver(make_batch(sample_events(1, 2)))
        assert sink.counts == {("columns.added", "n"): 1}
    assert [row.get("n", "no column") for row in _rows(tmp_path)] == ["no column", "no column", 2]
    with make(columns={"n": "n"}) as sink, pytest.raises(SinkMisconfigured, match="is long, but string"):
        sink.deliver(make_batch(sample_events(1, 3)))


def test_an_attempt_that_was_given_up_cannot_repeat_a_batch(make, tmp_path):
    """Of two attempts of one batch at the same moment one fails at its commit, and its repeat finds the other."""
    with make() as sink:
        sink.deliver(make_batch(sample_events(1)))
    batch, meeting, outcomes = make_batch(sample_events(3, 1)), threading.Barrier(2, timeout=30), []

    def attempt():
        with make() as sink:
            has = sink._has

            def look(*args):
                found = has(*args)
                meeting.wait()  # both have looked, and neither has found the batch
                return found

            sink._has = look
            try:
                sink.deliver(batch)
                outcomes.append("taken")
            except SinkUnavailable as error:
                assert error.untouched
                outcomes.append("later")

    threads = [threading.Thread(target=attempt) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(outcomes) == ["later", "taken"]
    with make() as sink:
        sink.deliver(batch)
    assert sorted(events_in(_files(tmp_path))) == sorted(sample_events(4))


def test_a_catalog_that_never_answers_collects_no_threads(tmp_path):
    """What is left behind at the deadline ends by itself; pyiceberg alone would wait for ever, with a batch in hand."""
    before = threading.enumerate()
    with silent() as url:
        with pytest.raises(SinkUnavailable):
            make_sink("iceberg", "lake", {**_remote(url), "timeout": 0.3}).open()
        left = [each for each in threading.enumerate() if each not in before]
        for each in left:
            each.join(5)
        assert not any(each.is_alive() for each in left)


def _expire_all_but_the_last(folder):
    table = load_catalog("default", **_catalog(folder)).load_table(TABLE)
    for snapshot in table.metadata.snapshots[:-1]:
        table.maintenance.expire_snapshots().by_id(snapshot.snapshot_id).commit()


def test_where_snapshots_were_expired_the_events_themselves_are_looked_for(make, tmp_path):
    """was_delivered says False only while every snapshot is remembered, and True where the batch's events stand."""
    batches = [make_batch(sample_events(1, number)) for number in range(3)]
    with make() as sink:
        for batch in batches[:2]:
            sink.deliver(batch)
        assert [sink.was_delivered(batch) for batch in batches] == [True, True, False]
        _expire_all_but_the_last(tmp_path)
        assert [sink.was_delivered(batch) for batch in batches] == [True, True, None]


def test_a_late_repeat_adds_nothing_although_its_snapshot_is_gone(make, tmp_path):
    """A sink that was held for days repeats a batch of unknown outcome: its snapshot has expired, its events stand."""
    batches = [make_batch(sample_events(2, 2 * number)) for number in range(2)]
    with make() as sink:
        for batch in batches:
            sink.deliver(batch)
        _expire_all_but_the_last(tmp_path)
        sink.deliver(replace(batches[0], attempt=2))
    table = load_catalog("default", **_catalog(tmp_path)).load_table(TABLE)
    assert sorted(table.scan().to_arrow()["event"].to_pylist()) == [each.decode() for each in sample_events(4)]


def test_a_table_of_the_first_format_version_is_served_as_well(make, tmp_path):
    """It counts no snapshots, so that nobody can tell how many there were: a repeat looks for the events."""
    catalog = load_catalog("default", **_catalog(tmp_path))
    catalog.create_namespace("analytics")
    with make() as sink:
        catalog.create_table(TABLE, schema_of(sink._columns), properties={"format-version": "1"})
        batches = [make_batch(sample_events(1, number)) for number in range(2)]
        sink.deliver(batches[0])
        sink.deliver(replace(batches[0], attempt=2))
        assert [sink.was_delivered(batch) for batch in batches] == [True, None]
    assert events_in(_files(tmp_path)) == sample_events(1)
