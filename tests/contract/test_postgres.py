"""The postgres sink keeps the contract, in real servers: the one that pip brings, and the machine's own."""

import itertools
from contextlib import contextmanager
from typing import ClassVar

import psycopg
import pytest

from eventferry.sink.kit import SinkPromises, Target, make_batch, sample_events
from eventferry.sink.kit.proxy import CuttingProxy
from eventferry.sink.registry import make_sink
from eventferry_sinks.postgres.sink import PostgresSink
from tests.postgres_server import machine_programs, pip_programs, postgres_server

PASSWORD = "Sesam öffne dich"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server():
    with postgres_server(pip_programs()) as running:
        running.run(f"CREATE ROLE ferry LOGIN PASSWORD '{PASSWORD}'")
        yield running


@pytest.fixture(scope="module")
def older():
    with postgres_server(machine_programs()) as running:
        running.run(f"CREATE ROLE ferry LOGIN PASSWORD '{PASSWORD}'")
        yield running


def new_table():
    return f"public.events_{next(_numbers)}"


def events_in(server, table):
    try:
        return [event.encode() for (event,) in server.run(f"SELECT event::text FROM {table} ORDER BY ctid")]
    except psycopg.errors.UndefinedTable:
        return []


def make(server, **options):
    return make_sink("postgres", "bi", {"dsn": server.dsn(), "create": True, **options})


class Promises(SinkPromises):
    """On a server over its unix socket, through a proxy where replies are to be lost."""

    sink_type = PostgresSink
    counterpart = "PostgreSQL 18 and 15"
    records_parts = True
    options: ClassVar = {"dsn": "postgresql://ferry@db.example.org/analytics"}
    secrets = (PASSWORD, "wrong secret")
    more: ClassVar = {}

    def place(self, dsn=None, **options):
        table = new_table()
        given = {"dsn": dsn or self.server.dsn(), "table": table, "create": True, **self.more, **options}
        return Target(lambda: make_sink("postgres", "bi", given), lambda: events_in(self.server, table))

    @contextmanager
    def healthy(self):
        yield self.place()

    @contextmanager
    def with_columns(self, columns):
        yield self.place(columns=columns)

    @contextmanager
    def unreachable(self):
        with CuttingProxy("127.0.0.1", 9) as proxy:
            port = proxy.port
        yield self.place(f"postgresql://ferry@127.0.0.1:{port}/postgres", password=PASSWORD)

    @contextmanager
    def misconfigured(self):
        yield self.place(self.server.tcp(user="ferry"), password="wrong secret")

    @contextmanager
    def refusing(self):
        target = self.place()
        with target.sink() as sink:
            table = sink.options.table
        self.server.run(
            f"CREATE TABLE {table} (event_time timestamptz, event_type text, event {self.more.get('event_as', 'jsonb')}"
            " CHECK (false), batch_id text)"
        )
        yield target

    def prepare(self, target):
        with target.sink() as sink:
            sink.deliver(make_batch(sample_events(1), salt="before"))
            self.server.run(f"DELETE FROM {sink.options.table}")

    def proxied(self, trap, **options):
        @contextmanager
        def place():
            with CuttingProxy(self.server.socket) as proxy:
                target = self.place(f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres?sslmode=disable", **options)
                self.prepare(target)  # so that the first COMMIT is that of a batch
                yield Target(target.sink, target.arrived, arm=lambda: trap(proxy))
                assert proxy.snapped == 1

        return place()

    def losing_reply(self):
        return self.proxied(lambda proxy: proxy.cut_after(b"COMMIT\0"))

    def crashing_before(self):
        return self.proxied(lambda proxy: proxy.cut_before(b"COMMIT\0"))

    def hanging(self):
        return self.proxied(lambda proxy: proxy.stall_after(b"COMMIT\0"), timeout="1s")


class TestPostgres(Promises):
    exact = False  # jsonb keeps values, not spelling
    takes_nul = False

    @pytest.fixture(autouse=True)
    def _give_server(self, server):
        self.server = server


class TestPostgresJson(Promises):
    more: ClassVar = {"event_as": "json", "unique_event_id": "id"}  # no event of the kit has one

    @pytest.fixture(autouse=True)
    def _give_server(self, server):
        self.server = server


class TestOlder(TestPostgres):
    @pytest.fixture(autouse=True)
    def _give_server(self, older):
        self.server = older
