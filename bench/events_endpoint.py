"""How soon the events endpoint answers for a day of 1,000,000 events, how fast it goes on, and what memory it holds.

    python bench/events_endpoint.py [EVENTS]

Writes one day of hourly files, indexes it with `eventferry once`, starts `eventferry serve` and asks it over loopback.
"""

import gzip
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx

from eventferry import app
from eventferry.access import keys

EVENTFERRY = Path(sys.executable).with_name("eventferry")
DAY_MS = 1_767_312_000_000  # 2026-01-02
CONFIG = """
state_dir = "{home}/state"
[pull]
enabled = true
[api]
port = {port}
[[sources]]
name = "game"
url = "{home}/store"
settle = "0s"
"""


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        _write_day(home / "store", count)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        config = home / "config.toml"
        config.write_text(CONFIG.format(home=home, port=port))
        config.chmod(0o600)
        subprocess.run([EVENTFERRY, "--config", config, "once", "--drain"], check=True, stdout=subprocess.DEVNULL)
        ledger = app.open_existing_ledger(app.load_config(config))
        with ledger.write() as tx:
            _, token = keys.create_key(tx, name="bench", owner="bench", scopes=["events"])
        ledger.close()
        server = subprocess.Popen([EVENTFERRY, "--config", config, "serve"], stderr=(home / "log").open("wb"))
        try:
            _measure(server.pid, f"http://127.0.0.1:{port}", token, count)
        except BaseException:
            print((home / "log").read_text()[-2000:])
            raise
        finally:
            server.terminate()
            server.wait(30)


def _write_day(store: Path, count: int) -> None:
    each = count // 24
    for hour in range(24):
        start = DAY_MS + hour * 3_600_000
        number = each if hour < 23 else count - 23 * each
        lines = (
            json.dumps({
                "event_type": "pageView", "event_timestamp": start + n * 3_600_000 // number, "n": hour * each + n,
                "attributes": {"url": f"https://example.com/page/{n % 997}", "title": "A page", "loggedIn": "false"},
                "metrics": {"elapsed": n % 60, "hour": hour}, "session": {"session_id": f"s{n % 5003}"},
                "endpoint": {"Demographic": {"Make": "Blink", "Platform": "windows"}, "Location": {"Country": "GB"}},
            })
            for n in range(number)
        )  # fmt: skip
        path = store / f"2026/01/02/{hour:02}/a.gz"
        path.parent.mkdir(parents=True)
        path.write_bytes(gzip.compress("\n".join(lines).encode() + b"\n", 1))


def _measure(pid: int, url: str, token: str, count: int) -> None:
    for _ in range(200):
        try:
            httpx.get(f"{url}/healthz")
            break
        except httpx.TransportError:
            time.sleep(0.05)
    print(f"{count:,} events; RSS of the idle server {_rss(pid)} MB")
    for format in ("json", "ndjson", "csv", "csv"):
        peak, stop = [0], threading.Event()

        def watch(peak: list[int] = peak, stop: threading.Event = stop) -> None:
            while not stop.wait(0.05):
                peak[0] = max(peak[0], _rss(pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        begun, size, first, headers = time.monotonic(), 0, 0.0, {"X-Api-Key": token, "Accept-Encoding": "identity"}
        query = f"{url}/v1/events/2026-01-02?format={format}"
        with httpx.stream("GET", query, headers=headers, timeout=600) as answer:
            assert answer.status_code == 200, answer.read()
            total = answer.headers.get("x-total")
            for piece in answer.iter_raw():
                first = first or time.monotonic() - begun
                size += len(piece)
        seconds = time.monotonic() - begun
        stop.set()
        watcher.join()
        print(
            f"{format:7} first byte {first:6.2f} s, all {seconds:6.1f} s, {size / 1e6 / seconds:6.0f} MB/s, "
            f"{size / 1e6:.0f} MB, X-Total {total}, peak RSS {peak[0]} MB"
        )


def _rss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS"))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
