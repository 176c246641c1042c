"""What scans found, kept in small files so that the same bytes are scanned once: a folder shared by all processes."""

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eventferry import clock

MAX_BYTES = 256 * 1024 * 1024
MAX_AGE_MS = 30 * 24 * 3600 * 1000
FOLDER = ("cache", "surveys")  # below the state directory


class ScanCache:
    """Findings by a digest of what was scanned and how. Losing any of it costs a scan; nothing here raises OSError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> Any:
        """The finding under the key; None where there is none, or none that can be read."""
        path = self._path(key)
        try:
            found = json.loads(path.read_bytes())
            os.utime(path)  # what is used stays
        except (OSError, ValueError):
            return None
        return found

    def put(self, key: str, finding: Any) -> None:
        """Keep a finding, which JSON can hold; the last of several writers wins, readers see none or all of it."""
        path = self._path(key)
        part = path.with_name(f".{key}.{uuid.uuid4().hex}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            part.write_text(json.dumps(finding, separators=(",", ":")))
            part.rename(path)
        except OSError:  # a full disk: the next one scans again
            with contextlib.suppress(OSError):
                part.unlink()

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.json"


def key_of(*what: object) -> str:
    """The key of a finding: a digest of all that it depends on, given as what JSON can hold."""
    return hashlib.sha256(json.dumps(what, separators=(",", ":")).encode()).hexdigest()


def prune_scans(folder: Path, max_bytes: int = MAX_BYTES, max_age_ms: int = MAX_AGE_MS) -> int:
    """Remove what was not used for long, then the least recently used beyond `max_bytes`; returns how many files."""
    found = sorted(_files(folder), reverse=True)  # the last used first
    kept = removed = 0
    for used_ms, size, path in found:
        if used_ms >= clock.now_ms() - max_age_ms and kept + size <= max_bytes:
            kept += size
            continue
        with contextlib.suppress(OSError):
            path.unlink()
            removed += 1
    return removed


def _files(folder: Path) -> Sequence[tuple[int, int, Path]]:
    found = []
    for path in folder.glob("*/*"):
        with contextlib.suppress(OSError):  # another process removed it
            status = path.stat()
            found.append((status.st_mtime_ns // 1_000_000, status.st_size, path))
    return found
