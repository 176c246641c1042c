"""The object_store sink keeps the contract: in a directory, and against real servers of S3's protocol."""

import contextlib
import csv
import gzip
import io
import itertools
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pyarrow.parquet as pq
import pytest
from backports import zstd
from tests.azurite_server import azurite_server
from tests.contract.receiver import nobody
from tests.gcs_server import gcs_server
from tests.servers import s3_server
from tests.stub_store import answering
from tests.swift_server import SECRET, USER, swift_server

from eventferry.sink import SinkMisconfigured
from eventferry.sink.kit import SinkPromises, Target, make_batch, sample_events
from eventferry.sink.kit.proxy import CuttingProxy
from eventferry.sink.objects import S3Access, open_bucket, place_of
from eventferry.sink.registry import make_sink
from eventferry_sinks.object_store.manifest import objects_of
from eventferry_sinks.object_store.sink import ObjectStoreSink

_numbers = itertools.count()


def _lines(key, content):
    """The events in an object."""
    if key.endswith(".parquet"):
        return [event.encode() for event in pq.read_table(io.BytesIO(content)).column("event").to_pylist()]
    if key.endswith(".gz"):
        content = gzip.decompress(content)
    elif key.endswith(".zst"):
        content = zstd.decompress(content)
    if ".csv" in key:
        return [row["event"].encode() for row in csv.DictReader(io.StringIO(content.decode(), newline=""))]
    return content.split(b"\n")[:-1]


def _events(bucket):
    """What a reader sees that ignores hidden names, as all of them do."""
    bucket.begin(60)
    keys = [key for key in bucket.list("") if not key.startswith("_")]
    found = []
    for key in keys:
        bucket.begin(30)
        found += _lines(key, bucket.get(key))
    return found


class _Shared(SinkPromises):
    sink_type = ObjectStoreSink
    counterpart = "directories, OpenStack Swift's S3, emulators of GCS and Azure"
    ordered = False
    table_option = ""
    options: ClassVar = {"url": "s3://bucket/prefix", "format": "parquet"}
    form: ClassVar = {"partition": ""}


class TestDirectory(_Shared):
    @contextmanager
    def healthy(self, **more):
        options = {"url": str(self.tmp_path), **self.form, **more}
        bucket = open_bucket(place_of(str(self.tmp_path)))
        yield Target(lambda: make_sink("object_store", "lake", options), lambda: _events(bucket))

    @contextmanager
    def misconfigured(self):
        options = {"url": str(self.tmp_path / "not-mounted"), **self.form}
        yield Target(lambda: make_sink("object_store", "lake", options))

    refusing = misconfigured


class TestCsvGzip(TestDirectory):
    form: ClassVar = {"partition": "", "format": "csv", "compression": "gzip"}
    test_the_largest_batch_arrives = None  # once as lines and once as Parquet is enough

    def with_columns(self, columns):
        return self.healthy(columns=columns)


class TestParquet(TestCsvGzip):
    form: ClassVar = {"partition": "", "format": "parquet"}
    test_the_largest_batch_arrives = TestDirectory.test_the_largest_batch_arrives


@pytest.fixture(scope="module")
def swift():
    with swift_server() as server:
        yield server


class TestSwift(_Shared):
    """OpenStack's object store, which checks signatures and honours conditions."""

    secrets = ("a-secret-key-4711",)
    test_the_largest_batch_arrives = None  # as in a directory
    deadline = 1.0

    @pytest.fixture(autouse=True)
    def _start(self, swift):
        self.server = swift
        self.bucket = "kit-missing"

    def _sink(self, endpoint=None, secret=SECRET, **more):
        access = {"endpoint": endpoint or self.server.endpoint, "access_key": USER, "secret_key": secret}
        options = {"url": f"s3://{self.bucket}/lake", "partition": "", "s3": access, **more}
        return make_sink("object_store", "lake", options)

    @contextmanager
    def healthy(self, endpoint=None, arm=lambda: None, **more):
        self.bucket = f"kit-{next(_numbers)}"
        access = S3Access(endpoint=self.server.endpoint, access_key=USER, secret_key=SECRET)
        bucket = open_bucket(place_of(f"s3://{self.bucket}/lake"), access)
        bucket.make()
        with contextlib.closing(bucket):
            yield Target(lambda: self._sink(endpoint, **more), lambda: _events(bucket), arm=arm)

    @contextmanager
    def _through(self, method, pattern, **more):
        with CuttingProxy("127.0.0.1", int(self.server.endpoint.rpartition(":")[2])) as proxy:
            arm = lambda: getattr(proxy, method)(f"PUT /{self.bucket}/lake/{pattern}".encode())  # noqa: E731
            with self.healthy(proxy.url, arm, **more) as target:
                yield target
            assert proxy.snapped

    def losing_reply(self):
        return self._through("cut_after", "_manifests/")

    def crashing_before(self):
        return self._through("cut_before", "2024/")

    def hanging(self):
        return self._through("stall_after", "2024/", timeout=self.deadline)

    @contextmanager
    def unreachable(self):
        with nobody() as url:
            yield Target(lambda: self._sink(url.removesuffix("/"), self.secrets[0]))

    @contextmanager
    def refusing(self):
        yield Target(lambda: self._sink(secret=self.secrets[0]))

    @contextmanager
    def misconfigured(self):
        yield Target(self._sink)  # no such bucket

    @contextmanager
    def throttling(self):
        body = b"<Error><Code>SlowDown</Code><Message>a-secret-key-4711</Message></Error>"
        with answering(503, {"Retry-After": "7"}, body) as url:
            yield Target(lambda: self._sink(url, self.secrets[0]))


# The same against the other stores, by what differs between them


def _rclone(stack):
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    server = stack.enter_context(s3_server(folder))
    table = {"endpoint": server.endpoint, "access_key": server.access_key, "secret_key": server.secret_key}
    return "s3", {"s3": table}


def _gcs(stack):
    return "gs", {"gcs": dict(stack.enter_context(gcs_server()).options())}


def _azurite(stack):
    return "azure", {"azure": dict(stack.enter_context(azurite_server()).options())}


STORES = [
    pytest.param((_rclone, False), id="rclone"),
    pytest.param((_gcs, False), id="gcs"),
    pytest.param((_azurite, True), id="azurite", marks=pytest.mark.servers),
]


@pytest.fixture(scope="module", params=STORES)
def store(request):
    start, honours = request.param
    with contextlib.ExitStack() as stack:
        kind, access = start(stack)

        def make(name, **more):
            return make_sink("object_store", "lake", {"url": f"{kind}://{name}/a/b", **access, **more})

        make.honours = honours
        yield make


@pytest.fixture
def bucket_name():
    return f"shelf-{next(_numbers)}"


def test_a_store_takes_a_batch_once(store, bucket_name):
    """Made on request, filled, proved by another instance; a batch that is there is not written again."""
    batch = make_batch(sample_events(50))
    for _ in range(2):
        with store(bucket_name, format="parquet", create=True) as sink:
            sink.deliver(batch)
    with store(bucket_name, compression="none") as sink:
        sink.deliver(batch)  # under another layout
        assert sink.was_delivered(batch)
        assert sink.was_delivered(make_batch(sample_events(1))) is False
        assert _events(sink._opened) == sample_events(50)
        (manifest,) = sink._opened.list("_manifests/")
        (listed,) = objects_of(sink._opened.get(manifest))
        assert sink._opened.head(listed.key).size == listed.size
        assert listed.events == 50


def test_a_store_is_checked_in_steps(store, bucket_name):
    """The steps say as whom, what can be done, and whether conditions are honoured; no probe is left."""
    with store(bucket_name, create=True) as sink:
        steps = list(sink.check())
        assert "was created" in steps[0]
        assert list(sink._opened.list("")) == []
    honoured = "it honours conditional writes"
    assert (honoured in steps) is store.honours
    assert any("written, read back and deleted" in step for step in steps)


def test_a_missing_bucket_says_how_it_is_made(store, bucket_name):
    """A person is told the command, or create = true; nothing is made unasked."""
    for call in (lambda sink: sink.deliver(make_batch(sample_events(1))), lambda sink: list(sink.check())):
        with store(bucket_name) as sink, pytest.raises(SinkMisconfigured, match=rf"{bucket_name}.*create = true"):
            call(sink)


def test_objects_are_written_read_and_removed(store, bucket_name):
    """The verbs of a bucket: what is not there is None, deleting it is fine, and a second new one is refused."""
    with store(bucket_name, create=True) as sink:
        bucket = sink._opened
        bucket.begin(20)
        assert bucket.make()
        assert not bucket.make()
        assert bucket.get("x/y") is None
        assert bucket.head("x/y") is None
        bucket.delete("x/y")
        assert bucket.put_new("x/y", b"one")
        assert not bucket.put_new("x/y", b"two")
        assert bucket.get("x/y") == b"one"
        bucket.put("x/y", b"three")
        assert bucket.head("x/y").size == 5
        bucket.put("x/ü =&", b"")
        assert list(bucket.list("x/")) == ["x/y", "x/ü =&"]
        bucket.delete("x/y")
        assert list(bucket.list("")) == ["x/ü =&"]
