"""The clickhouse sink keeps the contract: today's engine behind a front of the tests, and Debian's old server."""

import contextlib
from contextlib import contextmanager
from dataclasses import replace
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.clickhouse_server import PASSWORD, ClickhouseServer, chdb_server, debian_server
from tests.contract.receiver import dripping, nobody, receiving

from eventferry.sink import BatchRejected, Guarantee, SinkMisconfigured, SinkUnavailable
from eventferry.sink.kit import CuttingProxy, SinkPromises, Target, make_batch, sample_events
from eventferry.sink.registry import make_sink
from eventferry_sinks.clickhouse.sink import ClickhouseSink

WINDOW = "SETTINGS non_replicated_deduplication_window = 100"
INSERT = b"FORMAT JSONEachRow"
POISON = b'{"event_type":"poison"}'
REFUSES_POISON = "event_type Nullable(String), CONSTRAINT wholesome CHECK NOT event LIKE '%poison%'"


@pytest.fixture(scope="module")
def chdb():
    with chdb_server() as server:
        yield server


@pytest.fixture(scope="module")
def debian():
    with debian_server() as server:
        yield server


def _sink(server, table, **options):
    return make_sink("clickhouse", "ch", server.options(table=table, **options))


def _target(server, table, **options):
    return Target(lambda: _sink(server, table, **options), lambda: server.events(table), lambda: server.keys(table))


@pytest.mark.servers
class TestClickhouse(SinkPromises):
    sink_type = ClickhouseSink
    counterpart = "chdb 26.9 behind an HTTP front of the tests"
    options: ClassVar = {"url": "http://127.0.0.1:8123/"}
    secrets = (PASSWORD,)
    deadline = 0.5
    poison = POISON
    how: ClassVar = {}

    @pytest.fixture(autouse=True)
    def _serve(self, chdb):
        self.server = chdb

    def _table(self, columns=""):
        return self.server.make_table(columns, WINDOW)

    @contextmanager
    def healthy(self):
        yield _target(self.server, self._table(), **self.how)

    @contextmanager
    def unreachable(self):
        with nobody() as url:
            yield _target(self.server, "events", url=url, **self.how)

    @contextmanager
    def refusing(self):
        yield _target(self.server, self._table("n Int8, CONSTRAINT never CHECK n > 0"), **self.how)

    @contextmanager
    def poisoned(self):
        yield _target(self.server, self._table(REFUSES_POISON), **self.how)

    @contextmanager
    def misconfigured(self):
        yield _target(self.server, self._table(), **self.how | {"password": f"not {PASSWORD}"})

    @contextmanager
    def _through(self, trap):
        """A healthy place behind a proxy, whose trap is set before the first delivery."""
        table = self._table()
        with CuttingProxy("127.0.0.1", self.server.port) as proxy:
            target = _target(self.server, table, url=proxy.url, **self.how | {"compression": "none"})
            yield replace(target, arm=lambda: trap(proxy))

    @contextmanager
    def hanging(self):
        with self._through(lambda proxy: proxy.stall_after(INSERT)) as target:
            yield replace(
                target, sink=lambda: make_sink("clickhouse", "ch", _with(target.sink(), timeout=self.deadline))
            )

    def losing_reply(self):
        return self._through(lambda proxy: proxy.cut_after(INSERT, reply=b"\r\n\r\n"))

    def crashing_before(self):
        return self._through(lambda proxy: proxy.cut_before(INSERT))

    @contextmanager
    def throttling(self):
        with receiving(lambda request: (429, {"Retry-After": "7"}, b"slow down")) as receiver:
            yield _target(self.server, "events", url=receiver.url, **self.how)

    @contextmanager
    def lowering(self):
        yield _target(self.server, self.server.make_table(), **self.how)

    @contextmanager
    def with_columns(self, columns):
        yield _target(self.server, self._table(), columns=columns, **self.how)


def _with(sink, **changes):
    return {**sink.options.model_dump(exclude_unset=True), "password": PASSWORD, **changes}


class OldClickhouseSink(ClickhouseSink):
    """What the type is on a server without deduplication tokens."""

    guarantee = Guarantee.AT_LEAST_ONCE_KEYED
    proved_against = "ClickHouse 18.16"


@pytest.mark.servers
class TestOldServer(TestClickhouse):
    """The plain path, on a real server of 2018."""

    sink_type = OldClickhouseSink
    counterpart = "ClickHouse 18.16"
    poison = None
    refusing = poisoned = lowering = SinkPromises.lowering
    poisoned = SinkPromises.poisoned

    @pytest.fixture(autouse=True)
    def _serve(self, debian):
        self.server = debian

    def _table(self, columns=""):
        return self.server.make_table(columns or "event_time Nullable(DateTime), event_type Nullable(String)")


@pytest.mark.servers
class TestZstd(TestClickhouse):
    how: ClassVar = {"compression": "zstd"}
