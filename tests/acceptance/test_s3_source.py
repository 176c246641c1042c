"""A source on a real S3-compatible server, through the installed command to files."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

from tests.builders import events, numbers, put
from tests.servers import s3_server

CONFIG = """
state_dir = "{home}/state"
[execution]
processes = 1
[[sources]]
name = "raw"
url = "s3://raw/events"
settle = "1s"
[sources.s3]
endpoint = "{endpoint}"
access_key = "{key}"
secret_key = "${{env:S3_SECRET}}"
[[sinks]]
name = "files"
type = "file"
path = "{home}/out"
"""


def _once(home: Path, secret: str) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("eventferry"), "--config", home / "config.toml", "once", "--drain"]
    environment = {**os.environ, "S3_SECRET": secret, "NO_PROXY": "127.0.0.1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)


def _delivered(home: Path) -> list[int]:
    files = sorted((home / "out").rglob("*.ndjson"))
    return numbers(line for path in files for line in path.read_bytes().splitlines())


def test_events_of_a_bucket_arrive_once_and_new_ones_follow(tmp_path):
    """Objects of a bucket are delivered; the next run takes only what came since; a wrong secret loses nothing."""
    bucket = tmp_path / "s3" / "raw" / "events"
    put(bucket, "2026/01/02/03/a.gz", events(1000))
    put(
        bucket,
        "2026/01/02/04/b c+d%.gz",
        gzip.compress(events(500, 1000)) + gzip.compress(events(10, 1500)),
        packed=False,
    )
    put(bucket, "2026/01/02/04/notes.txt~", b"", packed=False)
    put(bucket, "errors/2026/01/02/x.gz", b"not ours")
    with s3_server(tmp_path / "s3") as server:
        (tmp_path / "config.toml").write_text(
            CONFIG.format(home=tmp_path, endpoint=server.endpoint, key=server.access_key)
        )
        first = _once(tmp_path, server.secret_key)
        assert first.returncode == 0, first.stdout + first.stderr
        assert sorted(_delivered(tmp_path)) == list(range(1510))

        refused = _once(tmp_path, "wrong-secret-0815")
        assert refused.returncode != 0
        assert "wrong-secret-0815" not in refused.stdout + refused.stderr

        put(bucket, "2026/01/02/04/c.gz", events(5, 1510))
        second = _once(tmp_path, server.secret_key)
        assert second.returncode == 0, second.stdout + second.stderr
        assert sorted(_delivered(tmp_path)) == list(range(1515))
