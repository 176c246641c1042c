"""The README's set-up: its commands, run as they stand, on a machine with a real systemd."""

import gzip
import json
import os
import re
import tomllib
from pathlib import Path

import pytest
from tests.systemd.realsystemd import CHECKOUT, RealSystemd, require, wait_for

README = (CHECKOUT / "README.md").read_text()
VENV = Path("/opt/eventferry/venv")
# As pip writes it: worker processes import it, and must not run it.
SCRIPT = (
    "#!{venv}/bin/python\nimport sys\nfrom eventferry.cli import main\n"
    'if __name__ == "__main__":\n    sys.exit(main())\n'
)
DELIVERED = "/var/lib/eventferry/delivered"


def commands(heading: str) -> list[str]:
    """The commands of the first shell block below a heading."""
    block = README.partition(f"\n## {heading}\n")[2].partition("```sh\n")[2].partition("```")[0]
    return [re.sub(r"\s+#.*", "", line) for line in block.splitlines()]


def test_the_readme_is_short_enough() -> None:
    """Two commands for the demo, at most eight for one's own data, one for the tests; each make target exists."""
    demo, own, tests = (commands(heading) for heading in ("Five minutes", "Your own data", "Tests"))
    assert len(demo) == 2
    assert 5 < len(own) <= 8
    assert tests == ["make test"]
    assert "step test\n" in (CHECKOUT / ".ci" / "run").read_text()
    makefile = (CHECKOUT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z-]+)", "\n".join([*demo, *own, *tests])):
        assert re.search(rf"(?m)^{target}:.* ## ", makefile), target


@pytest.fixture
def machine():
    """A machine on which `make install` has just run."""
    require()
    with RealSystemd() as booted:
        booted.run("mkdir", "-p", "/usr/local/bin")
        booted.write(f"{VENV}/bin/eventferry", SCRIPT.format(venv=VENV), mode=0o755)
        booted.run("ln", "-sfn", f"{VENV}/bin/eventferry", "/usr/local/bin/eventferry")
        project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
        for source, target in project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"].items():
            booted.write(f"{VENV}/{target}", (CHECKOUT / source).read_text())
        yield booted


@pytest.mark.systemd
def test_own_data_is_delivered_by_the_readmes_commands(machine: RealSystemd) -> None:
    """After the commands, and no other, the service runs: what lay in the store is delivered, and what comes later."""
    first = machine.path("/srv/events/2024/01/31/10/events.gz")
    first.parent.mkdir(parents=True)
    put(first, b'{"event_timestamp":1706695200000,"n":1}\n')
    install, *rest = commands("Your own data")
    assert install == "make install"
    shown = {}
    for command in rest:
        done = machine.run("sh", "-c", f"PATH=/usr/local/bin:$PATH; {command}", check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        shown[command] = done.stdout + done.stderr
        if command == "eventferry init":
            edit(machine.path("/etc/eventferry/config.toml"), 'url = "/srv/events"', 'interval = "1s"')
    assert b'{"event_timestamp":1706695200000,"n":1}\n' in delivered(machine)
    assert "running" in shown["eventferry status"]
    assert "✗" not in shown["eventferry check"]

    put(first.with_name("later.gz"), b'{"event_timestamp":1706695200001,"n":2}\n')
    wait_for(lambda: len(delivered(machine)) == 2, "the later file is delivered", 40)
    assert machine.show("eventferry.service", "ActiveState") == "active"


@pytest.mark.systemd
def test_events_are_answered_by_the_readmes_commands(machine: RealSystemd) -> None:
    """With the pull side switched on, the commands that follow end with the events of the day."""
    event = b'{"event_timestamp":1706695200000,"n":1}\n'
    first = machine.path("/srv/events/2024/01/31/10/events.gz")
    first.parent.mkdir(parents=True)
    put(first, event)
    for command in commands("Your own data")[1:]:
        machine.run("sh", "-c", f"PATH=/usr/local/bin:$PATH; {command}")
    config = machine.path("/etc/eventferry/config.toml")
    config.write_text(f"{config.read_text()}\n[pull]\nenabled = true\n")
    *ready, key, ask = commands("Asking for events")
    for command in ready:
        machine.run("sh", "-c", f"PATH=/usr/local/bin:$PATH; {command}")
    wait_for(lambda: machine.show("eventferry-api.service", "ActiveState") == "active", "the server is up", 40)
    answer = machine.run("sh", "-c", f"PATH=/usr/local/bin:$PATH; {key}; {ask}").stdout
    assert json.loads(answer) == [json.loads(event)]


def edit(path: Path, line: str, more: str) -> None:
    """Add a line after one that is there: a test has no ten minutes."""
    text = path.read_text()
    assert f"\n{line}\n" in text
    path.write_text(text.replace(line, f"{line}\n{more}"))


def put(path: Path, content: bytes) -> None:
    """A file that has been lying there for an hour."""
    path.write_bytes(gzip.compress(content))
    hour_ago = path.stat().st_mtime - 3600
    os.utime(path, (hour_ago, hour_ago))


def delivered(machine: RealSystemd) -> list[bytes]:
    """What lies in the archive sink's files."""
    files = machine.path(DELIVERED).glob("**/*.ndjson")
    return sorted(line for file in files for line in file.read_bytes().splitlines(keepends=True))
