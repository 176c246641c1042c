"""`eventferry run` with the pull side on, as a process that can be killed, and a desk beside it as a server has."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.builders import config_text, put, wait_until
from tests.desks import look

from eventferry import app
from eventferry.exports.desk import Desk
from eventferry.exports.model import ENDED
from eventferry.ledger import log
from eventferry.ledger.exports import ExportRow

EVENTFERRY = Path(sys.executable).with_name("eventferry")


class Installation:
    """A folder with a configuration, a store and a daemon; `desk` is there once the daemon is."""

    def __init__(self, home: Path, top: Mapping[str, Any]) -> None:
        self.home = home
        self.config = home / "config.toml"
        self.daemon: subprocess.Popen[bytes] | None = None
        self.desk: Desk
        self.write(**top)

    def write(self, **top: Any) -> None:
        """The configuration, with these tables."""
        source = {"url": str(self.home / "events"), "settle": "1s", "interval": "1s"}
        base = {"pull": {"enabled": True}, "execution": {"processes": 1}, "log": {"format": "json"}}
        self.config.write_text(config_text(self.home / "state", {"events": source}, {}, **{**base, **top}))

    def start(self) -> None:
        """Start the daemon; returns once it says that it works."""
        before = self._starts()
        with (self.home / "log.txt").open("ab") as out:
            self.daemon = subprocess.Popen([EVENTFERRY, "--config", self.config, "run"], stderr=out, stdout=out)
        wait_until(lambda: self._starts() > before, 60, "the start of the daemon")

    def _starts(self) -> int:
        path = self.home / "log.txt"
        return path.read_text().count('"event": "service.started"') if path.exists() else 0

    def open_desk(self, files: int = 1) -> Desk:
        """Wait until so many files are indexed, and open the ledger beside the daemon."""
        config = app.load_config(self.config)
        wait_until(lambda: Path(f"{app.ledger_path(config)}.used").exists(), 60, "the ledger")
        self.desk = app.build_desk(app.open_existing_ledger(config), config)
        wait_until(lambda: self._head() >= files, 60, "the index")
        return self.desk

    def _head(self) -> int:
        with self.desk.ledger.read() as tx:
            return log.head(tx)

    def kill(self) -> None:
        """kill -9; its workers end with it."""
        assert self.daemon is not None
        self.daemon.kill()
        self.daemon.wait()

    def stop(self) -> None:
        """Ask the daemon to stop; it must end by itself."""
        assert self.daemon is not None
        self.daemon.send_signal(signal.SIGTERM)
        assert self.daemon.wait(30) == 0, (self.home / "log.txt").read_text()[-2000:]

    def workers(self) -> list[int]:
        """The processes that the daemon has started."""
        assert self.daemon is not None
        found: list[int] = []
        for path in Path(f"/proc/{self.daemon.pid}/task").glob("*/children"):  # by the thread that started each
            with suppress(OSError):
                found += map(int, path.read_text().split())
        return [each for each in found if "spawn_main" in _command(each)]  # not what only tracks their resources

    def until(self, row: ExportRow, *states: str, seconds: float = 60) -> ExportRow:
        """Wait until the export has one of these states: an end, where none is given."""
        wait_until(lambda: look(self.desk, row).state in (states or ENDED), seconds, f"the end of {row.id}")
        return look(self.desk, row)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


@contextmanager
def installed(home: Path, events: Mapping[str, bytes], **top: Any) -> Iterator[Installation]:
    """An installation whose daemon is at work and has indexed these files."""
    site = Installation(home, top)
    for name, content in events.items():
        put(home / "events", name, content)
    site.start()
    try:
        site.open_desk(len(events))
        yield site
    finally:
        if site.daemon is not None:
            site.daemon.kill()
            site.daemon.wait()
        if hasattr(site, "desk"):
            site.desk.ledger.close()
