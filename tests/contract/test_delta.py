"""The delta sink keeps the contract, in local tables read back with pyarrow alone."""

from typing import ClassVar
from urllib.parse import unquote

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from tests.lakes import Failing, LakePromises

from eventferry.sink import SinkMisconfigured
from eventferry.sink.kit import make_batch, sample_events
from eventferry_sinks.delta.sink import DeltaSink

KEYS = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "top-secret-key", "AWS_REGION": "us-east-1"}


class TestDelta(LakePromises):
    sink_type = DeltaSink
    counterpart = "local tables, and OpenStack Swift's S3"
    ordered = False
    table_option = ""
    options: ClassVar = {"url": "/srv/lake/events"}
    secrets = ("top-secret-key",)
    lake = "delta"
    integer = "int64"
    ddl = "n BIGINT"
    undated = "event_date=__HIVE_DEFAULT_PARTITION__"

    def place(self, folder):
        return {"url": f"{folder}/events"}

    def remote(self, endpoint):
        return {"url": "s3://lake/events", "storage": {**KEYS, "AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true"}}

    def files(self, folder):
        place = f"{folder}/events"
        if not DeltaTable.is_deltatable(place):
            return []
        actions = pa.table(DeltaTable(place).get_add_actions(flatten=True)).to_pylist()
        return [f"{place}/{unquote(one['path'])}" for one in sorted(actions, key=lambda one: one["modification_time"])]

    def fail_commit(self, sink, *, after):
        sink._lake = Failing(sink._lake, "write_deltalake", after=after)

    def test_a_missing_table_says_how_it_is_made(self):
        """Without create = true nothing is made, and the text names the option and the columns."""
        with self.make(create=False) as sink:
            with pytest.raises(SinkMisconfigured, match=r"create = true.*event_time \(timestamp"):
                sink.deliver(make_batch(sample_events(1)))
            assert sink.was_delivered(make_batch(sample_events(1))) is False
        assert list(self.tmp_path.iterdir()) == []
