"""Fixtures around a real systemd: the machine, a receiver of Slack posts, and an installed service."""

import json
import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.systemd.realsystemd import CHECKOUT, RealSystemd, require


@pytest.fixture
def machine() -> Iterator[RealSystemd]:
    """A freshly booted systemd with the units and the account installed, nothing configured or started."""
    require()
    with RealSystemd() as booted:
        install_units(booted)
        yield booted


def install_units(machine: RealSystemd) -> None:
    """What systemd/README.md tells an operator to do, up to the start."""
    for command in documented_commands("## Install"):
        if "config.toml" not in command and "enable" not in command:
            machine.run("sh", "-ec", f"cd /opt/eventferry/src; {command}")


def documented_commands(heading: str) -> list[str]:
    """The lines of the first shell block below a heading of systemd/README.md."""
    section = (CHECKOUT / "systemd" / "README.md").read_text().partition(heading)[2]
    return section.partition("```sh\n")[2].partition("```")[0].replace("\\\n", " ").splitlines()


def configure(machine: RealSystemd, text: str) -> None:
    """Write config.toml as an operator would: root's, readable for the service."""
    machine.write("/etc/eventferry/config.toml", text, mode=0o640, owner="root:eventferry")


class SlackReceiver:
    """A local incoming-webhook: keeps what was posted, answers like Slack."""

    def __init__(self) -> None:
        self.posts: queue.Queue[dict[str, Any]] = queue.Queue()
        posts = self.posts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                posts.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/T000/B000/xyz"


@pytest.fixture
def slack() -> Iterator[SlackReceiver]:
    """A Slack-format receiver on loopback, which the machine shares with the host."""
    receiver = SlackReceiver()
    thread = threading.Thread(target=receiver.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()
    thread.join(5)


@pytest.fixture
def stubbed(machine: RealSystemd) -> RealSystemd:
    """The machine with a stand-in for the daemon, for tests that are about the unit files alone."""
    stub = Path(__file__).with_name("stub_daemon.py").read_text()
    machine.write("/opt/eventferry/venv/bin/eventferry", stub, mode=0o755)
    return machine
