"""What `status` and `check` say about exports, where the pull side is on."""

import importlib.util
import json

import pytest
from tests.builders import Ferry
from tests.servers import s3_server
from typer.testing import CliRunner

from eventferry import app
from eventferry.cli import options, room
from eventferry.cli.program import program
from eventferry.exports import requests
from eventferry.exports.model import Selection
from eventferry.exports.wanted import Wanted
from eventferry.installing import command


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


@pytest.mark.parametrize("setting", ["state_dir", "directory"])
def test_check_really_writes_to_the_folders(ferry, setting):
    """Where root has every right and nothing can be written all the same, it says so."""
    if setting == "directory":
        ferry.top["exports"] = {"directory": "/proc/eventferry/exports"}
    state = ferry.save().state_dir
    if setting == "state_dir":
        ferry.path.write_text(ferry.path.read_text().replace(f'"{state}"', '"/proc/eventferry"'))
    found = run(ferry, "check")
    assert found.exit_code == 78, found.output
    assert ("cannot be written to: no such file" if setting == "directory" else "cannot be made") in found.output


def test_check_leaves_no_folder_of_exports_behind(ferry):
    """Those that it makes in order to try them it removes again, and nothing of others."""
    ferry.top["exports"] = {"directory": str(ferry.home / "not/there")}
    ferry.save()
    assert f"✓ exports {ferry.home}/not/there can be written to" in run(ferry, "check").output
    assert not (ferry.home / "not").exists()
    (ferry.home / "not").mkdir()
    run(ferry, "check")
    assert list((ferry.home / "not").iterdir()) == []


def test_check_fails_where_no_byte_is_free(ferry, monkeypatch):
    """Root may write into the last blocks of a disk that is full for everybody else."""
    ferry.save()
    monkeypatch.setattr(room, "free_bytes", lambda folder: 0)
    found = run(ferry, "check")
    assert found.exit_code == 1, found.output
    assert "0 bytes free" in found.output
    monkeypatch.setattr(room, "free_bytes", lambda folder: 1000)
    found = run(ferry, "check")
    assert (found.exit_code, "! exports less than 1 GiB is free" in found.output) == (0, True), found.output


@pytest.mark.parametrize("scheduled", [False, True])
def test_check_names_the_packages_that_serving_lacks(ferry, monkeypatch, scheduled):
    """Without the server and without a schedule nobody could get an export: that is a mistake."""
    find = importlib.util.find_spec
    lacking = {"fastapi", "pyarrow"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name in lacking else find(name, *more))
    if scheduled:
        ferry.top["exports"] = {"schedules": [{"name": "nightly", "cron": "0 1 * * *"}]}
    ferry.save()
    found = run(ferry, "check")
    assert found.exit_code == (0 if scheduled else 78), found.output
    said = " ".join(found.output.split())
    assert f"`eventferry serve` needs fastapi: {command('eventferry[api]')}" in said
    assert command("eventferry[parquet]") in said
    assert "keys create" not in said


def test_check_names_server_and_keys_until_there_is_a_key(ferry, monkeypatch, tmp_path):
    """By its unit where one is installed for this configuration."""
    ferry.open()
    monkeypatch.setattr(options, "UNIT_FOLDERS", (str(tmp_path),))
    said = run(ferry, "check").output.split("Next:")[1]
    assert f"eventferry --config {ferry.path} serve" in said
    assert f"eventferry --config {ferry.path} keys create NAME" in said
    for unit in ("eventferry.service", "eventferry-api.service"):
        (tmp_path / unit).touch()
    assert "systemctl" not in run(ferry, "check").output
    monkeypatch.setattr(options, "DEFAULT_CONFIG", str(ferry.path))
    said = run(ferry, "check").output.split("Next:")[1]
    assert "systemctl enable --now eventferry " in said
    assert "systemctl enable --now eventferry-api " in said
    assert run(ferry, "keys", "create", "nightly").exit_code == 0
    said = run(ferry, "check").output.split("Next:")[1]
    assert "keys create" not in said
    assert "eventferry-api" not in said


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
