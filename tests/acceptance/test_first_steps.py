"""The mistakes that a new user makes first, from outside."""

import os
import subprocess
import sys
from pathlib import Path

from tests.builders import event, put

EVENTFERRY = Path(sys.executable).with_name("eventferry")
CONFIG = """
state_dir = "{home}/state"
[[sources]]
name = "events"
url = "{home}/store"
settle = "1s"
{more}
[[sinks]]
name = "files"
type = "file"
path = "{home}/state/out"
"""


def ask(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [EVENTFERRY, *map(str, command)], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


def home(path: Path, more: str = "") -> Path:
    path.mkdir()
    config = path / "config.toml"
    config.write_text(CONFIG.format(home=path, more=more))
    return config


def test_the_configuration_that_is_named_wins_over_the_environment(tmp_path):
    """--config counts before and after the command, whatever the environment says."""
    one, other = home(tmp_path / "one"), home(tmp_path / "other")
    for command in (["--config", one, "status"], ["status", "--config", one]):
        assert str(one) in ask(*command, EVENTFERRY_CONFIG=str(other)).stdout
    assert str(other) in ask("status", EVENTFERRY_CONFIG=str(other)).stdout


def test_check_passes_on_a_fresh_configuration(tmp_path):
    """What the first run makes by itself is no mistake."""
    config = home(tmp_path / "one")
    put(tmp_path / "one" / "store", "2026/01/02/03/a.gz", event(1))
    done = ask("--config", config, "check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_pattern_that_fits_nothing_is_said_and_its_mending_too(tmp_path):
    """check fails and names the remedy; once it is followed the alert is over."""
    config = home(tmp_path / "one")
    put(tmp_path / "one" / "store", "a.gz", event(1))
    done = ask("--config", config, "check")
    assert done.returncode != 0
    assert 'key_pattern = ""' in done.stdout + done.stderr
    ask("--config", config, "once")
    assert "key_pattern" in ask("--config", config, "status").stdout
    config.write_text(CONFIG.format(home=tmp_path / "one", more='key_pattern = ""'))
    assert ask("--config", config, "once").returncode == 0
    assert "No open problems" in ask("--config", config, "status").stdout


def test_a_truncated_file_cannot_be_released(tmp_path):
    """Release is refused with what can be done instead, and the problem stays open."""
    config = home(tmp_path / "one", 'unreadable_after = "1s"')
    whole = put(tmp_path / "one" / "store", "2026/01/02/03/a.gz", b"".join(event(n) for n in range(500)))
    put(tmp_path / "one" / "store", "2026/01/02/03/a.gz", whole.read_bytes()[:-20], packed=False)
    ask("--config", config, "once")
    done = ask("--config", config, "files", "release", "2026/01/02/03/a.gz")
    assert done.returncode != 0
    assert "cannot be read to its end" in done.stdout + done.stderr
    assert "quarantined" in ask("--config", config, "status").stdout
