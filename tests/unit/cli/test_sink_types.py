"""`sinks` says what each installed type promises, and against what that was proved."""

import json

from tests.unit.cli.conftest import Site

from eventferry.cli import sink_types
from eventferry.installing import command
from eventferry.sink.registry import InstalledType


def _entries(site: Site) -> dict[str, dict[str, object]]:
    shown = site.run("sinks", "--json")
    assert shown.exit_code == 0, shown.output
    return {each["type"]: each for each in json.loads(shown.output)}


def test_programs_get_what_a_type_declares(site: Site) -> None:
    """Removing one of these keys breaks somebody's script."""
    found = _entries(site)["duckdb"]
    assert found["guarantee"] == "effectively once"
    assert found["needs"] == {"duckdb": "eventferry[duckdb]"}
    assert found["limits"] == {"max_events": 50_000, "max_bytes": 16 * 2**20}
    assert found["can_replace"] is True
    keys = {"package", "distribution", "version", "experimental", "proved_against", "missing", "max_concurrency"}
    assert keys | {"problem"} <= set(found)


def test_a_missing_library_and_a_broken_type_are_named(site: Site, monkeypatch) -> None:
    """What is lacking says which command brings it; a type that cannot be imported hides no other."""
    monkeypatch.setattr(sink_types, "is_installed", lambda module: module != "duckdb")
    broken = InstalledType("broken", "no_such_module:Sink", "acme", "1.0")
    known = sink_types.installed()
    monkeypatch.setattr(sink_types, "installed", lambda: {**known, "broken": broken})
    found = _entries(site)
    assert found["duckdb"]["missing"] == ["eventferry[duckdb]"]
    assert found["broken"]["guarantee"] is None
    assert "broken" in str(found["broken"]["problem"])
    shown = site.run("sinks").output
    assert f"needs: {command('eventferry[duckdb]')}" in " ".join(shown.split())
    assert "of acme 1.0" in shown


def test_experimental_types_are_marked(site: Site) -> None:
    """Both for people and for programs, with what they were proved against."""
    experimental = [each for each in _entries(site).values() if each["experimental"]]
    assert all(each["proved_against"] for each in experimental)
    assert site.run("sinks").output.count("experimental") == len(experimental)
