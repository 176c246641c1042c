#!/opt/eventferry/venv/bin/python
"""Stands in for the daemon where a test is about the unit files alone: copies files, obeys signals, posts alerts."""

import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import requests

from eventferry import notify

CONFIG = Path("/etc/eventferry/config.toml")


def load() -> tuple[list[Path], list[Path]]:
    config = tomllib.loads(CONFIG.read_text())
    sources = [Path(source["url"].removeprefix("file://")) for source in config["sources"]]
    for sink in config["sinks"]:
        if sink["type"] != "file":
            raise ValueError(f"unknown sink type {sink['type']}")
    return sources, [Path(sink["path"]) for sink in config["sinks"]]


def run() -> int:
    waiting = {signal.SIGHUP, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, waiting)
    try:
        sources, sinks = load()
    except (KeyError, ValueError) as error:
        print(f"broken configuration: {error}", flush=True)
        return 78
    notify.ready("polling")
    while True:
        for source in sources:
            for file in source.glob("**/*.ndjson"):
                for sink in sinks:
                    sink.mkdir(parents=True, exist_ok=True)
                    (sink / file.name).write_bytes(file.read_bytes())
        notify.watchdog()
        caught = signal.sigtimedwait(waiting, 0.1)
        if caught and caught.si_signo == signal.SIGTERM:
            notify.stopping()
            return 0
        if caught:
            notify.reloading()
            sources, sinks = load()
            notify.ready("reloaded")


def reload() -> int:
    load()
    os.kill(int(os.environ["MAINPID"]), signal.SIGHUP)
    return 0


def alert(unit: str) -> int:
    lines = subprocess.run(
        ["journalctl", "--unit", unit, "--lines", "10", "--output", "cat"], capture_output=True, text=True, check=True
    ).stdout
    (url,) = re.findall(r'type = "slack"\s*url = "([^"]+)"', CONFIG.read_text())
    requests.post(url, json={"text": f"{unit} failed\n{lines}"}, timeout=5).raise_for_status()
    return 0


match sys.argv[1:]:
    case ["run", "--config", _]:
        sys.exit(run())
    case ["reload", "--wait"]:
        sys.exit(reload())
    case ["alert", "failure", unit]:
        sys.exit(alert(unit))
    case _:
        sys.exit(2)
