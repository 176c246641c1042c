"""Disks that are full, limited, broken or locked: it says so, loses nothing, and goes on when the trouble ends."""

import contextlib
import os
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest
from tests.faults.stage import Stage, seed, wait_until
from tests.servers import find_program

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

SMALL = {"batch": {"max_events": 50, "max_wait": "0s"}, "retry": {"first": "10ms", "max": "200ms"}}


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path, seed())
    yield stage
    stage.close()


def need(condition, what):
    """Skip on somebody's laptop, fail where everything is supposed to be there."""
    if not condition:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(what)


@contextlib.contextmanager
def small_disk(folder, kilobytes):
    """A file system of that size at `folder`; yields what makes it larger."""
    need(os.geteuid() == 0 and shutil.which("mount"), "needs root to mount a small file system")
    size = f"size={kilobytes}k"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", folder], capture_output=True, text=True)
    need(done.returncode == 0, f"cannot mount here: {done.stderr}")
    try:
        yield lambda: subprocess.run(["mount", "-o", "remount,size=256m", folder], check=True)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder):
    """Leave no free block."""
    with contextlib.suppress(OSError), (folder / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))


def file_sink(stage, **more):
    return {"type": "file", "path": str(stage.out), **SMALL, **more}


def assert_exact(stage):
    found = stage.count()["file"]
    assert not any(found[key] for key in ("missing", "duplicates", "foreign", "disorder")), found
    with contextlib.closing(sqlite3.connect(stage.ledger)) as ledger:
        assert ledger.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def wait_delivered(stage, seconds=30):
    wait_until(lambda: stage.filed_events() >= stage.events, "all is delivered", seconds)
    wait_until(stage.has_nothing_left, "all is recorded", seconds)


def test_a_full_disk_under_a_sink_holds_the_batch_back(stage):
    """No half file, no lost event, a message that names the disk; when there is space again it goes on by itself."""
    with small_disk(stage.out, 256) as grow:
        stage.configure({"file": file_sink(stage)})
        with stage.running() as daemon:
            stage.add_files(10, 400)
            wait_until(lambda: daemon.events()["batch.postponed"] >= 3, "the sink complains")
            assert "the disk is full" in daemon.log.read_text()
            assert all(path.read_bytes().count(b"\n") == 50 for path in stage.delivered_files())
            grow()
            wait_delivered(stage)
        assert_exact(stage)


def test_a_full_disk_under_the_ledger_changes_nothing(tmp_path):
    """What cannot be written down does not happen: a clear error, no restart, and on it goes when there is space."""
    state = tmp_path / "ledger-disk"
    state.mkdir()
    with small_disk(state, 2048) as grow:
        stage = Stage(tmp_path, seed(), state=state)
        try:
            stage.configure({"file": file_sink(stage)})
            with stage.running() as daemon:
                stage.add_files(3, 400)
                wait_delivered(stage)
                fill(state)
                stage.add_files(20, 400)
                wait_until(lambda: "full" in daemon.log.read_text(), "the error is told")
                assert daemon.is_alive
                before = len(stage.delivered_files())
                assert before <= len(stage.ask("SELECT 1 FROM batches")), "sent without being written down"
                (state / "ballast").unlink()
                grow()
                wait_delivered(stage)
                assert daemon.events()["service.started"] == 1
            assert_exact(stage)
        finally:
            stage.close()


def test_a_limit_on_the_size_of_files_changes_nothing(stage):
    """With RLIMIT_FSIZE in the way of the ledger nothing is lost; without it the next start delivers everything."""
    stage.configure({"file": file_sink(stage)})
    with stage.running():
        stage.add_files(2, 400)
        wait_delivered(stage)
    size = max(path.stat().st_size for path in stage.state.iterdir())
    daemon = stage.start()
    daemon.wait_started()
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (size // 4096 * 4096, resource.RLIM_INFINITY))
    stage.add_files(20, 400)
    wait_until(lambda: '"level": "error"' in daemon.log.read_text(), "the error is told")
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    if not daemon.is_alive:
        daemon = stage.start()
    wait_delivered(stage)
    assert daemon.stop() == 0
    assert_exact(stage)


@pytest.mark.parametrize("seconds", [1, pytest.param(30, marks=pytest.mark.slow)])
def test_a_ledger_locked_by_another_process_is_waited_for(seconds, stage):
    """A foreign lock delays; nothing is lost, nothing doubled, the daemon stays."""
    stage.configure({"file": file_sink(stage)})
    with stage.running() as daemon:
        stage.add_files(2, 400)
        wait_delivered(stage)
        with locked_elsewhere(stage.ledger):
            stage.add_files(4, 400)
            before = stage.filed_events()
            threading.Event().wait(seconds)
            assert stage.filed_events() <= before + 50, "batches went out that were not written down"
        wait_delivered(stage)
        assert daemon.events()["service.started"] == 1
        if seconds < 10:
            assert not [each for each in daemon.said() if each["level"] in ("error", "critical")]
    assert_exact(stage)


@contextlib.contextmanager
def locked_elsewhere(ledger):
    """Another process holds the ledger's write lock."""
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('PRAGMA wal_autocheckpoint=0'); c.execute('BEGIN IMMEDIATE'); print('locked', flush=True);"
        "sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, ledger], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "locked\n"
        yield
    finally:
        holder.communicate("")


def start_with_failing(call, when, stage):
    """A daemon whose disk answers this system call with EIO at these times."""
    strace = find_program("strace", "apt-get install strace")
    stage.configure({"file": file_sink(stage)}, execution={"processes": 0})
    stage.add_files(4, 400)
    inject = ["-e", f"trace={call}", "-e", f"inject={call}:error=EIO:when={when}"]
    return stage.start(strace, "-f", "-qq", "-o", os.devnull, *inject)


def test_a_sync_that_fails_under_a_sink_is_never_taken_for_a_delivery(stage):
    """EIO from the sync of the sink's files, again and again: it is told, and what was not durable is sent again."""
    daemon = start_with_failing("fsync", "30+15", stage)
    wait_until(lambda: re.search("Input/output error", daemon.log.read_text()), "the failure is told")
    stage.add_files(2, 400)
    wait_until(stage.has_nothing_left, "it goes on", 60)
    os.kill(int((stage.state / "eventferry.lock").read_text()), signal.SIGTERM)  # not strace
    daemon.process.wait(15)
    with stage.running():
        wait_delivered(stage)
    assert_exact(stage)


def test_a_sync_that_fails_under_the_ledger_ends_the_process(stage):
    """One EIO from the ledger's sync: no second try of it, an exit that systemd restarts, and the next one goes on."""
    daemon = start_with_failing("fdatasync", "30", stage)
    assert daemon.process.wait(60) == 74
    assert daemon.events()["ledger.broken"] == 1
    (said,) = [each for each in daemon.said() if each["event"] == "ledger.broken"]
    assert (said["level"], "disk I/O error" in said["error"]) == ("critical", True)
    with stage.running():
        wait_delivered(stage)
    assert_exact(stage)
