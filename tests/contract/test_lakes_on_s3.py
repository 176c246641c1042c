"""Delta and Iceberg tables on a real object store, which honours the conditional request that a commit is."""

import pyarrow as pa
import pyarrow.fs
import pytest
from deltalake import DeltaTable
from pyiceberg.catalog import load_catalog
from tests.lakes import deliver_twins, events_in
from tests.swift_server import swift_server

from eventferry.sink import SinkMisconfigured
from eventferry.sink.kit import make_batch, sample_events
from eventferry.sink.registry import make_sink


@pytest.fixture(scope="module")
def swift():
    with swift_server() as server:
        server.client().create_bucket(Bucket="lake")
        yield server


@pytest.fixture
def files(swift):
    return pyarrow.fs.S3FileSystem(
        access_key=swift.access_key,
        secret_key=swift.secret_key,
        endpoint_override=swift.endpoint,
        region="us-east-1",
    )


@pytest.fixture
def delta(swift):
    storage = {
        "AWS_ACCESS_KEY_ID": swift.access_key,
        "AWS_SECRET_ACCESS_KEY": swift.secret_key,
        "AWS_ENDPOINT_URL": swift.endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }
    return {"url": "s3://lake/delta", "storage": storage, "create": True}


def test_delta_repeats_nothing_on_s3(delta, files):
    """Twins of a batch at the same moment, and a repeat, leave each event once."""
    batches = [make_batch(sample_events(1)), make_batch(sample_events(5, 1))]
    with make_sink("delta", "lake", delta) as sink:
        sink.deliver(batches[0])
    outcomes = deliver_twins(lambda: make_sink("delta", "lake", delta), batches[1])
    # Swift looks at the condition before it has the body: within milliseconds both may pass, and one commit stands.
    assert None in outcomes
    with make_sink("delta", "lake", delta) as sink:
        sink.deliver(batches[1])
        assert sink.was_delivered(batches[1])
    actions = pa.table(DeltaTable(delta["url"], storage_options=delta["storage"]).get_add_actions()).to_pylist()
    there = events_in([f"lake/delta/{one['path']}" for one in actions], files)
    assert sorted(there) == sorted(sample_events(6))


def test_delta_holds_at_a_wrong_secret(delta):
    """A store that refuses the credentials is for a person to mend, and the text shows no secret."""
    wrong = {**delta, "storage": {**delta["storage"], "AWS_SECRET_ACCESS_KEY": "quite-another-secret"}}
    with make_sink("delta", "lake", wrong) as sink, pytest.raises(SinkMisconfigured, match="storage") as caught:
        sink.deliver(make_batch(sample_events(1)))
    assert "quite-another-secret" not in str(caught.value)


def test_iceberg_repeats_nothing_on_s3(swift, files, tmp_path, monkeypatch):
    """A batch and its repeat by another instance are one snapshot with each event once."""
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")  # as its README says of such stores
    catalog = {
        "type": "sql",
        "uri": f"sqlite:///{tmp_path}/catalog.db",
        "warehouse": "s3://lake/iceberg",
        "s3.endpoint": swift.endpoint,
        "s3.access-key-id": swift.access_key,
        "s3.secret-access-key": swift.secret_key,
        "s3.region": "us-east-1",
    }
    for _ in range(2):
        with make_sink("iceberg", "lake", {"catalog": catalog, "table": "a.events", "create": True}) as sink:
            sink.deliver(make_batch(sample_events(5)))
    table = load_catalog("default", **catalog).load_table("a.events")
    assert len(table.metadata.snapshots) == 1
    paths = [task.file.file_path.removeprefix("s3://") for task in table.scan().plan_files()]
    assert events_in(paths, files) == sample_events(5)
