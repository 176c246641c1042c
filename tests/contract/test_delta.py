"""The delta sink keeps the contract, in local tables read back with pyarrow alone."""

import datetime as dt
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from tests.lakes import Failing, absent, events_in, silent

from eventferry.sink import SinkMisconfigured, SinkUnavailable
from eventferry.sink.kit import SinkPromises, Target, make_batch, sample_events
from eventferry.sink.registry import make_sink
from eventferry_sinks.delta.sink import DeltaSink

KEYS = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "top-secret-key", "AWS_REGION": "us-east-1"}


def _files(folder):
    if not DeltaTable.is_deltatable(str(folder)):
        return []
    actions = pa.table(DeltaTable(str(folder)).get_add_actions(flatten=True)).to_pylist()
    return [f"{folder}/{unquote(one['path'])}" for one in sorted(actions, key=lambda one: one["modification_time"])]


def _rows(folder):
    return [row for path in _files(folder) for row in pq.ParquetFile(path).read().to_pylist()]


def _remote(endpoint):
    return {"url": "s3://lake/events", "storage": {**KEYS, "AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true"}}


class TestDelta(SinkPromises):
    sink_type = DeltaSink
    counterpart = "local tables, and OpenStack Swift's S3"
    ordered = False
    table_option = ""
    options: ClassVar = {"url": "/srv/lake/events"}
    secrets = ("top-secret-key",)

    @contextmanager
    def healthy(self, **options):
        folder = Path(tempfile.mkdtemp(dir=self.tmp_path)) / "events"
        options = {"url": str(folder), "create": True, **options}
        yield Target(lambda: make_sink("delta", "lake", options), lambda: events_in(_files(folder)))

    def with_columns(self, columns):
        return self.healthy(columns=columns)

    @contextmanager
    def unreachable(self):
        with absent() as url:
            yield Target(lambda: make_sink("delta", "lake", _remote(url)))

    @contextmanager
    def misconfigured(self):
        yield Target(lambda: make_sink("delta", "lake", {"url": str(self.tmp_path / "nothing")}))

    @contextmanager
    def hanging(self):
        with silent() as url:
            yield Target(lambda: make_sink("delta", "lake", {**_remote(url), "timeout": self.deadline}))

    @contextmanager
    def losing_reply(self, *, after=True):
        made = []
        with self.healthy() as target:

            def sink():
                made.append(target.sink())
                return made[-1]

            def arm():
                made[-1]._lake = Failing(made[-1]._lake, "write_deltalake", after=after)

            yield Target(sink, target.arrived, arm=arm)

    def crashing_before(self):
        return self.losing_reply(after=False)


@pytest.fixture
def make(tmp_path):
    return lambda **options: make_sink("delta", "lake", {"url": str(tmp_path / "t"), "create": True, **options})


def test_columns_and_days(make, tmp_path):
    """Columns hold what fits, NULL otherwise; with partition = "day" each event lies in the folder of its UTC day."""
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
    rows = {row["event"].encode(): (row["event_time"], row["event_type"], row["n"]) for row in _rows(tmp_path / "t")}
    assert rows == dict(zip(events, [(noon, "a", 7), (late, "b", None), (None, None, None)], strict=True))
    folders = sorted(path.split("/")[-2] for path in _files(tmp_path / "t"))
    assert folders == ["event_date=2024-05-01", "event_date=__HIVE_DEFAULT_PARTITION__"]


def test_schema_contracts(make, tmp_path):
    """A column that is configured later is added, held against, or left out and counted, as schema_contract says."""
    more = {"n": {"path": "n", "type": "integer"}}
    with make() as sink:
        sink.deliver(make_batch(sample_events(1)))
    with (
        make(columns=more, schema_contract="freeze") as sink,
        pytest.raises(SinkMisconfigured, match=r"ADD COLUMNS \(n BIGINT\)"),
    ):
        sink.deliver(make_batch(sample_events(1, 1)))
    with make(columns=more, schema_contract="discard") as sink:
        sink.deliver(make_batch(sample_events(1, 1)))
        assert sink.counts == {("values.discarded", "n"): 1}
    with make(columns=more) as sink:
        assert "adds n" in list(sink.check())[-1]
        sink.deliver(make_batch(sample_events(1, 2)))
        assert sink.counts == {("columns.added", "n"): 1}
    assert [row.get("n", "no column") for row in _rows(tmp_path / "t")] == ["no column", "no column", 2]
    with make(columns={"n": "n"}) as sink, pytest.raises(SinkMisconfigured, match="is int64, but string"):
        sink.deliver(make_batch(sample_events(1, 3)))


def test_an_attempt_that_was_given_up_cannot_repeat_a_batch(make, tmp_path):
    """Of two attempts of one batch at the same moment one fails at its commit, and its repeat finds the other."""
    with make() as sink:
        sink.deliver(make_batch(sample_events(1)))
    batch, meeting, outcomes = make_batch(sample_events(3, 1)), threading.Barrier(2, timeout=30), []

    class Meeting:
        def __init__(self, lake):
            self._lake = lake

        def __getattr__(self, name):
            if name == "write_deltalake":
                meeting.wait()  # both have looked, and neither has found the batch
            return getattr(self._lake, name)

    def attempt():
        with make() as sink:
            sink._lake = Meeting(sink._lake)
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
    assert sorted(events_in(_files(tmp_path / "t"))) == sorted(sample_events(4))


def test_a_missing_table_says_how_it_is_made(tmp_path):
    """Without create = true nothing is made, and the text names the option and the columns."""
    with make_sink("delta", "lake", {"url": str(tmp_path / "t")}) as sink:
        with pytest.raises(SinkMisconfigured, match=r"create = true.*event_time \(timestamp"):
            sink.deliver(make_batch(sample_events(1)))
        assert sink.was_delivered(make_batch(sample_events(1))) is False
    assert not (tmp_path / "t").exists()
