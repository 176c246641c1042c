"""One poisonous event among 100,000 on their way into PostgreSQL: the others arrive, and people learn which it was."""

import math
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.builders import HOUR, Ferry, wait_until
from tests.postgres_server import PostgresServer, pip_programs, postgres_server

from eventferry_sinks.postgres.sink import PostgresSink

COUNT = 100_000
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
def ferry(server: PostgresServer, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Ferry]:
    """A sink whose batches hold all events of the store."""
    server.run("DROP TABLE IF EXISTS events, eventferry_batches, eventferry_parts")
    ferry = Ferry(tmp_path)
    ferry.sinks["out"] = {
        "type": "postgres",
        "dsn": server.dsn(),
        "create": True,
        "retry": {"first": "1ms", "max": "10ms"},
        "batch": {"max_events": COUNT, "max_bytes": "64MiB", "max_wait": "0s"},
    }
    yield ferry
    ferry.close()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The events of every call of `deliver`."""
    seen: list[int] = []
    deliver = PostgresSink.deliver

    def counted(sink: PostgresSink, batch):  # type: ignore[no-untyped-def]
        seen.append(batch.events)
        deliver(sink, batch)

    monkeypatch.setattr(PostgresSink, "deliver", counted)
    return seen


def put_events(ferry: Ferry, count: int, poison: bytes | None = None) -> None:
    lines = [b'{"n":%d}\n' % number for number in range(count)]
    if poison is not None:
        lines[67890] = poison
    ferry.put(f"{HOUR}/all.ndjson.gz", b"".join(lines))
    with ferry.open():
        ferry.index()


@pytest.mark.parametrize("kind", POISONS)
def test_all_but_one_arrive(server: PostgresServer, ferry: Ferry, calls: list[int], kind: str) -> None:
    """99,999 events arrive once, one dead letter says the server's words and file:line, and the search was short."""
    poison, words = POISONS[kind]
    if kind == "key":  # the operator's own index, which takes no long texts
        server.run("CREATE TABLE events (event jsonb, batch_id text, event_time timestamptz, event_type text)")
        server.run("CREATE INDEX by_text ON events ((event->>'t'))")
    put_events(ferry, COUNT, poison)
    with ferry.open():
        ferry.deliver(seconds=60)
        (letter,) = ferry.letters()
        assert calls[0] == COUNT
        assert len(calls) <= 1 + 2 * math.log2(COUNT) + 2
        assert letter.place.endswith(f"{HOUR}/all.ndjson.gz:67891")
        assert letter.reason.endswith(words)
        assert "SECRET" not in letter.reason
        assert letter.body == poison
        assert (ferry.book().delivered, ferry.book().dead) == (COUNT - 1, 1)
    found = server.run("SELECT count(*), count(DISTINCT (event->>'n')::int), sum((event->>'n')::bigint) FROM events")
    assert found == [(COUNT - 1, COUNT - 1, COUNT * (COUNT - 1) // 2 - 67890)]


@pytest.mark.parametrize("wrong", ["event jsonb CHECK (false)", "event jsonb, must text NOT NULL", "event integer"])
def test_a_wholly_wrong_table_holds_the_sink(
    server: PostgresServer, ferry: Ferry, calls: list[int], wrong: str
) -> None:
    """Where everything is refused, a person is asked; nothing becomes a dead letter, and a mended table is enough."""
    server.run(f"CREATE TABLE events ({wrong}, batch_id text, event_time timestamptz, event_type text)")
    put_events(ferry, 3000)
    with ferry.open():
        with ferry.working():
            wait_until(lambda: ferry.sink().state == "held", 60, "the hold")
        assert not ferry.letters(state=None)
        assert ferry.book().delivered == 0
        assert len(calls) < 60
        server.run("DROP TABLE events")
        ferry.do("resume", sink="out")
        ferry.deliver(seconds=60)
        assert not ferry.letters(state=None)
    assert server.run("SELECT count(*) FROM events") == [(3000,)]
