"""What contract tests of sinks that commit to a PostgreSQL share: tables, their events, commits that are cut off."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psycopg
from tests.postgres_server import PostgresServer
from tests.servers import free_ports

from eventferry.sink.kit import CuttingProxy, SinkPromises, Target, make_batch, sample_events

PASSWORD = "Sesam öffne dich"
COMMIT = b"COMMIT\0"
_numbers = itertools.count(1)


def new_table() -> str:
    return f"public.events_{next(_numbers)}"


def events_in(server: PostgresServer, table: str) -> list[bytes]:
    """The events of a table in the order in which they lie there; none where it is missing."""
    try:
        return [event.encode() for (event,) in server.run(f"SELECT event::text FROM {table} ORDER BY ctid")]
    except psycopg.errors.UndefinedTable:
        return []


class CommitPromises(SinkPromises):
    """The contract, with a proxy before the server where its answer to COMMIT is to be lost."""

    server: PostgresServer
    records_parts = True

    def place(self, **options: Any) -> Target:
        """A new table, which the sink creates."""
        raise NotImplementedError

    def proxy(self) -> CuttingProxy:
        """In front of the server."""
        raise NotImplementedError

    def dsn_at(self, port: int) -> str:
        return f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable"

    @contextmanager
    def healthy(self) -> Iterator[Target]:
        yield self.place()

    @contextmanager
    def with_columns(self, columns: dict[str, Any]) -> Iterator[Target]:
        yield self.place(columns=columns)

    @contextmanager
    def unreachable(self) -> Iterator[Target]:
        yield self.place(dsn=self.dsn_at(*free_ports(1)), password=PASSWORD)

    @contextmanager
    def proxied(self, trap: Callable[[CuttingProxy], None], **options: Any) -> Iterator[Target]:
        with self.proxy() as proxy:
            target = self.place(dsn=self.dsn_at(proxy.port), **options)
            with target.sink() as sink:  # so that the first COMMIT is that of a batch
                sink.deliver(make_batch(sample_events(1), salt="before"))
                self.server.run(f"DELETE FROM {sink.options.table}")
            yield Target(target.sink, target.arrived, arm=lambda: trap(proxy))
            assert proxy.snapped

    def losing_reply(self) -> AbstractContextManager[Target]:
        return self.proxied(lambda proxy: proxy.cut_after(COMMIT))

    def crashing_before(self) -> AbstractContextManager[Target]:
        return self.proxied(lambda proxy: proxy.cut_before(COMMIT))

    def hanging(self) -> AbstractContextManager[Target]:
        return self.proxied(lambda proxy: proxy.stall_after(COMMIT), timeout=f"{self.deadline:g}s")
