"""The running daemon, from outside: alerts that reach people, edits that take effect, nothing in flight lost."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.builders import events, numbers, put, wait_until
from tests.receivers import PASSWORD, USER, Reply, http_receiver, mail_server

EVENTFERRY = Path(sys.executable).with_name("eventferry")


@contextmanager
def daemon(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`eventferry run`, asked to stop in the end; it must stop by itself."""
    with (config.parent / "log.txt").open("ab") as log:
        process = subprocess.Popen([EVENTFERRY, "--config", config, "run"], stderr=log, stdout=log)
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, (config.parent / "log.txt").read_text()[-2000:]
    finally:
        process.kill()
        process.wait()


def ask(config: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A command of the command line."""
    return subprocess.run(
        [EVENTFERRY, "--config", config, *command], capture_output=True, text=True, timeout=60, check=False
    )


def status(config: Path) -> Any:
    return json.loads(ask(config, "status", "--json").stdout)


def logged(home: Path, event: str) -> list[dict[str, Any]]:
    """The log lines of that event."""
    lines = (home / "log.txt").read_text().splitlines()
    return [line for line in (json.loads(each) for each in lines if each.startswith("{")) if line["event"] == event]


def delivered(home: Path) -> list[int]:
    return sorted(numbers(line for path in (home / "out").rglob("*.ndjson") for line in path.read_bytes().splitlines()))


BASE = """
state_dir = "{home}/state"
[log]
format = "json"
[execution]
processes = 1
[[sources]]
name = "game"
url = "{home}/store"
interval = "{interval}"
settle = "1s"
unreadable_after = "1s"
[[sinks]]
name = "files"
type = "file"
path = "{home}/out"
batch = {{max_wait = "0s"}}
"""

ALERTS = """
[[sinks]]
name = "bi"
type = "http"
url = "{bi}"
probe = "1s"
batch = {{max_wait = "0s"}}
[[alerts.channels]]
type = "slack"
url = "{slack}"
[[alerts.channels]]
type = "email"
host = "127.0.0.1"
port = {port}
security = "starttls"
ca_file = "{ca}"
username = "{user}"
password = "{password}"
from = "ferry@example.com"
to = ["ops@example.com"]
"""


def test_a_held_sink_and_a_quarantined_file_reach_people_once_and_so_does_the_recovery(tmp_path):
    """Slack and e-mail each get one message per cause and one when it is over, through real servers."""
    put(tmp_path / "store", "2026/01/02/03/good.gz", events(10))
    whole = put(tmp_path / "whole", "x.gz", events(1000)).read_bytes()
    put(tmp_path / "store", "2026/01/02/03/torn.gz", whole[: len(whole) // 2], packed=False)
    with http_receiver() as bi, http_receiver() as slack, mail_server(tmp_path) as mail:
        bi.reply = Reply(401, body=b"who are you")
        text = BASE.format(home=tmp_path, interval="1s") + ALERTS.format(
            bi=bi.url, slack=slack.url, port=mail.port, ca=mail.ca_file, user=USER, password=PASSWORD
        )
        config = tmp_path / "config.toml"
        config.write_text(text)
        config.chmod(0o640)
        with daemon(config):
            wait_until(lambda: len(slack.requests) >= 2 and len(mail.letters) >= 2, 40, "two messages in each channel")
            wait_until(lambda: delivered(tmp_path) == list(range(10)), 20, "the healthy sink's events")
            bi.reply = Reply(200)
            wait_until(lambda: len(slack.requests) >= 3 and len(mail.letters) >= 3, 40, "the sink's recovery")
            assert ask(config, "files", "drop", "--yes", "2026/01/02/03/torn.gz").returncode == 0
            wait_until(lambda: len(slack.requests) >= 4 and len(mail.letters) >= 4, 40, "the file's recovery")
        said = [request.json()["text"] for request in slack.requests]
        assert len(said) == 4, said
        assert sum("bi" in text and "held" in text for text in said[:2]) == 1
        assert sum("torn.gz" in text for text in said[:2]) == 1
        subjects = [letter["Subject"] for letter in mail.letters]
        assert len(subjects) == 4, subjects
        bodies = [letter.get_content() for letter in mail.letters]
        assert any("eventferry resume bi" in body for body in bodies[:2])
        assert any("eventferry files list" in body for body in bodies[:2])
        assert bi.requests[-1].body.count(b"\n") == 10


def test_an_edit_takes_effect_without_a_new_process(tmp_path):
    """A reload starts an added sink and moves the next run within 5 s in the same process; a broken edit is refused."""
    config = tmp_path / "config.toml"
    config.write_text(BASE.format(home=tmp_path, interval="10m"))
    put(tmp_path / "store", "2026/01/02/03/a.gz", events(10))
    with daemon(config) as process:
        wait_until(lambda: delivered(tmp_path) == list(range(10)), 30, "the first file")
        put(tmp_path / "store", "2026/01/02/03/b.gz", events(10, 10))
        begun = time.monotonic()
        more = f'[[sinks]]\nname = "copy"\ntype = "file"\npath = "{tmp_path}/copy"\nstart = "earliest"\n'
        config.write_text(BASE.format(home=tmp_path, interval="1s") + more)
        done = ask(config, "reload", "--wait")
        assert done.returncode == 0, done.stderr
        assert "sources.game.interval" in done.stdout + done.stderr
        wait_until(lambda: delivered(tmp_path) == list(range(20)), 5, "the next run, moved by the shorter interval")
        wait_until(lambda: len(list((tmp_path / "copy").rglob("*.ndjson"))) >= 1, 5, "the added sink's events")
        assert time.monotonic() - begun < 8

        config.write_text(BASE.format(home=tmp_path, interval="often"))
        refused = ask(config, "reload", "--wait")
        assert refused.returncode == 1
        assert "often" in refused.stderr
        os.kill(process.pid, signal.SIGHUP)
        wait_until(lambda: len(logged(tmp_path, "config.refused")) >= 2, 5, "the second refusal")
        put(tmp_path / "store", "2026/01/02/03/c.gz", events(10, 20))
        wait_until(lambda: delivered(tmp_path) == list(range(30)), 10, "deliveries under the old configuration")
        assert "often" in json.dumps(status(config))
        assert process.poll() is None


def test_without_a_sink_nothing_is_listed_until_one_is_added(tmp_path):
    """No sink: no run, no cursor, one line that says so; an edit and a reload start it."""
    config = tmp_path / "config.toml"
    alone = BASE.format(home=tmp_path, interval="1s").partition("[[sinks]]")[0]
    config.write_text(alone)
    put(tmp_path / "store", "2026/01/02/03/a.gz", events(10))
    with daemon(config):
        wait_until(lambda: logged(tmp_path, "service.started"), 20, "the start")
        (line,) = logged(tmp_path, "service.idle")
        assert "no sink is enabled" in line["reason"]
        config.write_text(BASE.format(home=tmp_path, interval="1s"))
        assert ask(config, "reload", "--wait").returncode == 0
        wait_until(lambda: delivered(tmp_path) == list(range(10)), 10, "the events")
    assert not [line for line in logged(tmp_path, "run.finished") if line["listed"] == 0]
