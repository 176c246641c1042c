"""`eventferry serve` as a process: ready, refusing, stopping."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
from tests.builders import wait_until
from tests.served import write_config
from tests.servers import free_ports

from eventferry import app

EVENTFERRY = Path(sys.executable).with_name("eventferry")


def serve(home, **environment):
    command = [EVENTFERRY, "--config", home / "config.toml", "serve"]
    with (home / "log.txt").open("ab") as log:
        return subprocess.Popen(command, stderr=log, stdout=log, env={**os.environ, **environment})


def test_it_tells_systemd_when_it_listens_and_stops_in_order(tmp_path):
    """READY=1 once the port answers; SIGTERM ends it with 0, and masks nothing but secrets in its log."""
    (port,) = free_ports(1)
    config = write_config(tmp_path, {"events": {}}, {"api": {"port": port, "dialects": []}, "log": {"format": "json"}})
    app.open_own_ledger(config).close()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(str(tmp_path / "notify"))
        notices.settimeout(30)
        process = serve(tmp_path, NOTIFY_SOCKET=str(tmp_path / "notify"))
        try:
            assert notices.recv(4096).startswith(b"READY=1\n")
            url = f"http://127.0.0.1:{port}"
            assert httpx.get(f"{url}/healthz").status_code == 200
            assert httpx.get(f"{url}/v1/exports?signature=SECRET1&api_key=SECRET2").status_code == 401
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
            assert notices.recv(4096).startswith(b"STOPPING=1")
        finally:
            process.kill()
            process.wait()
    said = (tmp_path / "log.txt").read_text()
    assert '"event": "request.answered"' in said
    assert "SECRET" not in said


def test_it_waits_for_the_daemon_to_make_the_ledger(tmp_path):
    """At boot both start at once: the server says what it waits for, and begins when the ledger is there."""
    (port,) = free_ports(1)
    config = write_config(tmp_path, {"events": {}}, {"api": {"port": port, "dialects": []}})
    process = serve(tmp_path)
    try:
        wait_until(lambda: "ledger.awaited" in (tmp_path / "log.txt").read_text(), 30, "the server's waiting")
        app.open_own_ledger(config).close()
        wait_until(lambda: is_up(port), 30, "the server's start")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def is_up(port):
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def test_it_refuses_where_the_pull_side_is_off_and_where_the_port_is_taken(tmp_path):
    """Exit 78 with what to change; 1 for the port, which may be free again at the next start."""
    config = write_config(tmp_path, {"events": {}}, {"pull": {"enabled": False}})
    off = subprocess.run([EVENTFERRY, "--config", tmp_path / "config.toml", "serve"], capture_output=True, text=True)
    assert (off.returncode, "pull.enabled" in off.stderr) == (78, True), off.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = write_config(tmp_path, {"events": {}}, {"api": {"port": taken.getsockname()[1]}})
        app.open_own_ledger(config).close()
        done = subprocess.run(
            [EVENTFERRY, "--config", tmp_path / "config.toml", "serve"], capture_output=True, text=True
        )
    assert (done.returncode, "api.port" in done.stderr) == (1, True), done.stderr
    taken = f"cannot listen on 127.0.0.1:{config.api.port}: address already in use"
    assert taken in " ".join(done.stderr.split())


def test_without_the_extra_it_says_how_to_install_it(tmp_path):
    """One sentence with the pip command, no traceback, and 78: another start would not help."""
    (tmp_path / "hide").mkdir()
    (tmp_path / "hide/sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'fastapi' else find(name, *a)\n"
    )
    write_config(tmp_path, {"events": {}}, {})
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "hide")}
    for command in ("openapi", "serve"):
        done = subprocess.run(
            [EVENTFERRY, "--config", tmp_path / "config.toml", command], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 78
        assert "pip install 'eventferry[api]'" in done.stderr
