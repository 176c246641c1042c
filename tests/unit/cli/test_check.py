"""What `check` finds before an event is moved."""

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.receivers import http_receiver
from tests.scripted import ScriptedSink
from tests.unit.cli.conftest import Site
from typer.testing import CliRunner

from eventferry import app
from eventferry.cli.program import program
from eventferry.service.reload import digest_of, note_loaded
from eventferry.sink import Batch, Guarantee, Sink, SinkMisconfigured, SinkOptions


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


def test_the_steps_of_a_sink_are_told_up_to_the_first_that_fails(site: Site) -> None:
    """Each step stands there when it is done, and the mistake below it; no event is sent."""
    site.configure("odd")

    def steps() -> Iterator[str]:
        yield "analytics:5432 takes the user eventferry"
        yield "table public.events is there"
        raise SinkMisconfigured("table public.events lacks column url; run: ALTER TABLE …")

    site.script.steps = steps
    shown = site.run("check", "--sink", "odd")
    assert shown.exit_code == 1, shown.output
    told = [line[2:].split(": ", 1)[1] for line in shown.output.splitlines() if "sink    odd" in line]
    assert told == [
        "analytics:5432 takes the user eventferry",
        "table public.events is there",
        "table public.events lacks column url; run: ALTER TABLE …",
    ]
    assert shown.output.count("✗ sink    odd") == 1
    assert not site.script.calls


def test_a_check_that_hangs_in_a_step_is_given_up_at_its_deadline(site: Site) -> None:
    """What was done by then is told."""
    site.configure("odd", more='timeout = "300ms"\n')
    script = site.script

    def steps() -> Iterator[str]:
        yield "it is open"
        script.released.wait(60)

    script.steps = steps
    try:
        shown = site.run("check")
    finally:
        script.released.set()
    assert shown.exit_code == 1, shown.output
    assert "✓ sink    odd (tests.scripted:ScriptedSink): it is open" in shown.output
    assert "did not finish its check within" in shown.output


def test_what_a_place_or_a_type_cannot_promise_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guarantee that this place lowers, and a type that was proved against a stub only, are worth a line each."""
    site.configure("odd")

    def lower(sink: ScriptedSink) -> None:
        sink.guarantee = Guarantee.AT_LEAST_ONCE

    site.script.tells = lower
    monkeypatch.setattr(ScriptedSink, "guarantee", Guarantee.EFFECTIVELY_ONCE)
    monkeypatch.setattr(ScriptedSink, "experimental", True)
    monkeypatch.setattr(ScriptedSink, "proved_against", "a stub")
    shown = site.run("check", "--sink", "odd")
    assert shown.exit_code == 0, shown.output
    assert "this place keeps at least once only, not effectively once" in shown.output
    assert "experimental: it was proved against a stub only" in shown.output


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


def rename_sink(site: Site, more: str = "") -> None:
    """Edit the sink's name, as somebody does who does not know that it is its identity."""
    site.config.write_text(site.config.read_text().replace('"archive"', '"warehouse"' + more))


def test_a_new_sink_with_a_start_is_named_with_its_cost(used: Site) -> None:
    """Renamed with `start` in its table, it would be sent all history again without a word."""
    rename_sink(used, '\nstart = "earliest"')
    shown = used.run("check")
    assert shown.exit_code == 0, shown.output
    assert "sink warehouse is new here: it starts at earliest, 3 events, " in shown.output
    assert "rename sink archive warehouse` first" in shown.output
    assert "sink archive is known to the ledger, but not in the config any more" in shown.output
    assert "look at the new names" in shown.output
    used.configure()
    rename_sink(used, '\nstart = "latest"')
    assert "starts at latest, 0 events" in used.run("check", "--sink", "warehouse").output


def test_a_new_source_with_a_start_is_named_with_its_cost(used: Site) -> None:
    """Its files would be taken again."""
    used.config.write_text(used.config.read_text().replace('"events"', '"clicks"\nstart = "earliest"'))
    shown = used.run("check")
    assert shown.exit_code == 0, shown.output
    assert "source clicks is new here: it starts at earliest, 1 file, " in shown.output
    assert "rename source events clicks` first" in shown.output


def test_a_declared_rename_costs_nothing(used: Site) -> None:
    """It is confirmed instead of warned about."""
    rename_sink(used, '\nrenamed_from = "archive"')
    shown = used.run("check")
    assert "sink warehouse is archive renamed" in shown.output
    assert "new here" not in shown.output


def test_a_source_that_a_sink_takes_for_the_first_time(used: Site) -> None:
    """A known sink whose list of sources grows gets all history of the new one."""
    more = f'[[sources]]\nname = "more"\nurl = "{used.root}/more"\nstart = "latest"\n'
    (used.root / "more").mkdir()
    sink = '[[sinks]]\nname = "odd"\ntype = "tests.scripted:ScriptedSink"\nscript = "x"\n'
    sink += 'sources = ["more"]\nstart = "earliest"\n'
    used.configure(more=more + sink)
    assert used.run("once").exit_code == 0
    used.configure(more=more + sink.replace('["more"]', '["more", "events"]'))
    assert (
        "sink odd takes source events for the first time: it starts at earliest, 3 events" in used.run("check").output
    )


class UrlOptions(SinkOptions):
    url: str


class Posting(Sink[UrlOptions]):
    """A third party's: it has a url, and no steps."""

    Options = UrlOptions

    def deliver(self, batch: Batch) -> None:
        """Never called here."""


def sink_of(site: Site, type: str, url: str) -> None:
    site.configure("none", more=f'[[sinks]]\nname = "bi"\ntype = "{type}"\nurl = "{url}"\n')


@pytest.mark.parametrize(
    ("type", "said"),
    [
        ("http", "answers; what it says to events is known after the first batch"),
        ("tests.unit.cli.test_check:Posting", "accepts connections; no event was sent"),
    ],
)
def test_a_dead_receiver_is_found(site: Site, type: str, said: str) -> None:
    """Opening sends nothing, so a type without steps of its own is connected to; a live receiver gets no event."""
    with http_receiver() as receiver:
        sink_of(site, type, receiver.url)
        shown = site.run("check")
        assert shown.exit_code == 0, shown.output
        assert said in shown.output
        assert receiver.requests == []
    shown = site.run("check")
    assert shown.exit_code == 1, shown.output
    assert "onnection refused" in shown.output


def take_events(ndjson: str) -> None:
    """A sink that opens nothing."""


def test_what_was_not_contacted_is_said(site: Site) -> None:
    """A function is only tried by a batch: no claim that it works."""
    name = "tests.unit.cli.test_check:take_events"
    site.configure("none", more=f'[[sinks]]\nname = "mine"\ntype = "{name}"\n')
    shown = site.run("check")
    assert shown.exit_code == 0, shown.output
    assert "not contacted: this type has nothing to open" in shown.output
    assert "What could be tried works; not contacted: mine." in shown.output


@pytest.mark.parametrize("what", ["nothing", "no sink", "off"])
def test_an_idle_configuration_does_not_work(site: Site, what: str) -> None:
    """Nothing would be carried: the check ends with what to add."""
    if what == "nothing":
        site.config.write_text(f'state_dir = "{site.state}"\n')
    else:
        site.configure("none" if what == "no sink" else "file", top="enabled = false" if what == "off" else "")
    shown = site.run("check")
    assert shown.exit_code == 0, shown.output
    assert "works." not in shown.output
    wanted = {"nothing": "[[sources]]", "no sink": "[[sinks]]", "off": "enabled = true"}[what]
    assert wanted in shown.output.split("nothing would be carried")[1]


def test_what_comes_next_fits(used: Site, tmp_path: Path) -> None:
    """Copied commands name this configuration, quoted; a private one has no unit; a running daemon is not run again."""
    shown = used.run("check")
    assert f"eventferry --config {used.config} once" in shown.output
    assert "systemctl" not in shown.output
    ledger = used.ledger()
    note_loaded(ledger, used.config, digest_of(used.config))
    ledger.close()
    with app.own_state(used.state, wait=False):
        assert " status " in used.run("check").output.split("Next:")[1]
        used.config.write_text(used.config.read_text() + "# edited\n")
        assert " reload " in used.run("check").output.split("Next:")[1]
    odd = tmp_path / "o'dd name.toml"
    odd.write_text(used.config.read_text())
    advised = CliRunner().invoke(program, ["check", "--config", str(odd)]).output.split("Next:")[1]
    assert shlex.split(advised.splitlines()[1].split("→")[1])[:3] == ["eventferry", "--config", str(odd)]


@pytest.mark.parametrize(
    "line, remedy",
    [("x = foo", "double quotes"), ("x", "key = value"), ("[[sources]", "[[name]]"), ("y = 1\ny = 2", "written twice")],
)
def test_a_mistake_in_toml_comes_with_a_remedy(site: Site, line: str, remedy: str) -> None:
    """Not only what the parser expected."""
    site.config.write_text(line + "\n")
    shown = site.run("check")
    assert shown.exit_code == 78
    assert "is not TOML" in shown.stderr
    assert remedy in shown.stderr
