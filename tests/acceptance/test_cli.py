"""The installed program, from an empty directory to delivered events."""

import gzip
import json
import os
import signal
import subprocess
import sysconfig
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

EVENTFERRY = Path(sysconfig.get_path("scripts")) / "eventferry"
NOBODY = 65534
LONG_AGO = 1_706_700_000


def eventferry(*args: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("EVENTFERRY", "JOURNAL"))}
    return subprocess.run([EVENTFERRY, *args], capture_output=True, text=True, timeout=60, env=clean)


def await_true(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """Look again and again, until a deadline."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.1)):
        if condition():
            return
        pause.wait(0.1)
    raise AssertionError(f"not within {seconds} s: {what}")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with a store of two files and five events, and a place for a sink."""
    for hour, count in (("00", 2), ("01", 3)):
        path = tmp_path / "store" / "2024" / "01" / "31" / hour / "part.ndjson.gz"
        path.parent.mkdir(parents=True)
        lines = [json.dumps({"event_timestamp": LONG_AGO * 1000, "n": n}) for n in range(count)]
        path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))
        os.utime(path, (LONG_AGO, LONG_AGO))
    (tmp_path / "out").mkdir()
    return tmp_path


def fill_in(config: Path, home: Path) -> None:
    """What a person does between `init` and `check`: say where files are, and where events go."""
    text = config.read_text()
    assert f'state_dir = "{home}/state"' in text
    for old, new in ((f"{home}/state/delivered", home / "out"), ("/srv/events", home / "store")):
        assert old in text
        text = text.replace(old, str(new))
    config.write_text(text)


def test_from_nothing_to_delivered_events(home: Path) -> None:
    """init → check → once → status, each command saying what the next one is."""
    config = home / "config.toml"
    begun = eventferry("init", "--path", config)
    assert begun.returncode == 0, begun.stderr
    assert "check" in begun.stdout
    fill_in(config, home)

    checked = eventferry("check", "--config", config)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "2 files" in checked.stdout
    assert "once" in checked.stdout

    done = eventferry("--config", config, "once")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(len(path.read_bytes().splitlines()) for path in (home / "out").rglob("*.ndjson")) == 5

    found = json.loads(eventferry("status", "--json", "--config", config).stdout)
    assert [(each["name"], each["delivered"]) for each in found["sinks"]] == [("archive", 5)]
    assert found["balanced"]
    assert "\x1b" not in eventferry("status", "--config", config).stdout


def test_the_console_sink_has_standard_output_to_itself(home: Path) -> None:
    """`eventferry once | jq` sees events and nothing else."""
    config = home / "config.toml"
    config.write_text(
        f'state_dir = "{home}/state"\n[[sources]]\nname = "events"\nurl = "{home}/store"\n'
        '[[sinks]]\nname = "shown"\ntype = "console"\n'
    )
    done = eventferry("once", "--config", config)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["n"] for line in done.stdout.splitlines()] == [0, 1, 0, 1, 2]
    assert "Everything is delivered" in done.stderr


def test_the_daemon_runs_reloads_and_stops(home: Path) -> None:
    """`run` delivers; a second one is refused; reload tells what changed; SIGTERM ends it with 0."""
    config = home / "config.toml"
    assert eventferry("init", "--path", config).returncode == 0
    fill_in(config, home)
    log = (home / "log").open("wb")
    daemon = subprocess.Popen([EVENTFERRY, "run", "--config", config], stdout=log, stderr=log)
    try:
        await_true(lambda: len(list((home / "out").rglob("*.ndjson"))) > 0, "the first delivery")
        found = json.loads(eventferry("status", "--json", "--config", config).stdout)
        assert (found["daemon"]["state"], found["daemon"]["pid"]) == ("running", daemon.pid)
        assert eventferry("run", "--config", config).returncode == 75
        config.write_text(config.read_text().replace('name = "events"', 'name = "events"\ninterval = "5m"'))
        reloaded = eventferry("reload", "--config", config)
        assert reloaded.returncode == 0, reloaded.stderr
        assert "sources.events.interval: 10m → 5m" in reloaded.stdout
        config.write_text(config.read_text() + "x = [\n")
        refused = eventferry("reload", "--wait", "--config", config)
        assert refused.returncode == 1
        assert "is not TOML" in refused.stderr
        assert "not loaded" in eventferry("status", "--config", config).stdout
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(30) == 0
    finally:
        daemon.kill()
        daemon.wait()
        log.close()


def test_a_broken_configuration_does_not_start(home: Path) -> None:
    """Exit code 78, which the unit does not restart, with every mistake on standard error."""
    config = home / "config.toml"
    config.write_text("state_dir = 1\nsinks = 2\n")
    done = eventferry("run", "--config", config)
    assert done.returncode == 78
    assert "state_dir" in done.stderr
    assert "sinks" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_root_leaves_no_files_of_its_own_in_anothers_state(home: Path) -> None:
    """After a `sudo eventferry once` the service can still open its ledger."""
    config = home / "config.toml"
    state = home / "state"
    state.mkdir(mode=0o700)
    for path in (state, home / "out"):
        os.chown(path, NOBODY, NOBODY)
    for folder in [home, *home.parents]:
        if folder.stat().st_mode & 0o001 == 0:
            if folder.owner() != "root" or "pytest" not in str(folder):
                pytest.skip(f"{folder} is closed to others")
            folder.chmod(folder.stat().st_mode | 0o011)
    interpreter = Path(sysconfig.get_path("stdlib"))
    if any(folder.stat().st_mode & 0o001 == 0 for folder in [interpreter, *interpreter.parents]):
        pytest.skip(f"{interpreter} is closed to others")
    assert eventferry("init", "--path", config).returncode == 0
    fill_in(config, home)
    for command in ("check", "once", "status"):
        done = eventferry(command, "--config", config)
        assert done.returncode == 0, done.stdout + done.stderr
    files = [path for top in (state, home / "out") for path in top.rglob("*")]
    assert any(path.name == "ledger.db" for path in files)
    assert {path.stat().st_uid for path in files} == {NOBODY}
