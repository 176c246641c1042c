"""One poisonous event among 100,000 on their way into MariaDB: the others arrive, and people learn which it was."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.builders import HOUR, Ferry, wait_until
from tests.mariadb_server import MariadbServer, mariadb_server

from eventferry_sinks.mysql.sink import MysqlSink

pytestmark = pytest.mark.servers

COUNT = 100_000
POISONS = {
    "long": (b'{"n":67890,"t":"SECRET' + b"'" * 700_000 + b'"}\n', "its max_allowed_packet is 1,048,576"),
    "deep": (b'{"n":67890,"t":"SECRET","a":' + b"[" * 40 + b"]" * 40 + b"}\n", "'shallow') (4025)"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariadbServer]:
    with mariadb_server(tmp_path_factory.mktemp("mariadb"), "--max-allowed-packet=1M") as running:
        running.ask("CREATE DATABASE analytics")
        yield running


@pytest.fixture
def ferry(server: MariadbServer, tmp_path: Path) -> Iterator[Ferry]:
    """A sink whose batches hold all events of the store, and a table that takes only what MariaDB can parse as JSON."""
    server.ask("DROP DATABASE analytics")
    server.ask("CREATE DATABASE analytics")
    ferry = Ferry(tmp_path)
    ferry.sinks["out"] = {
        "type": "mysql", "host": server.host, "port": server.port, "database": "analytics", "user": "root",
        "tls": "off", "create": True, "retry": {"first": "1ms", "max": "10ms"}, "probe": "30ms",
        "batch": {"max_events": COUNT, "max_bytes": "64MiB", "max_wait": "0s"},
    }  # fmt: skip
    yield ferry
    ferry.close()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The events of every call of `deliver`."""
    seen: list[int] = []
    deliver = MysqlSink.deliver

    def counted(sink: MysqlSink, batch):  # type: ignore[no-untyped-def]
        seen.append(batch.events)
        deliver(sink, batch)

    monkeypatch.setattr(MysqlSink, "deliver", counted)
    return seen


def put_events(ferry: Ferry, count: int, poison: bytes | None = None) -> None:
    lines = [b'{"n":%d}\n' % number for number in range(count)]
    if poison is not None:
        lines[67890] = poison
    ferry.put(f"{HOUR}/all.ndjson.gz", b"".join(lines))
    with ferry.open():
        ferry.index()


def make_table(server: MariadbServer, check: str) -> None:
    columns = "event LONGTEXT CHARACTER SET utf8mb4, batch_id CHAR(32), event_time DATETIME(6)"
    server.ask(f"CREATE TABLE events ({columns}, CONSTRAINT shallow CHECK ({check}))", database="analytics")


@pytest.mark.parametrize("kind", POISONS)
def test_all_but_one_arrive(server: MariadbServer, ferry: Ferry, calls: list[int], kind: str) -> None:
    """99,999 events arrive once, one dead letter says the sink's words and file:line, and the search was short."""
    poison, words = POISONS[kind]
    make_table(server, "JSON_VALID(event)")
    put_events(ferry, COUNT, poison)
    with ferry.open():
        ferry.deliver(seconds=60)
        (letter,) = ferry.letters()
        assert calls[0] == COUNT
        assert len(calls) <= 1 + 2 * math.log2(COUNT) + 2
        assert letter.place.endswith(f"{HOUR}/all.ndjson.gz:67891")
        assert words in letter.reason
        assert "SECRET" not in letter.reason
        assert letter.body == poison
        assert (ferry.book().delivered, ferry.book().dead) == (COUNT - 1, 1)
    numbers = "CAST(JSON_VALUE(event, '$.n') AS UNSIGNED)"
    find = f"SELECT COUNT(*), COUNT(DISTINCT {numbers}), SUM({numbers}) FROM events"
    assert server.ask(find, database="analytics") == [(COUNT - 1, COUNT - 1, COUNT * (COUNT - 1) // 2 - 67890)]


def test_a_wholly_wrong_table_holds_the_sink(server: MariadbServer, ferry: Ferry) -> None:
    """Where everything is refused, a person is asked; nothing becomes a dead letter, and a mended table is enough."""
    make_table(server, "event = 'nothing else'")
    put_events(ferry, 3000)
    with ferry.open():
        with ferry.working():
            wait_until(lambda: ferry.sink().state == "held", 60, "the hold")
        assert not ferry.letters(state=None)
        server.ask("ALTER TABLE events DROP CONSTRAINT shallow", database="analytics")
        ferry.do("resume", sink="out")
        ferry.deliver(seconds=60)
        assert not ferry.letters(state=None)
    assert server.ask("SELECT COUNT(*) FROM events", database="analytics") == [(3000,)]
