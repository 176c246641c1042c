"""Runs the installed command once on a source over a network, into files."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

from tests.builders import numbers

_CONFIG = """
state_dir = "{home}/state"
[execution]
processes = 0
[[sinks]]
name = "files"
type = "file"
path = "{home}/out"
[[sources]]
name = "raw"
{source}
"""


def pack(content: bytes) -> bytes:
    """As it lies in a store."""
    return gzip.compress(content)


def once(home: Path, source: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`eventferry once --drain` with this source; `source` is the rest of its table, and its tables."""
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(_CONFIG.format(home=home, source=source))
    command = [Path(sys.executable).with_name("eventferry"), "--config", home / "config.toml", "once", "--drain"]
    return subprocess.run(
        command,
        env={**os.environ, "NO_PROXY": "127.0.0.1", **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def delivered(home: Path) -> list[int]:
    """The numbers of the events that arrived, in the order of the files."""
    files = sorted((home / "out").rglob("*.ndjson"))
    return numbers(line for path in files for line in path.read_bytes().splitlines())
