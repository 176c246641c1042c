"""Commands that root gives beside the installed service, under a real systemd."""

from collections.abc import Iterator

import pytest
from tests.systemd.conftest import configure, install_units
from tests.systemd.realsystemd import RealSystemd, require

EVENTFERRY = "/opt/eventferry/venv/bin/eventferry"
CONFIG = """\
state_dir = "/var/lib/eventferry"
[[sources]]
name = "events"
url = "/srv/events"
key_pattern = ""
settle = "0s"
[[sinks]]
name = "files"
type = "file"
path = "{path}"
"""

pytestmark = [pytest.mark.systemd, pytest.mark.slow]


@pytest.fixture
def machine() -> Iterator[RealSystemd]:
    """A booted systemd with units and account, one file in the store, nothing started."""
    require()
    with RealSystemd() as booted:
        install_units(booted)
        booted.write("/srv/events/a.ndjson", '{"event_timestamp":1700000000000}\n')
        yield booted


def test_root_leaves_the_state_to_the_service(machine: RealSystemd) -> None:
    """After root's first `once` everything in the state directory is the service's, and the service starts on it."""
    configure(machine, CONFIG.format(path="/var/lib/eventferry/delivered"))
    done = machine.run(EVENTFERRY, "once", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    owners = machine.run("find", "/var/lib/eventferry", "-printf", "%u\n").stdout.split()
    assert len(owners) > 3
    assert set(owners) == {"eventferry"}
    assert machine.run("systemctl", "start", "eventferry", check=False).returncode == 0
    assert "running" in machine.run(EVENTFERRY, "status").stdout


def test_as_service_sees_what_the_service_sees(machine: RealSystemd) -> None:
    """A directory that root may write to is read-only for the service: only --as-service finds it, with the remedy."""
    machine.run("install", "-d", "-o", "eventferry", "/srv/out")
    configure(machine, CONFIG.format(path="/srv/out"))
    plain = machine.run(EVENTFERRY, "check", check=False)
    assert plain.returncode == 0, plain.stdout + plain.stderr
    inside = machine.run(EVENTFERRY, "check", "--as-service", check=False)
    assert inside.returncode == 1, inside.stdout + inside.stderr
    assert "ReadWritePaths=/srv/out" in inside.stdout
    machine.drop_in("eventferry.service", "out", "[Service]\nReadWritePaths=/srv/out\n")
    mended = machine.run(EVENTFERRY, "check", "--as-service", check=False)
    assert mended.returncode == 0, mended.stdout + mended.stderr


def test_as_service_without_the_unit(machine: RealSystemd) -> None:
    """The error says what to install."""
    configure(machine, CONFIG.format(path="/var/lib/eventferry/delivered"))
    machine.path("/etc/systemd/system/eventferry.service").unlink()
    machine.run("systemctl", "daemon-reload")
    done = machine.run(EVENTFERRY, "check", "--as-service", check=False)
    assert done.returncode == 1
    assert "install the unit first" in done.stderr
