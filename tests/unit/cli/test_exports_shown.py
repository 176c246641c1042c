"""What `status` and `check` say about exports, where the pull side is on."""

import json

import pytest
from tests.builders import Ferry
from tests.servers import s3_server
from typer.testing import CliRunner

from eventferry import app
from eventferry.cli.program import program
from eventferry.exports import requests
from eventferry.exports.model import Selection
from eventferry.exports.wanted import Wanted


@pytest.fixture
def ferry(tmp_path):
    with Ferry(tmp_path) as ferry:
        ferry.top["pull"] = {"enabled": True}
        yield ferry


def run(ferry: Ferry, *command: str):
    return CliRunner().invoke(program, ["--config", str(ferry.path), *command])


def test_status_counts_the_exports_in_one_line(ferry):
    """Those that wait and run, and what is kept; programs get the same."""
    ferry.open()
    requests.create(app.build_desk(ferry.ledger, ferry.config), None, Wanted(Selection()))
    assert "Exports 1 queued, 0 running; 0 bytes kept" in run(ferry, "status").output
    shown = json.loads(run(ferry, "status", "--json").output)["exports"]
    assert shown == {"queued": 1, "running": 0, "failed": 0, "bytes": 0}


def test_without_the_pull_side_nothing_is_said_of_exports(ferry):
    """Not even that there are none."""
    ferry.top["pull"] = {"enabled": False}
    ferry.open()
    assert "Exports" not in run(ferry, "status").output
    assert json.loads(run(ferry, "status", "--json").output)["exports"] is None
    assert "exports" not in run(ferry, "check").output


def test_check_tries_the_folder_of_exports(ferry):
    """And names the schedules; a file in its place is a mistake."""
    ferry.top["exports"] = {"schedules": [{"name": "nightly", "cron": "0 1 * * *"}]}
    ferry.save()
    output = run(ferry, "check").output
    assert "exports" in output
    assert "1 schedule" in output
    (ferry.home / "file").touch()
    ferry.top["exports"] = {"directory": str(ferry.home / "file")}
    ferry.save()
    assert "cannot be written to" in run(ferry, "check").output


def test_check_minds_what_would_disappoint_whoever_waits_for_a_letter(ferry):
    """Links that only this machine can follow, and a schedule that the pull side, being off, never runs."""
    letters = {"type": "email", "host": "127.0.0.1", "from": "ferry@example.org", "to": ["ops@example.org"]}
    ferry.top["alerts"] = {"channels": [letters]}
    ferry.top["exports"] = {"schedules": [{"name": "nightly", "cron": "0 1 * * *", "email": ["ana@example.org"]}]}
    ferry.save()
    assert "need api.public_url" in " ".join(run(ferry, "check").output.split())
    ferry.top["api"] = {"public_url": "https://events.example.org"}
    ferry.save()
    assert "public_url" not in run(ferry, "check").output
    ferry.top["pull"] = {"enabled": False}
    ferry.save()
    found = run(ferry, "check")
    assert "1 schedule will not run: the pull side is off" in " ".join(found.output.split())
    assert found.exit_code == 0


@pytest.mark.servers
def test_check_writes_reads_and_deletes_in_the_bucket_of_exports(ferry):
    """A bucket that refuses is told with the remedy, and without the secret."""
    folder = ferry.home / "buckets"
    (folder / "kept").mkdir(parents=True)
    with s3_server(folder) as store:
        s3 = {"endpoint": store.endpoint, "access_key": store.access_key, "secret_key": store.secret_key}
        ferry.top["exports"] = {"directory": "s3://kept/exports", "s3": s3}
        ferry.save()
        good = run(ferry, "check")
        assert "can be written to, read from and deleted in" in " ".join(good.output.split())
        assert not [path for path in folder.rglob("*") if path.is_file()]
        ferry.top["exports"]["s3"]["secret_key"] = "a-wrong-secret"
        ferry.save()
        bad = run(ferry, "check")
        assert bad.exit_code == 1
        assert "mend secret_key" in " ".join(bad.output.split())
        assert "a-wrong-secret" not in bad.output
