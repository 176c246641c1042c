"""Starts what stands for ClickHouse: chdb behind tests/chdb_front.py, and the old server that Debian brings."""

import json
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from tests.servers import find_program, free_ports, missing, running

ROOT = Path(__file__).parent.parent
CHDB = ROOT / ".venv-chdb" / "bin" / "python"
PASSWORD = "pw-4711-secret"
_numbers = count()

_SERVER = """<yandex>
  <logger><level>information</level><console>1</console></logger>
  <http_port>{http}</http_port><tcp_port>{tcp}</tcp_port><listen_host>127.0.0.1</listen_host>
  <path>{folder}/data/</path><tmp_path>{folder}/tmp/</tmp_path><mark_cache_size>67108864</mark_cache_size>
  <users_config>{folder}/users.xml</users_config>
  <default_profile>default</default_profile><default_database>default</default_database>
</yandex>
"""
_USERS = """<yandex>
  <profiles><default/></profiles><quotas><default/></quotas>
  <users><default>
    <password>{password}</password><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota>
  </default></users>
</yandex>
"""


@dataclass(frozen=True)
class ClickhouseServer:
    """A running server; its user `default` has PASSWORD."""

    url: str

    @property
    def port(self) -> int:
        return int(self.url.rstrip("/").rpartition(":")[2])

    def options(self, **more: Any) -> dict[str, Any]:
        """What a sink needs to reach it."""
        return {"url": self.url, "user": "default", "password": PASSWORD, **more}

    def run(self, statement: str) -> bytes:
        """What a statement answers. Raises RuntimeError with the server's words."""
        request = urllib.request.Request(self.url, statement.encode(), method="POST")
        request.add_header("Authorization", basic())
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise RuntimeError(error.read().decode()) from None

    def rows(self, select: str) -> list[list[Any]]:
        """The rows of a SELECT."""
        return list(json.loads(self.run(f"{select} FORMAT JSONCompact"))["data"])

    def make_table(self, columns: str = "", rest: str = "", engine: str = "MergeTree ORDER BY tuple()") -> str:
        """A new, empty table; what `columns` does not name is as the sink would make it."""
        name = f"events_{next(_numbers)}"
        usual = "event_time Nullable(DateTime64(6, 'UTC')), event_type Nullable(String)"
        self.run(f"CREATE TABLE {name} ({columns or usual}, event String, batch_id String) ENGINE = {engine} {rest}")
        return name

    def events(self, table: str) -> list[bytes]:
        """The events of a table in the order in which they were inserted, where nothing sorts or merges it."""
        if not self.rows(f"SELECT name FROM system.tables WHERE name = '{table}' AND database = 'default'"):
            return []
        # By the parts' numbers, as they came; within a part as they stand.
        numbered = f"SELECT event, {_PART} AS part, rowNumberInAllBlocks() AS place FROM {table}"
        rows = self.rows(f"SELECT event FROM ({numbered}) ORDER BY part, place SETTINGS max_threads = 1")
        return [event.encode() for (event,) in rows]

    def keys(self, table: str) -> list[str]:
        """The batches of a table."""
        return [key for (key,) in self.rows(f"SELECT DISTINCT batch_id FROM {table}")]


_PART = "toUInt64(splitByChar('_', _part)[2])"


def basic() -> str:
    import base64

    return "Basic " + base64.b64encode(f"default:{PASSWORD}".encode()).decode()


@contextmanager
def chdb_server() -> Iterator[ClickhouseServer]:
    """The engine of today behind an HTTP front of the tests."""
    if not CHDB.exists():
        missing(f"{CHDB} is missing", "make .venv-chdb/installed")
    command = [str(CHDB), str(ROOT / "tests" / "chdb_front.py"), "--password", PASSWORD]
    with running(command, ready=r"listening on (http://\S+)") as url:
        yield ClickhouseServer(url)


@contextmanager
def debian_server() -> Iterator[ClickhouseServer]:
    """ClickHouse 18.16 of Debian: a real server, older than deduplication tokens."""
    program = find_program("clickhouse-server", "apt install clickhouse-server")
    with tempfile.TemporaryDirectory(prefix="clickhouse-") as folder:
        ports = free_ports(2)
        for name in ("data", "tmp"):
            (Path(folder) / name).mkdir()
        (Path(folder) / "config.xml").write_text(_SERVER.format(folder=folder, http=ports[0], tcp=ports[1]))
        (Path(folder) / "users.xml").write_text(_USERS.format(password=PASSWORD))
        with running([program, f"--config-file={folder}/config.xml"], ready=r"(Ready for connections)"):
            yield ClickhouseServer(f"http://127.0.0.1:{ports[0]}/")
