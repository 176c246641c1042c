"""The unit files under a real systemd, with a stand-in for the daemon: sandbox, account, credentials, alerts."""

import json
from pathlib import Path

import pytest
from tests.systemd.conftest import SlackReceiver, configure, documented_commands
from tests.systemd.realsystemd import RealSystemd, wait_for

pytestmark = pytest.mark.systemd

GROUP_READS_STORE = "[Service]\nSupplementaryGroups=events\n"
SINK_ELSEWHERE = "[Service]\nReadWritePaths=/srv/incoming\n"
STORE_IN_HOME = "[Service]\nProtectHome=tmpfs\nBindReadOnlyPaths=/home/ana/events\n"


def probed(machine: RealSystemd, unit: str = "eventferry.service") -> dict[str, str]:
    """Start the unit with the probe in the daemon's place and return what it found."""
    probe = Path(__file__).with_name("probe_daemon.py").read_text()
    machine.write("/opt/eventferry/venv/bin/eventferry", probe, mode=0o755)
    machine.write("/srv/events/a.ndjson", '{"n":1}\n', mode=0o640)
    machine.run("sh", "-ec", "groupadd -f events; chown -R root:events /srv/events; chmod 0750 /srv/events")
    machine.run("install", "-d", "-o", "eventferry", "/srv/incoming")
    machine.run("install", "-d", "-o", "eventferry", "/etc/eventferry")  # the worst case: the account owns it
    machine.run("install", "-d", "-m", "0755", "/home/ana/events", "/home/ana/private")
    machine.run("systemctl", "restart", unit)
    line = [line for line in machine.journal(unit).splitlines() if line.startswith("PROBE ")][-1]
    found: dict[str, str] = json.loads(line.removeprefix("PROBE "))
    return found


def test_the_shipped_sandbox_bears_the_daemon_and_nothing_more(machine: RealSystemd) -> None:
    """Inside the shipped unit everything that eventferry is built on works, and what it has no business with fails."""
    found = probed(machine)
    account = int(machine.run("id", "-u", "eventferry").stdout)
    works = {
        "user": account,
        **dict.fromkeys(["state", "cache", "runtime"], "written"),
        "ledger": "wal",
        "workers": "3",
        "duckdb": "(100000,)",
        "imports": "17",
        **dict.fromkeys(["threads", "tls", "cores", "faulthandler"], "True"),
        "lookup": "80",
        "subprocess": "hi",
    }
    assert {name: found[name] for name in works} == works
    assert found["srv"].startswith("OSError: [Errno 30]")
    assert found["config"].startswith("OSError: [Errno 30]")
    for refused in ("group file", "home", "nice"):
        assert found[refused].startswith("PermissionError"), (refused, found[refused])


def test_the_alert_unit_reads_the_journal_and_writes_nothing(machine: RealSystemd) -> None:
    """The failure alert may read the journal and use the network; it can write nowhere, nor to the daemon's state."""
    machine.run("install", "-d", "-o", "eventferry", "/var/lib/eventferry", "/var/cache/eventferry")
    found = probed(machine, "eventferry-alert@x.service")
    assert {found[name] for name in ("journal", "tls", "threads")} == {"True"}
    for refused in ("state", "cache", "config", "srv"):
        assert found[refused].startswith("OSError: [Errno 30]"), (refused, found[refused])


def test_the_documented_drop_ins_open_what_they_say(machine: RealSystemd) -> None:
    """A store readable for a group, a sink's directory elsewhere and a store below /home work by drop-in."""
    readme = Path(machine.path("/opt/eventferry/src/systemd/README.md")).read_text()
    for number, text in enumerate([GROUP_READS_STORE, SINK_ELSEWHERE, STORE_IN_HOME]):
        documented = text.replace("/srv/incoming", "/srv/warehouse/incoming")
        assert f"```ini\n{documented}" in readme
        machine.run("groupadd", "-f", "events")
        machine.drop_in("eventferry.service", f"{number}", text)
    found = probed(machine)
    assert found["group file"] == '{"n":1}'
    assert found["srv"] == "written"
    assert found["home"] == "['events']"


def test_credentials_as_documented_reach_both_units(machine: RealSystemd, slack: SlackReceiver) -> None:
    """The README's commands hand one secret, readable for root alone, to the daemon and to the alert unit."""
    for command in documented_commands("## Credentials"):
        if "ask-password" in command:
            machine.write("/etc/eventferry/credentials/slack-webhook", slack.url, mode=0o600)
        elif command:
            machine.run("sh", "-ec", command.partition("&& systemctl restart")[0])
    assert probed(machine)["credential"] == slack.url
    assert probed(machine, "eventferry-alert@x.service")["credential"] == slack.url


def test_a_crash_loop_ends_failed_with_one_alert(stubbed: RealSystemd, slack: SlackReceiver) -> None:
    """Ten crashes in a row make one alert with the last journal lines, not ten, and the unit is then at rest."""
    configure(stubbed, f'[[alerts.channels]]\ntype = "slack"\nurl = "{slack.url}"\n')
    crash = "[Service]\nRestartSec=20ms\nExecStart=\nExecStart=/bin/sh -c 'echo boom; exit 70'\n"
    stubbed.drop_in("eventferry.service", "crash", crash)
    stubbed.run("systemctl", "start", "eventferry", check=False)
    post = slack.posts.get(timeout=30)
    assert "eventferry.service failed" in post["text"]
    assert "boom" in post["text"]
    wait_for(lambda: stubbed.show("eventferry-alert@eventferry.service", "ActiveState") == "inactive", "alert done")
    assert stubbed.journal("eventferry").splitlines().count("boom") == 10
    assert stubbed.show("eventferry", "ActiveState") == "failed"
    assert slack.posts.empty()


def test_an_ordinary_stop_alerts_nobody(stubbed: RealSystemd, slack: SlackReceiver) -> None:
    """Stopping the service is no failure: it exits cleanly on SIGTERM and no alert unit runs."""
    configure(stubbed, f'sources = []\nsinks = []\n[[alerts.channels]]\ntype = "slack"\nurl = "{slack.url}"\n')
    stubbed.run("systemctl", "start", "eventferry")
    stubbed.run("systemctl", "stop", "eventferry")
    assert stubbed.show("eventferry", "Result") == "success"
    assert stubbed.show("eventferry-alert@eventferry.service", "ExecMainStartTimestamp") == ""
    assert slack.posts.empty()


def test_nothing_of_the_machine_is_left_behind(machine: RealSystemd) -> None:
    """Writes inside stay inside: the host never sees a file that was written in there."""
    machine.write("/etc/eventferry-left-behind", "x")
    assert machine.run("cat", "/etc/eventferry-left-behind").stdout == "x"
    assert not Path("/etc/eventferry-left-behind").exists()
