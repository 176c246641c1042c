"""The iceberg sink keeps the contract, with a catalog in SQLite and local files read back with pyarrow alone."""

import threading
from dataclasses import replace
from typing import ClassVar

import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import NoSuchTableError
from tests.lakes import Failing, LakePromises, silent

from eventferry.sink import SinkUnavailable
from eventferry.sink.arrow import schema_of
from eventferry.sink.kit import make_batch, sample_events
from eventferry.sink.registry import make_sink
from eventferry_sinks.iceberg.sink import IcebergSink

TABLE = "analytics.events"


def _catalog(folder):
    return {"type": "sql", "uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}/warehouse"}


def _remote(uri):
    return {"catalog": {"type": "rest", "uri": uri, "token": "top-secret-token"}, "table": TABLE}


class TestIceberg(LakePromises):
    sink_type = IcebergSink
    counterpart = "a catalog in SQLite, local files, and OpenStack Swift's S3"
    options: ClassVar = {"catalog": {"type": "sql"}, "table": TABLE}
    secrets = ("top-secret-token",)
    lake = "iceberg"
    integer = "long"
    ddl = "n long"
    undated = "event_date=null"

    def place(self, folder):
        return {"catalog": _catalog(folder), "table": TABLE}

    def remote(self, endpoint):
        return _remote(endpoint)

    def files(self, folder):
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

    def fail_commit(self, sink, *, after):
        sink._catalog = Failing(sink._catalog, "commit_table", after=after)
        load = sink._load

        def loaded(**how):
            table = load(**how)
            table.catalog = sink._catalog  # tables keep the catalog that loaded them
            return table

        sink._load = loaded

    def test_where_snapshots_were_expired_the_events_themselves_are_looked_for(self):
        """was_delivered says False only while every snapshot is remembered, and True where the batch's events stand."""
        batches = [make_batch(sample_events(1, number)) for number in range(3)]
        with self.make() as sink:
            for batch in batches[:2]:
                sink.deliver(batch)
            assert [sink.was_delivered(batch) for batch in batches] == [True, True, False]
            _expire_all_but_the_last(self.tmp_path)
            assert [sink.was_delivered(batch) for batch in batches] == [True, True, None]

    def test_a_late_repeat_adds_nothing_although_its_snapshot_is_gone(self):
        """A sink held for days repeats a batch of unknown outcome: its snapshot has expired, its events stand."""
        batches = [make_batch(sample_events(2, 2 * number)) for number in range(2)]
        with self.make() as sink:
            for batch in batches:
                sink.deliver(batch)
            _expire_all_but_the_last(self.tmp_path)
            sink.deliver(replace(batches[0], attempt=2))
        table = load_catalog("default", **_catalog(self.tmp_path)).load_table(TABLE)
        assert sorted(table.scan().to_arrow()["event"].to_pylist()) == [each.decode() for each in sample_events(4)]

    def test_a_table_of_the_first_format_version_is_served_as_well(self):
        """It counts no snapshots, so that nobody can tell how many there were: a repeat looks for the events."""
        catalog = load_catalog("default", **_catalog(self.tmp_path))
        catalog.create_namespace("analytics")
        with self.make() as sink:
            catalog.create_table(TABLE, schema_of(sink._columns), properties={"format-version": "1"})
            batches = [make_batch(sample_events(1, number)) for number in range(2)]
            sink.deliver(batches[0])
            sink.deliver(replace(batches[0], attempt=2))
            assert [sink.was_delivered(batch) for batch in batches] == [True, None]
        assert self.events() == sample_events(1)


def _expire_all_but_the_last(folder):
    table = load_catalog("default", **_catalog(folder)).load_table(TABLE)
    for snapshot in table.metadata.snapshots[:-1]:
        table.maintenance.expire_snapshots().by_id(snapshot.snapshot_id).commit()


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
