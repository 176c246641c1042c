"""One poisonous event among 100,000 on their way into PostgreSQL: the others arrive, and people learn which it was."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.builders import Ferry
from tests.poisons import OTHERS, calls_of, deliver_all_but_one, ferry_into, hold_until_mended
from tests.postgres_server import PostgresServer, pip_programs, postgres_server

from eventferry_sinks.postgres.sink import PostgresSink

LONG = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=6_000)).encode()
POISONS = {
    "nul": (b'{"n":67890,"t":"SECRET\\u0000"}\n', "unsupported Unicode escape sequence (column event) [22P05]"),
    "number": (b'{"n":67890,"t":["SECRET",1e999999]}\n', "value overflows numeric format (column event) [22003]"),
    "key": (b'{"n":67890,"t":"SECRET%b"}\n' % LONG, 'for index "by_text" [54000]'),
}


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server(pip_programs()) as running:
        yield running


@pytest.fixture
def ferry(server: PostgresServer, tmp_path: Path) -> Iterator[Ferry]:
    server.run("DROP TABLE IF EXISTS events, eventferry_batches, eventferry_parts")
    with ferry_into(tmp_path, type="postgres", dsn=server.dsn()) as ferry:
        yield ferry


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    return calls_of(PostgresSink, monkeypatch)


@pytest.mark.parametrize("kind", POISONS)
def test_all_but_one_arrive(server: PostgresServer, ferry: Ferry, calls: list[int], kind: str) -> None:
    """99,999 events arrive once, one dead letter says the server's words and file:line, and the search was short."""
    poison, words = POISONS[kind]
    if kind == "key":  # the operator's own index, which takes no long texts
        server.run("CREATE TABLE events (event jsonb, batch_id text, event_time timestamptz, event_type text)")
        server.run("CREATE INDEX by_text ON events ((event->>'t'))")
    assert deliver_all_but_one(ferry, calls, poison).endswith(words)
    found = server.run("SELECT count(*), count(DISTINCT (event->>'n')::int), sum((event->>'n')::bigint) FROM events")
    assert found == [OTHERS]


@pytest.mark.parametrize("wrong", ["event jsonb CHECK (false)", "event jsonb, must text NOT NULL", "event integer"])
def test_a_wholly_wrong_table_holds_the_sink(
    server: PostgresServer, ferry: Ferry, calls: list[int], wrong: str
) -> None:
    """Where everything is refused, a person is asked; nothing becomes a dead letter, and a mended table is enough."""
    server.run(f"CREATE TABLE events ({wrong}, batch_id text, event_time timestamptz, event_type text)")

    def mend() -> None:
        assert len(calls) < 60
        server.run("DROP TABLE events")

    hold_until_mended(ferry, mend)
    assert server.run("SELECT count(*) FROM events") == [(3000,)]
