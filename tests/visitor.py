"""A person at the console without a browser, and a console to visit without a daemon behind it."""

import html
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from tests.served import listening, write_config

from eventferry import app
from eventferry.access import keys
from eventferry.api.parts import Parts, build_parts
from eventferry.exports import requests
from eventferry.exports.model import Output, Selection
from eventferry.exports.wanted import Wanted
from eventferry.ledger import exports
from eventferry.ledger.exports import FileRow

_TOKEN = re.compile(r'name="token" value="([^"]+)"')


class Visitor:
    """Keeps cookies and sends forms with the token of the page that they are on."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=30, follow_redirects=False)

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path)

    def token(self, path: str) -> str:
        """What the forms of that page carry."""
        found = _TOKEN.findall(self.get(path).text)
        return str(html.unescape(found[-1]))

    def send(self, path: str, fields: Any = None, *, page: str | None = None, **how: Any) -> httpx.Response:
        """Send the form that stands on `page` (the address itself where not said)."""
        return self.client.post(path, data={"token": self.token(page or path), **(fields or {})}, **how)

    def sign_in(self, token: str, next: str = "") -> httpx.Response:
        return self.send("/console/sign-in", {"key": token, "next": next})


class Place:
    """A console over a ledger; no daemon works, so that exports stay as the test puts them."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.url = parts.config.api.base_url
        self.inside = f"http://127.0.0.1:{parts.config.api.port}"  # also where base_url is a proxy's

    def key(self, **more: Any) -> tuple[keys.Key, str]:
        with self.parts.ledger.write() as tx:
            return keys.create_key(tx, **{"name": "test", "owner": "ana", "scopes": ["exports"], **more})

    def revoke(self, key: keys.Key) -> None:
        with self.parts.ledger.write() as tx:
            assert keys.revoke_key(tx, key.id)

    def visitor(self, **more: Any) -> Visitor:
        """Somebody signed in with a new key."""
        someone = Visitor(self.inside)
        assert someone.sign_in(self.key(**more)[1]).status_code == 303
        return someone

    def make(self, key: keys.Key | None = None, **wanted: Any) -> str:
        """A queued export of that key; everybody's where none is given."""
        full = {"selection": Selection(), "output": Output("csv"), "dialect": "console", **wanted}
        return requests.create(self.parts.desk, key, Wanted(**full)).id

    def start(self, export_id: str, percent: int = 0) -> None:
        with self.parts.ledger.write() as tx:
            exports.start(tx, export_id)
            exports.note_progress(tx, export_id, events=percent, bytes_=percent, percent=percent)

    def fail(self, export_id: str, reason: str) -> None:
        with self.parts.ledger.write() as tx:
            exports.fail(tx, export_id, reason)

    def complete(self, export_id: str, files: dict[str, bytes]) -> None:
        """Ended, with these files."""
        folder = self.parts.desk.folder / export_id
        folder.mkdir(parents=True)
        rows = []
        for number, (name, content) in enumerate(files.items()):
            (folder / name).write_bytes(content)
            rows.append(FileRow(name, number, 1, len(content), "0" * 64))
        with self.parts.ledger.write() as tx:
            exports.start(tx, export_id)
            exports.complete(tx, export_id, rows, keep_ms=3_600_000)

    def row(self, export_id: str) -> exports.ExportRow:
        with self.parts.ledger.read() as tx:
            row = exports.get(tx, export_id)
        assert row is not None
        return row

    def rows(self) -> list[exports.ExportRow]:
        """Every export that is not deleted, newest first."""
        with self.parts.ledger.read() as tx:
            return exports.page(tx, None, limit=1000)


@contextmanager
def console(home: Path, *, failures: int = 1_000_000, **top: Any) -> Iterator[Place]:
    """A server with the console over a new ledger in `home`; `top`: tables of the configuration."""
    door = socket.create_server(("127.0.0.1", 0))
    sources = top.pop("sources", {"events": {}})
    top = {**top, "api": {"port": door.getsockname()[1], **top.get("api", {})}}
    config = write_config(home, sources, top)
    ledger = app.open_own_ledger(config)
    parts = build_parts(config, home / "config.toml")
    try:
        with listening(config, home / "config.toml", door, failures):
            yield Place(parts)
    finally:
        parts.ledger.close()
        ledger.close()
