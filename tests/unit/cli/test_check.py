"""What `check` finds before an event is moved."""

import shutil
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Site


def test_a_good_installation_passes_every_step(site: Site) -> None:
    """Nothing is sent, nothing is made but the state directory, and the first run's size is told."""
    site.put("2024/01/31/05/b.ndjson.gz", 4)
    shown = site.run("check")
    assert shown.exit_code == 0, shown.output
    assert "✗" not in shown.output
    assert "2 files" in shown.output
    assert "2 hours, 2024-01-31 00:00 to 2024-01-31 05:00" in shown.output
    assert [path.name for path in site.state.iterdir()] in ([], ["delivered"])
    assert list(site.out.rglob("*.ndjson")) == []


def test_a_sink_that_cannot_open_is_found(site: Site) -> None:
    """Here rather than at the first batch; the other steps are still tried."""
    shutil.rmtree(site.out)
    site.configure()
    site.out.rmdir()
    site.out.write_text("a file stands in its way")
    shown = site.run("check")
    assert shown.exit_code == 1, shown.output
    assert "✗ sink    archive (file)" in shown.output
    assert "✓ source  events" in shown.output


def test_a_sink_that_hangs_is_given_up_at_its_deadline(site: Site) -> None:
    """A check always ends."""
    site.configure("odd", more='timeout = "100ms"\n')
    script = site.script
    script.on_open = lambda: (script.released.wait(60), None)[1]
    try:
        shown = site.run("check")
    finally:
        script.released.set()
    assert shown.exit_code == 1, shown.output
    assert "did not open within" in shown.output


def test_a_sink_with_a_bug_is_named(site: Site) -> None:
    """A third party's exception is shown with its type."""
    site.configure("odd")

    def fail() -> None:
        raise ZeroDivisionError("in their code")

    site.script.on_open = fail
    shown = site.run("check")
    assert shown.exit_code == 1, shown.output
    assert "raised ZeroDivisionError: in their code" in shown.output


def test_a_missing_store_is_found(site: Site) -> None:
    """With the remedy."""
    shutil.rmtree(site.store)
    shown = site.run("check")
    assert shown.exit_code == 1, shown.output
    assert "no such directory" in shown.output


def test_keys_without_dates_cost_a_whole_listing(site: Site) -> None:
    """Whoever chooses such a layout learns its price here."""
    site.configure(source='key_pattern = ""')
    shown = site.run("check")
    assert shown.exit_code == 0, shown.output
    assert "each poll lists all of them" in shown.output


def test_foreign_keys_are_told_with_an_example(site: Site) -> None:
    """What a pattern leaves out is never silent."""
    site.put("errors/odd.ndjson.gz", 1)
    shown = site.run("check")
    assert shown.exit_code == 0, shown.output
    assert "1 key does not match key_pattern and is left out, such as errors/odd.ndjson.gz" in shown.output


def test_a_new_name_on_a_used_ledger_says_what_it_would_send(used: Site) -> None:
    """A renamed sink is not a new one by accident: 78 until the configuration says which."""
    used.config.write_text(used.config.read_text().replace('"archive"', '"warehouse"'))
    shown = used.run("check")
    assert shown.exit_code == 78, shown.output
    assert "3 events" in shown.output
    assert "renamed_from" in shown.output


def test_a_ledger_that_is_none(used: Site) -> None:
    """A damaged ledger is reported, never replaced."""
    ledger = used.state / "ledger.db"
    for path in used.state.glob("ledger.db*"):
        path.unlink()
    ledger.write_bytes(b"this is no database" * 100)
    shown = used.run("check")
    assert shown.exit_code == 78, shown.output
    assert ledger.read_bytes().startswith(b"this is no database")


def test_one_step_only(site: Site) -> None:
    """--sink and --source try that one alone; an unknown name is wrong usage."""
    assert "sink " not in site.run("check", "--source", "events").output
    assert "source " not in site.run("check", "--sink", "archive").output
    assert site.run("check", "--sink", "nobody").exit_code == 2


def test_as_service_says_what_it_needs(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without systemd there is no sandbox to check in."""
    monkeypatch.setenv("PATH", str(tmp_path))
    shown = site.run("check", "--as-service")
    assert shown.exit_code == 1, shown.output
    assert "needs systemd" in shown.stderr
