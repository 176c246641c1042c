"""The pull side at work: a daemon over a store, and the server in front of it, over real HTTP on loopback."""

import json
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from tests.builders import config_text, put, wait_until

from eventferry import app
from eventferry.access import keys
from eventferry.access.rate import Failures
from eventferry.api.parts import build_parts
from eventferry.api.running import settings_of
from eventferry.api.server import make_server
from eventferry.config import Config
from eventferry.console import SURFACE as CONSOLE
from eventferry.ledger import books
from eventferry.query import Scope
from eventferry.service import Service


class Site:
    """One installation that answers requests. `get`, `post` … take `token=` for a Bearer key, else what httpx takes."""

    def __init__(self, home: Path, config: Config, service: Service, url: str) -> None:
        self.home = home
        self.config = config
        self.service = service
        self.url = url
        self.ledger = service._ledger
        self.client = httpx.Client(base_url=url, timeout=30, follow_redirects=False)

    def key(
        self,
        *,
        scopes: Iterable[str] = ("events", "exports"),
        tenants: Iterable[str] | None = None,
        projects: Iterable[str] | None = None,
        collections: Iterable[str] | None = None,
        **more: Any,
    ) -> str:
        """A new key's token; `more` goes to keys.create_key: name, owner, filter, expires_ms."""
        realm = Scope(*(None if each is None else tuple(each) for each in (tenants, projects, collections)))
        with self.ledger.write() as tx:
            _, token = keys.create_key(tx, scopes=scopes, realm=realm, **{"name": "test", "owner": "ana", **more})
        return token

    def revoke(self, token: str) -> None:
        """The key opens nothing any more."""
        with self.ledger.write() as tx:
            assert keys.revoke_key(tx, keys.find_keys(tx, token)[0].id)

    def request(self, method: str, path: str, *, token: str | None = None, **how: Any) -> httpx.Response:
        """One request."""
        headers = dict(how.pop("headers", None) or {})
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return self.client.request(method, path, headers=headers, **how)

    def get(self, path: str, **how: Any) -> httpx.Response:
        return self.request("GET", path, **how)

    def post(self, path: str, **how: Any) -> httpx.Response:
        return self.request("POST", path, **how)

    def put(self, path: str, **how: Any) -> httpx.Response:
        return self.request("PUT", path, **how)

    def delete(self, path: str, **how: Any) -> httpx.Response:
        return self.request("DELETE", path, **how)

    def finished(self, export_id: str, *, token: str, seconds: float = 30) -> dict[str, Any]:
        """The export in the native form, once it has ended."""
        shown: dict[str, Any] = {}
        pause = threading.Event()

        def has_ended() -> bool:
            shown.update(self.get(f"/v1/exports/{export_id}", token=token).json())
            pause.wait(0.03)  # each look is a request
            return shown["state"] not in ("queued", "running")

        wait_until(has_ended, seconds, f"the end of export {export_id}")
        return shown


@contextmanager
def served(
    home: Path,
    *,
    events: bytes | Mapping[str, bytes] = b"",
    sources: Mapping[str, Mapping[str, Any]] | None = None,
    failures: int = 1_000_000,
    **top: Any,
) -> Iterator[Site]:
    """A daemon and a server, in threads of this process, over `home`.

    `events`: NDJSON for one file, or the content of each key, below `home/"events"`, the source `events`; indexed when
    the block begins. `sources`: more settings of sources by name, each over `home/NAME`. `failures`: invalid keys
    from one address a minute. `top`: tables of the configuration, such as `api={"rate": 5}`, `exports={…}`.
    """
    files = {"2026/01/02/03/a.gz": events} if isinstance(events, bytes) else events
    for key, content in files.items():
        if content:
            put(home / "events", key, content)
    door = _open_door()
    top = {**top, "api": {"port": door.getsockname()[1], "rate": 1_000_000, **top.get("api", {})}}
    config = write_config(home, sources or {"events": {}}, top)
    ledger = app.open_own_ledger(config)
    service = Service(config, home / "config.toml", ledger)
    service.start()
    try:
        if any(files.values()):
            wait_until(lambda: _indexed(service) >= len(files), 30, "the indexing of the store")
        with listening(config, home / "config.toml", door, failures):
            site = Site(home, config, service, config.api.base_url)
            yield site
            site.client.close()
    finally:
        service.stop()
        ledger.close()


def write_config(home: Path, sources: Mapping[str, Mapping[str, Any]], top: Mapping[str, Any]) -> Config:
    """The configuration of such an installation, written to home/config.toml."""
    tables: dict[str, Any] = {
        "execution": {"processes": 0},
        "pull": {"enabled": True},
        "service": {"requests_every": "200ms", "stop_timeout": "5s"},
        **top,
    }
    full = {
        name: {"url": str(home / name), "interval": "1s", "settle": "0s", **settings}
        for name, settings in sources.items()
    }
    for name in full:
        (home / name).mkdir(parents=True, exist_ok=True)
    path = home / "config.toml"
    path.write_text(config_text(home / "state", full, {}, **tables))
    path.chmod(0o600)
    return app.load_config(path)


def _open_door() -> socket.socket:
    # With the protocol named, as the server itself opens it: else asyncio leaves Nagle on, and each answer costs 40 ms.
    door = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    door.bind(("127.0.0.1", 0))
    door.listen(128)
    return door


@contextmanager
def listening(config: Config, path: Path, door: socket.socket, failures: int = 1_000_000) -> Iterator[None]:
    """The server alone, in a thread, on a socket that is open already."""
    # Tests present many bad keys, all from one address.
    parts = replace(build_parts(config, path), failures=Failures(failures))
    # Made-up requests have longer heads than the server takes (running.HEAD_BYTES), which would only test that.
    settings = settings_of(make_server(parts, [CONSOLE]), config)
    settings.h11_max_incomplete_event_size = 2 * 1024 * 1024
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run, args=([door],), name="server", daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), 20, "the server's start")
        yield
    finally:
        server.should_exit = True
        thread.join(20)
        parts.ledger.close()
        door.close()


def lines(response: httpx.Response) -> list[Any]:
    """The events of an NDJSON answer."""
    return [json.loads(line) for line in response.content.splitlines()]


def _indexed(service: Service) -> int:
    """Files that are wholly in the log."""
    with service._ledger.read() as tx:
        return sum(each.states.get("indexed", 0) for each in books.source_books(tx))
