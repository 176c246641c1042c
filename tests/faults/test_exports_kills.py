"""kill -9 of the daemon and of its workers while exports run: each ends complete, and half a file is never in sight."""

import json
import os
import random
import signal
import threading
import uuid

import pytest
from tests.builders import events
from tests.desks import ANA, ask, key, look
from tests.faults.stage import seed
from tests.pulling import Installation, installed

from eventferry.exports import requests
from eventferry.exports.model import ENDED, Output

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


def kill_something(site: Installation, chance: random.Random, *, spare_workers: bool) -> str:
    """Kill the daemon, or one of its workers, at a random moment of the next second."""
    threading.Event().wait(chance.uniform(0.05, 1.5))
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
    with installed(tmp_path, files, exports={"workers": 2, "queued_per_key": 1000}) as site:
        watcher = Watcher(site)
        rows, killed = [], {"daemon": 0, "worker": 0, "nobody": 0}
        while killed["daemon"] + killed["worker"] < KILLS:
            waiting = [row for row in rows if look(site.desk, row).state not in ENDED]
            for number in range(len(waiting), 3):  # there is always something at work
                rows.append(ask(site.desk, key(str(number)), output=FORMS[len(rows) % len(FORMS)]))
            # Who has killed its process five times is given up: that is another test's.
            spare = any(look(site.desk, row).kills >= 4 for row in waiting)
            killed[kill_something(site, chance, spare_workers=spare)] += 1
        done = [site.until(row, seconds=300) for row in rows]
        plain = [site.until(ask(site.desk, output=form), seconds=300) for form in FORMS]
        watcher.stop()
        digests = [[(each.name, each.sha256) for each in requests.files(site.desk, ANA, row.id)] for row in plain]
        with capsys.disabled():
            starts = sum(row.attempts for row in done)
            print(f"\n{len(done)} exports, {starts} starts, kills: {killed}, {watcher.looks:,} looks at folders")
        assert [(row.state, row.events, row.reason) for row in done] == [("complete", FILES * EVENTS, None)] * len(done)
        for number, row in enumerate(done):
            found = [(each.name, each.sha256) for each in requests.files(site.desk, ANA, row.id)]
            assert found == digests[number % len(FORMS)], row
        assert watcher.half == []
        assert watcher.looks > 0
        assert sum(row.attempts for row in done) > len(done), "no kill met an export"
        assert killed["worker"] >= 1 and killed["daemon"] >= 1
