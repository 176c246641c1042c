"""kill -9 of daemon, workers and server while exports run: each ends complete, and no half file is ever to be had."""

import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import threading
import uuid

import pytest
import requests as http
from tests.builders import events, wait_until
from tests.desks import ANA, ask, key, look
from tests.faults.stage import seed
from tests.pulling import EVENTFERRY, Installation, installed

from eventferry.access import keys
from eventferry.exports import requests
from eventferry.exports.model import ENDED, Output
from eventferry.ledger.exports import ExportRow

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

KILLS = 30
FILES = 6
EVENTS = 10_000  # a file
FORMS = (Output("ndjson", "gzip"), Output("csv", part_bytes=4 * 1024 * 1024), Output("json"), Output("parquet"))


class Watcher:
    """Looks at the folder of exports all the time: a folder with an export's name must hold what its manifest says."""

    def __init__(self, site: Installation) -> None:
        self._folder = site.desk.folder
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.half: list[str] = []
        self.looks = 0
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(30)

    def _watch(self) -> None:
        while not self._over.is_set():
            for name in os.listdir(self._folder) if self._folder.exists() else ():
                self._look(name)
            self._over.wait(0.01)

    def _look(self, name: str) -> None:
        if name.startswith("."):
            return
        self.looks += 1
        uuid.UUID(name)
        try:
            manifest = json.loads((self._folder / name / "manifest.json").read_bytes())
            for each in manifest["files"]:
                if (self._folder / name / each["name"]).stat().st_size != each["bytes"]:
                    self.half.append(f"{name}/{each['name']} has another size than its manifest says")
        except (OSError, ValueError) as error:
            if (self._folder / name).exists():  # else it was removed as a whole just now
                self.half.append(f"{name}: {error}")


class Server:
    """`eventferry serve` beside the daemon, and somebody who tries all the time to download what is not ready yet."""

    def __init__(self, site: Installation, port: int, rows: list[ExportRow]) -> None:
        self._site, self._rows = site, rows
        self._url = f"http://127.0.0.1:{port}"
        with site.desk.ledger.write() as tx:
            _, self._token = keys.create_key(tx, name="thief", owner="thief", scopes=["exports"])
        self._over = threading.Event()
        self.wrong: list[str] = []
        self.answers = {"whole": 0, "refused": 0, "broken off": 0}
        self.start()
        self._thread = threading.Thread(target=self._grab, daemon=True)
        self._thread.start()

    def start(self) -> None:
        with (self._site.home / "server.txt").open("ab") as out:
            self._process = subprocess.Popen(
                [EVENTFERRY, "--config", self._site.config, "serve"], stderr=out, stdout=out
            )
        wait_until(self._is_up, 60, "the server")

    def _is_up(self) -> bool:
        try:
            return http.get(f"{self._url}/healthz", timeout=5).ok
        except http.RequestException:
            return False

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(60)
        self.kill()

    def _grab(self) -> None:
        chance = random.Random(1)
        while not self._over.wait(0.02):
            if self._rows:
                self._try(chance.choice(self._rows[-6:]))

    def _try(self, row: ExportRow) -> None:
        """Ask for a file under every name that it may get."""
        for name in (
            "manifest.json",
            "part-00001.ndjson.gz",
            "part-00001.csv",
            "part-00001.json",
            "part-00001.parquet",
        ):
            try:
                answer = http.get(
                    f"{self._url}/v1/exports/{row.id}/files/{name}",
                    headers={"Authorization": f"Bearer {self._token}", "Accept-Encoding": "identity"},
                    timeout=60,
                )
            except http.RequestException:  # killed meanwhile: the client sees that it has not got all
                self.answers["broken off"] += 1
                continue
            if answer.status_code != 200:
                self.answers["refused"] += 1
                continue
            self.answers["whole"] += 1
            known = {each.name: each.sha256 for each in requests.files(self._site.desk, ANA, row.id)}
            if look(self._site.desk, row).state != "complete":
                self.wrong.append(f"{row.id}/{name} was there before it was complete")
            elif name != "manifest.json" and known.get(name) != hashlib.sha256(answer.content).hexdigest():
                self.wrong.append(f"{row.id}/{name} is not what the ledger says")


def kill_something(site: Installation, server: Server, chance: random.Random, *, spare_workers: bool) -> str:
    """Kill the daemon, one of its workers or the server, at a random moment of the next second."""
    threading.Event().wait(chance.uniform(0.05, 1.5))
    if chance.random() < 0.3:
        server.kill()
        server.start()
        return "server"
    workers = [] if spare_workers else site.workers()
    if workers and chance.random() < 0.6:
        try:
            os.kill(chance.choice(workers), signal.SIGKILL)
        except ProcessLookupError:
            return "nobody"
        return "worker"
    site.kill()
    site.start()
    return "daemon"


def test_thirty_kills_leave_every_export_complete_with_the_right_bytes(tmp_path, capsys):
    """Whatever form; those that were never killed are the measure."""
    chance = random.Random(seed())
    files = {f"2026/01/01/00/{number}.ndjson.gz": events(EVENTS, number * EVENTS) for number in range(FILES)}
    with socket.create_server(("127.0.0.1", 0)) as free:
        api = {"port": free.getsockname()[1], "rate": 1_000_000}
    with installed(tmp_path, files, api=api, exports={"workers": 2, "queued_per_key": 1000}) as site:
        watcher, rows = Watcher(site), []
        server = Server(site, api["port"], rows)
        killed = {"daemon": 0, "worker": 0, "server": 0, "nobody": 0}
        while sum(killed.values()) - killed["nobody"] < KILLS:
            waiting = [row for row in rows if look(site.desk, row).state not in ENDED]
            for number in range(len(waiting), 3):  # there is always something at work
                rows.append(ask(site.desk, key(str(number)), output=FORMS[len(rows) % len(FORMS)]))
            # Who has killed its process five times is given up: that is another test's.
            spare = any(look(site.desk, row).kills >= 4 for row in waiting)
            killed[kill_something(site, server, chance, spare_workers=spare)] += 1
        done = [site.until(row, seconds=300) for row in rows]
        plain = [site.until(ask(site.desk, output=form), seconds=300) for form in FORMS]
        wait_until(lambda: server.answers["whole"], 60, "a download")
        watcher.stop()
        server.stop()
        digests = [[(each.name, each.sha256) for each in requests.files(site.desk, ANA, row.id)] for row in plain]
        with capsys.disabled():
            starts = sum(row.attempts for row in done)
            print(f"\n{len(done)} exports, {starts} starts, kills: {killed}, {watcher.looks:,} looks at folders")
            print(f"downloads: {server.answers}")
        assert [(row.state, row.events, row.reason) for row in done] == [("complete", FILES * EVENTS, None)] * len(done)
        for number, row in enumerate(done):
            found = [(each.name, each.sha256) for each in requests.files(site.desk, ANA, row.id)]
            assert found == digests[number % len(FORMS)], row
        assert watcher.half == []
        assert server.wrong == []
        assert server.answers["refused"] > 0, "nothing was asked for before it was ready"
        assert watcher.looks > 0
        assert sum(row.attempts for row in done) > len(done), "no kill met an export"
        assert min(killed[each] for each in ("daemon", "worker", "server")) >= 1
