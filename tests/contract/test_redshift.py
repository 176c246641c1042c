"""The redshift sink keeps the contract, against a PostgreSQL whose COPY is stubbed and a real S3."""

import json
from contextlib import contextmanager
from typing import ClassVar

import pytest
from tests.postgres_commits import PASSWORD, CommitPromises, events_in, new_table
from tests.postgres_server import pip_programs, postgres_server
from tests.redshift_stub import folder_of, prepare_database, redshift_stub
from tests.servers import free_ports, s3_server

from eventferry.errors import ConfigError
from eventferry.sink import BatchRejected, SinkMisconfigured, SinkUnavailable
from eventferry.sink.kit import CuttingProxy, Target, make_batch, sample_events
from eventferry.sink.registry import make_sink
from eventferry_sinks.redshift.complaints import judge
from eventferry_sinks.redshift.sink import RedshiftSink

ROLE = "arn:aws:iam::123456789012:role/loader"


class Cluster:
    """The server, its port as Redshift, the S3 with one bucket."""

    def __init__(self, server, port, s3):
        self.server, self.port, self.s3 = server, port, s3
        self.access = {"endpoint": s3.endpoint, "access_key": s3.access_key, "secret_key": s3.secret_key}

    def dsn(self, port=None, user="postgres"):
        return f"postgresql://{user}@127.0.0.1:{port or self.port}/postgres?sslmode=disable"

    def options(self, **more):
        given = {"dsn": self.dsn(), "password": PASSWORD, "stage": "s3://stage/loads", "iam_role": ROLE}
        return {**given, "s3": {**self.access, "addressing_style": "path"}, "create": True, **more}

    def make(self, **more):
        return make_sink("redshift", "bi", self.options(**more))

    def events(self, table):
        return events_in(self.server, table)

    def staged(self, prefix):
        return sorted(path.name for path in (self.s3.folder / "stage" / prefix).rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("s3")
    (folder / "stage").mkdir()
    with postgres_server(pip_programs()) as server, s3_server(folder) as s3:
        server.run(f"ALTER ROLE postgres PASSWORD '{PASSWORD}'")
        prepare_database(server)
        with redshift_stub(server, folder_of(folder)) as port:
            yield Cluster(server, port, s3)


class TestRedshift(CommitPromises):
    sink_type = RedshiftSink
    counterpart = "PostgreSQL 18 with COPY stubbed, and rclone's S3"
    exact = False
    takes_nul = False
    secrets = (PASSWORD, "wrong secret", "SECRETTEST")
    deadline = 2.0
    options: ClassVar = {"dsn": "postgresql://a@b/c", "stage": "s3://stage/x", "iam_role": "default"}

    @pytest.fixture(autouse=True)
    def _give_cluster(self, cluster):
        self.cluster, self.server = cluster, cluster.server

    def place(self, **more):
        table = new_table()
        given = {"table": table, "timeout": "60s", **more}
        return Target(lambda: self.cluster.make(**given), lambda: self.cluster.events(table))

    def proxy(self):
        return CuttingProxy("127.0.0.1", self.cluster.port)

    @contextmanager
    def misconfigured(self):
        yield self.place(password="wrong secret")


@pytest.fixture
def table():
    return new_table()


def test_nothing_stays_in_the_stage(cluster, table):
    """Files are gone after the commit and after a refusal; after a lost reply the repeat removes them."""
    tidy = {"table": table, "stage": "s3://stage/tidy"}
    with cluster.make(**tidy) as sink:
        sink.deliver(make_batch(sample_events(3)))
        with pytest.raises(BatchRejected):
            sink.deliver(make_batch([b'{"a":"\\u0000"}']))
        list(sink.check())
        assert cluster.staged("tidy") == []
    with CuttingProxy("127.0.0.1", cluster.port) as proxy:
        with cluster.make(**tidy, dsn=cluster.dsn(proxy.port)) as sink:
            proxy.cut_after(b"COMMIT\0")
            with pytest.raises(SinkUnavailable):
                sink.deliver(make_batch(sample_events(3), salt="lost"))
            assert cluster.staged("tidy") == ["0000.json.gz", "manifest"]
            sink.deliver(make_batch(sample_events(3), salt="lost", attempt=2))
        assert cluster.staged("tidy") == []
    with cluster.make(table=table, keep_staged=True, stage="s3://stage/kept") as sink:
        sink.deliver(make_batch(sample_events(3), salt="kept"))
    assert cluster.staged("kept") == ["0000.json.gz", "manifest"]
    assert len(cluster.events(table)) == 9


def test_a_large_batch_is_several_files(cluster, table, monkeypatch):
    """Slices of a cluster load side by side: a batch is cut into files, and all are in the manifest."""
    monkeypatch.setattr("eventferry_sinks.redshift.staging.FILE_BYTES", 2000)
    with cluster.make(table=table) as sink:
        sink.deliver(make_batch(sample_events(100)))
    assert [json.loads(each)["n"] for each in cluster.events(table)] == list(range(100))


def test_the_clusters_own_words_are_told(cluster, table):
    """Why COPY refused is in a table of the cluster: its message and the column, without the row."""
    batch = make_batch([b'{"a":"poison"}'])
    name = f"s3://stage/loads/{table}/{batch.id}/0000.json.gz"
    cluster.server.run(
        "INSERT INTO sys_load_error_detail VALUES"
        f" ('event', 'Invalid JSON ', '{name}', now()), ('x', 'else', 'y', now())"
    )
    with cluster.make(table=table) as sink:
        with pytest.raises(BatchRejected, match=r"postgres: Invalid JSON \(column event\)$"):
            sink.deliver(batch)
        with pytest.raises(BatchRejected, match="says nothing about it"):
            sink.deliver(make_batch([b'{"b":"poison"}']))
        sink.deliver(make_batch(sample_events(1)))
    assert len(cluster.events(table)) == 1


def test_texts_too_long_for_their_column_do_not_fit(cluster, table):
    """A text longer than its column is NULL there, counted, whole in the event; a row too long for COPY is refused."""
    long = "ü" * 40_000
    with cluster.make(table=table, columns={"a": "a"}) as sink:
        sink.deliver(make_batch([json.dumps({"a": long}).encode(), b'{"a":"short"}']))
        assert sink.counts["values.misfitted", "a"] == 1
        with pytest.raises(BatchRejected, match="longer than COPY takes"):
            sink.deliver(make_batch([json.dumps({"a": "x" * 4_000_000}).encode()]))
    assert cluster.server.run(f"SELECT a, event->>'a' = '{long}' FROM {table} ORDER BY ctid") == [
        (None, True),
        ("short", False),
    ]


def test_columns_follow_the_contract(cluster, table):
    """evolve adds, freeze holds with the statement, discard leaves out and counts; another type holds."""
    with cluster.make(table=table) as sink:
        sink.deliver(make_batch(sample_events(1)))
    number = {"n": {"path": "n", "type": "integer"}}
    with (
        cluster.make(table=table, columns=number, schema_contract="freeze") as sink,
        pytest.raises(SinkMisconfigured, match='ADD COLUMN "n" bigint'),
    ):
        sink.deliver(make_batch(sample_events(1, 1)))
    with cluster.make(table=table, columns=number, schema_contract="discard") as sink:
        sink.deliver(make_batch(sample_events(1, 1)))
        assert sink.counts["values.discarded", "n"] == 1
    with cluster.make(table=table, columns=number) as sink:
        sink.deliver(make_batch(sample_events(1, 2)))
        assert sink.counts["columns.added", "n"] == 1
    with (
        cluster.make(table=table, columns={"n": "n"}) as sink,
        pytest.raises(SinkMisconfigured, match=r"'n' .* is bigint"),
    ):
        sink.deliver(make_batch(sample_events(1, 3)))
    assert cluster.server.run(f"SELECT n FROM {table} ORDER BY ctid") == [(None,), (None,), (2,)]


def test_an_s3_that_is_away_or_refuses(cluster, table):
    """Without the stage nothing is taken: later where it cannot be reached, a person where it does not let us in."""
    away = {"endpoint": f"http://127.0.0.1:{free_ports(1)[0]}", "access_key": "a", "secret_key": "b"}
    with cluster.make(table=table, s3=away) as sink, pytest.raises(SinkUnavailable):
        sink.deliver(make_batch(sample_events(1)))
    wrong = {**cluster.access, "secret_key": "other secret", "addressing_style": "path"}
    with cluster.make(table=table, s3=wrong) as sink, pytest.raises(SinkMisconfigured) as caught:
        sink.deliver(make_batch(sample_events(1)))
    assert "other secret" not in str(caught.value)
    assert cluster.events(table) == []


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("S3ServiceException: Access Denied,Status 403", SinkMisconfigured),
        ("User arn:aws:redshift:x is not authorized to assume IAM Role", SinkMisconfigured),
        ("1023 DETAIL: Serializable isolation violation on table", SinkUnavailable),
        ("Load into table 'events' failed. Check 'sys_load_error_detail'", BatchRejected),
        ("S3ServiceException: SlowDown,Status 503", SinkUnavailable),
    ],
)
def test_what_comes_as_internal_errors(message, expected):
    """Redshift says most of its troubles under XX000: its words tell what they mean."""
    from eventferry.sink.postgresql.sqlstates import Complaint

    assert type(judge(Complaint("XX000", message), "cluster")) is expected


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"stage": "gs://bucket/x"}, "from where alone Redshift loads"),
        ({"iam_role": "me'; DROP"}, "is not a role"),
        ({"columns": {"Url": "a"}}, "has capital letters"),
        ({"table": "Events"}, "has capital letters"),
    ],
)
def test_options_that_cannot_be_are_refused(more, problem):
    """Mistakes that need no cluster are found without one."""
    with pytest.raises(ConfigError, match=problem):
        make_sink("redshift", "bi", {**TestRedshift.options, **more})
