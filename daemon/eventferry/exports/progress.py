"""How far an export is, told through a file in its work folder; and the wish that it stop, asked through another."""

import json
from pathlib import Path

from eventferry import clock

PROGRESS = "progress.json"
CANCEL = "cancel"
_SECONDS = 0.5  # between two tellings
_LOOK = 0.1  # between two looks for the wish to stop


class Stopped(Exception):
    """The export is not wanted any more."""


class Progress:
    """Counts raw bytes read against those to be read. What it tells only grows, over restarts, too."""

    def __init__(self, work: Path, total: int) -> None:
        self._work = work
        self._total = max(1, total)
        self._done = 0
        self._told_at = self._looked_at = float("-inf")
        self._told = self._left_by_the_one_before()

    def add(self, read_bytes: int) -> None:
        """So much more is done with. Raises Stopped."""
        self._done += read_bytes
        now = clock.monotonic()
        if now - self._looked_at >= _LOOK:
            self._looked_at = now
            if (self._work / CANCEL).exists():
                raise Stopped

    def tell(self, events: int, bytes_: int, *, is_over: bool = False) -> None:
        """Write down how far it is, unless that was done just now. Raises OSError."""
        now = clock.monotonic()
        if not is_over and now - self._told_at < _SECONDS:
            return
        self._told_at = now
        percent = 100 if is_over else min(99, self._done * 100 // self._total)
        self._told = (max(self._told[0], events), max(self._told[1], bytes_), max(self._told[2], percent))
        part = self._work / f".{PROGRESS}.part"
        part.write_text(json.dumps(dict(zip(("events", "bytes", "percent"), self._told, strict=True))))
        part.rename(self._work / PROGRESS)

    def _left_by_the_one_before(self) -> tuple[int, int, int]:
        try:
            found = json.loads((self._work / PROGRESS).read_bytes())
            return int(found["events"]), int(found["bytes"]), int(found["percent"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0, 0, 0
