"""The shipped service under a real systemd: ready, delivers, reloads, survives kill and hang, tells of a bad start."""

import os
import signal
from collections.abc import Callable

import pytest
from tests.systemd.conftest import SlackReceiver, configure
from tests.systemd.realsystemd import RealSystemd, wait_for

pytestmark = pytest.mark.systemd

UNIT = "eventferry.service"
ALERT = "eventferry-alert@eventferry.service"
STORE = "/srv/events"
DELIVERED = "/var/lib/eventferry/delivered"


def config(*, slack_url: str, sink_type: str = "file", path: str = DELIVERED) -> str:
    """A directory store polled every second, one sink, one alert channel."""
    return f"""\
state_dir = "/var/lib/eventferry"

[[sources]]
name = "game"
url = "{STORE}"
key_pattern = ""
interval = "1s"
settle = "0s"

[[sinks]]
name = "files"
type = "{sink_type}"
path = "{path}"

[[alerts.channels]]
type = "slack"
url = "{slack_url}"
"""


def put(machine: RealSystemd, name: str, *numbers: int) -> None:
    """Land a file of events in the store as a writer should: complete, then renamed to its name."""
    lines = "".join(f'{{"event_timestamp":{1_700_000_000_000 + number},"n":{number}}}\n' for number in numbers)
    written = machine.write(f"{STORE}/.{name}.writing", lines)
    written.rename(written.with_name(name))


def delivered(machine: RealSystemd, *numbers: int, path: str = DELIVERED) -> Callable[[], bool]:
    """Whether exactly these events, each once, lie in the sink's files."""

    def found() -> bool:
        files = [file for file in machine.path(path).glob("**/*.ndjson") if not file.name.startswith(".")]
        lines = sorted(line for file in files for line in file.read_text().splitlines())
        return lines == sorted(f'{{"event_timestamp":{1_700_000_000_000 + n},"n":{n}}}' for n in numbers)

    return found


def start(machine: RealSystemd, text: str) -> int:
    """Configure, start, and return the main process once systemd holds the service for ready."""
    configure(machine, text)
    machine.path(STORE).mkdir(parents=True, exist_ok=True)
    done = machine.run("systemctl", "start", UNIT, check=False)
    assert done.returncode == 0, machine.journal(UNIT)
    assert machine.show(UNIT, "ActiveState") == "active"
    return machine.main_pid(UNIT)


def wait(machine: RealSystemd, probe: Callable[[], object], what: str) -> None:
    """Wait for an outcome; a failure shows the service's journal."""
    try:
        wait_for(probe, what, 40)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{machine.journal(UNIT)}") from error


def kill(machine: RealSystemd, pid: int, number: signal.Signals) -> None:
    """Send a signal to a process as numbered inside."""
    machine.run("kill", f"-{number.value}", str(pid))


def restarted(machine: RealSystemd, old: int) -> Callable[[], bool]:
    """Whether another main process than `old` is ready."""
    return lambda: machine.show(UNIT, "ActiveState") == "active" and machine.main_pid(UNIT) not in (0, old)


def test_it_becomes_ready_and_delivers(machine: RealSystemd, slack: SlackReceiver) -> None:
    """Started by systemd the service says it is ready and how it is doing, delivers, and stops cleanly."""
    put(machine, "a.ndjson", 1, 2, 3)
    start(machine, config(slack_url=slack.url))
    wait(machine, delivered(machine, 1, 2, 3), "three events delivered")
    put(machine, "b.ndjson", 4)
    wait(machine, delivered(machine, 1, 2, 3, 4), "a file that came later delivered")
    assert machine.show(UNIT, "StatusText") != ""
    machine.run("systemctl", "stop", UNIT)
    assert machine.show(UNIT, "Result") == "success"


def test_a_reload_takes_effect_in_the_same_process(machine: RealSystemd, slack: SlackReceiver) -> None:
    """After `systemctl reload` new events go where the edited configuration says; nothing was restarted."""
    put(machine, "a.ndjson", 1)
    pid = start(machine, config(slack_url=slack.url))
    wait(machine, delivered(machine, 1), "delivered before the reload")
    elsewhere = f"{DELIVERED}-elsewhere"
    configure(machine, config(slack_url=slack.url, path=elsewhere))
    machine.run("systemctl", "reload", UNIT)
    put(machine, "b.ndjson", 2)
    wait(machine, lambda: '"n":2' in _text_of(machine, elsewhere), "delivered to the new path")
    assert machine.main_pid(UNIT) == pid
    assert '"n":2' not in _text_of(machine, DELIVERED)


def test_a_broken_edit_is_refused_and_the_old_configuration_goes_on(machine: RealSystemd, slack: SlackReceiver) -> None:
    """`systemctl reload` fails on a broken edit, and the running service delivers as before."""
    pid = start(machine, config(slack_url=slack.url))
    configure(machine, config(slack_url=slack.url, sink_type="no-such-type"))
    assert machine.run("systemctl", "reload", UNIT, check=False).returncode != 0
    assert "no-such-type" in machine.journal(UNIT)
    put(machine, "a.ndjson", 1)
    wait(machine, delivered(machine, 1), "delivered after the refused reload")
    assert machine.main_pid(UNIT) == pid


def test_it_is_restarted_after_kill_9(machine: RealSystemd, slack: SlackReceiver) -> None:
    """Killed hard, the service comes back by itself and goes on where it was: nothing lost, nothing twice."""
    put(machine, "a.ndjson", 1, 2)
    old = start(machine, config(slack_url=slack.url))
    wait(machine, delivered(machine, 1, 2), "delivered before the kill")
    kill(machine, old, signal.SIGKILL)
    put(machine, "b.ndjson", 3)
    wait(machine, restarted(machine, old), "ready again")
    wait(machine, delivered(machine, 1, 2, 3), "delivered after the kill")
    assert machine.show(UNIT, "NRestarts") == "1"


def test_the_watchdog_restarts_a_frozen_service(machine: RealSystemd, slack: SlackReceiver) -> None:
    """A service that makes no more progress is killed by systemd's watchdog and started again."""
    machine.drop_in(UNIT, "watchdog", "[Service]\nWatchdogSec=3\nTimeoutAbortSec=2\nRestartSec=200ms\n")
    old = start(machine, config(slack_url=slack.url))
    kill(machine, old, signal.SIGSTOP)
    wait(machine, restarted(machine, old), "ready again")
    assert "Watchdog timeout" in machine.journal(UNIT)
    put(machine, "a.ndjson", 1)
    wait(machine, delivered(machine, 1), "delivered after the freeze")


def test_a_healthy_service_outlives_its_watchdog(machine: RealSystemd, slack: SlackReceiver) -> None:
    """With nothing to do the watchdog is fed all the same: three of its periods pass and nothing is restarted."""
    machine.drop_in(UNIT, "watchdog", "[Service]\nWatchdogSec=2\n")
    pid = start(machine, config(slack_url=slack.url))
    fed = {machine.show(UNIT, "WatchdogTimestampMonotonic")}
    wait(machine, lambda: len(fed.__ior__({machine.show(UNIT, "WatchdogTimestampMonotonic")})) > 6, "fed six times")
    assert (machine.main_pid(UNIT), machine.show(UNIT, "NRestarts")) == (pid, "0")


def test_a_broken_configuration_is_told_to_people(machine: RealSystemd, slack: SlackReceiver) -> None:
    """A service that cannot start for its configuration is not restarted, and one Slack post says why."""
    configure(machine, config(slack_url=slack.url, sink_type="no-such-type"))
    assert machine.run("systemctl", "start", UNIT, check=False).returncode != 0
    post = slack.posts.get(timeout=30)
    assert UNIT in post["text"]
    assert "no-such-type" in str(post)
    wait(machine, lambda: machine.show(ALERT, "ActiveState") == "inactive", "the alert unit has finished")
    assert machine.show(UNIT, "ExecMainStatus") == str(os.EX_CONFIG)
    assert (machine.show(UNIT, "ActiveState"), machine.show(UNIT, "NRestarts")) == ("failed", "0")
    assert slack.posts.empty()


def _text_of(machine: RealSystemd, directory: str) -> str:
    return "".join(file.read_text() for file in machine.path(directory).glob("**/*.ndjson"))
