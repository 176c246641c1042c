"""One poisonous event among 100,000 on their way into MariaDB: the others arrive, and people learn which it was."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.builders import Ferry
from tests.mariadb_server import MariadbServer, mariadb_server
from tests.poisons import OTHERS, calls_of, deliver_all_but_one, ferry_into, hold_until_mended

from eventferry_sinks.mysql.sink import MysqlSink

pytestmark = pytest.mark.servers

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
    server.ask("DROP DATABASE analytics")
    server.ask("CREATE DATABASE analytics")
    place = {"type": "mysql", "host": server.host, "port": server.port, "database": "analytics", "user": "root"}
    with ferry_into(tmp_path, **place, tls="off", probe="30ms") as ferry:
        yield ferry


def make_table(server: MariadbServer, check: str) -> None:
    columns = "event LONGTEXT CHARACTER SET utf8mb4, batch_id CHAR(32), event_time DATETIME(6)"
    server.ask(f"CREATE TABLE events ({columns}, CONSTRAINT shallow CHECK ({check}))", database="analytics")


@pytest.mark.parametrize("kind", POISONS)
def test_all_but_one_arrive(server: MariadbServer, ferry: Ferry, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """99,999 events arrive once, one dead letter says the sink's words and file:line, and the search was short."""
    poison, words = POISONS[kind]
    make_table(server, "JSON_VALID(event)")  # what MariaDB can parse
    assert words in deliver_all_but_one(ferry, calls_of(MysqlSink, monkeypatch), poison)
    numbers = "CAST(JSON_VALUE(event, '$.n') AS UNSIGNED)"
    find = f"SELECT COUNT(*), COUNT(DISTINCT {numbers}), SUM({numbers}) FROM events"
    assert server.ask(find, database="analytics") == [OTHERS]


def test_a_wholly_wrong_table_holds_the_sink(server: MariadbServer, ferry: Ferry) -> None:
    """Where everything is refused, a person is asked; nothing becomes a dead letter, and a mended table is enough."""
    make_table(server, "event = 'nothing else'")
    hold_until_mended(ferry, lambda: server.ask("ALTER TABLE events DROP CONSTRAINT shallow", database="analytics"))
    assert server.ask("SELECT COUNT(*) FROM events", database="analytics") == [(3000,)]
