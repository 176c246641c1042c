"""What `status` says, to people and to programs."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.scripted import ScriptedSink, raising, refusing_events, take
from tests.unit.cli.conftest import Site

from eventferry import app
from eventferry.cli import options
from eventferry.ledger import sends
from eventferry.ledger.alerts import write_notice
from eventferry.ledger.database import set_meta
from eventferry.service.reload import digest_of, note_loaded, note_refused
from eventferry.sink import Guarantee, SinkMisconfigured


def status(site: Site) -> Any:
    shown = site.run("status", "--json")
    assert shown.exit_code == 0, shown.output
    return json.loads(shown.output)


def test_before_the_first_run_it_says_what_to_do(site: Site) -> None:
    """An empty installation is not an error."""
    shown = site.run("status")
    assert shown.exit_code == 0, shown.output
    assert "Nothing has run here yet" in shown.output
    assert "once" in shown.output
    assert status(site) is None


def test_after_a_run_it_shows_the_books(used: Site) -> None:
    """Files, events and deliveries, and that they balance; people and programs get the same."""
    found = status(used)
    (source,), (sink,) = found["sources"], found["sinks"]
    assert (source["name"], source["files"], source["events"], source["bad"]) == ("events", 1, 3, 0)
    assert (sink["name"], sink["state"], sink["delivered"], sink["backlog_events"]) == ("archive", "active", 3, 0)
    assert sink["guarantee"] == "effectively once"
    assert found["balanced"]
    assert not found["needs_attention"]
    assert found["daemon"]["state"] == "stopped"
    shown = used.run("status")
    assert "No open problems" in shown.output
    assert "archive" in shown.output


def test_json_keys(used: Site) -> None:
    """Programs rely on these names: removing one breaks somebody's dashboard."""
    found = status(used)
    top = {"daemon", "config", "sources", "sinks", "problems", "balanced", "needs_attention", "ledger"}
    assert top <= set(found)
    source = {"name", "root", "last_run", "next_run", "files", "lines", "events", "bad", "blank", "untimed", "bytes"}
    source |= {"quarantined", "held", "foreign_keys", "balanced", "states", "enabled"}
    assert source <= set(found["sources"][0])
    sink = {"name", "type", "state", "reason", "since", "next_try", "lag_seconds", "backlog_events", "backlog_bytes"}
    sink |= {"indexed", "delivered", "filtered", "dead", "missing", "waiting", "dead_letters", "guarantee", "balanced"}
    sink |= {"lowered", "experimental", "counts"}
    assert sink <= set(found["sinks"][0])


def test_what_a_sink_tells_beside_its_answers_is_shown(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that did not fit, and a guarantee that the place lowered: one line, and the same for programs."""
    site.configure("odd")

    def tell(sink: ScriptedSink) -> None:
        sink.guarantee = Guarantee.AT_LEAST_ONCE_KEYED
        sink.count("values.misfitted", "elapsed", 3)
        sink.count("columns.added", "url")

    site.script.tells = tell
    monkeypatch.setattr(ScriptedSink, "guarantee", Guarantee.EFFECTIVELY_ONCE)
    monkeypatch.setattr(ScriptedSink, "experimental", True)
    site.run("once")
    (sink,) = status(site)["sinks"]
    assert (sink["guarantee"], sink["lowered"], sink["experimental"]) == ("at least once, keyed", True, True)
    assert [(each["what"], each["of"], each["number"]) for each in sink["counts"]] == [
        ("columns.added", "url", 1),
        ("values.misfitted", "elapsed", 3),
    ]
    shown = site.run("status").output
    assert "odd: at least once, keyed only: this place cannot keep more" in shown
    assert "column url was added; 3 values did not fit column elapsed (kept in event)" in shown
    assert "at least once, keyed (lowered, experimental)" in shown


def test_a_held_sink_is_told_with_its_reason_and_its_command(site: Site) -> None:
    """The one thing that a person at three in the morning needs."""
    site.configure("odd")
    site.script.behave = raising(SinkMisconfigured("401: who are you?"))
    site.run("once")
    shown = site.run("status", "--exit-code")
    assert shown.exit_code == 1, shown.output
    for word in ("held", "401: who are you?", f"eventferry --config {site.config} resume odd"):
        assert word in shown.output
    assert site.run("status").exit_code == 0


def test_dead_letters_need_a_person(site: Site) -> None:
    """They are counted at the sink, and as a problem."""
    site.configure("odd")
    site.script.behave = refusing_events(b'"n": 1')
    site.run("once")
    found = status(site)
    assert found["sinks"][0]["dead_letters"] == 1
    assert found["needs_attention"]
    assert found["balanced"]


def test_a_running_daemon_is_seen_by_its_lock(used: Site) -> None:
    """Not by a process list: in a container or a sandbox that shows nobody else's processes."""
    with app.own_state(used.state, wait=False):
        found = status(used)
    assert found["daemon"]["state"] == "running"
    assert found["daemon"]["pid"] > 0
    assert found["daemon"]["since"]
    assert found["sources"][0]["next_run"]


def test_what_to_do_after_a_death_fits_the_installation(
    used: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """systemctl where a unit runs this configuration, `eventferry run` everywhere else."""
    ledger = used.ledger()
    with ledger.write() as tx:
        set_meta(tx, "heartbeat_ms", 1_700_000_000_000)
    ledger.close()
    monkeypatch.setenv("EVENTFERRY_CONFIG", str(used.config))
    monkeypatch.setattr(options, "UNIT_FOLDERS", (str(tmp_path / "units"),))
    monkeypatch.setattr(options, "DEFAULT_CONFIG", str(used.config))
    shown = used.run("status").output
    assert "→ eventferry run" in shown
    assert "systemctl" not in shown
    (tmp_path / "units").mkdir()
    (tmp_path / "units/eventferry.service").touch()
    assert "systemctl restart eventferry" in used.run("status").output
    monkeypatch.setattr(options, "DEFAULT_CONFIG", "/etc/eventferry/config.toml")
    assert "systemctl" not in used.run("status").output


def test_a_daemon_that_ended_without_a_word(used: Site) -> None:
    """After a kill -9 nobody wrote that it stopped: that needs a person."""
    ledger = used.ledger()
    with ledger.write() as tx:
        set_meta(tx, "heartbeat_ms", 1_700_000_000_000)
    assert status(used)["daemon"]["state"] == "died"
    assert used.run("status", "--exit-code").exit_code == 1
    with ledger.write() as tx:
        set_meta(tx, "stopped_ms", 1_700_000_000_001)
    ledger.close()
    assert status(used)["daemon"]["state"] == "stopped"


def test_an_edit_that_is_not_loaded_is_told(used: Site) -> None:
    """Whoever edited and forgot to reload reads it here; a refused edit is shown with its mistakes."""
    ledger = used.ledger()
    note_loaded(ledger, used.config, digest_of(used.config))
    assert status(used)["config"]["state"] == "loaded"
    used.config.write_text(used.config.read_text() + "# edited\n")
    assert status(used)["config"]["state"] == "edited"
    assert "the next start loads it" in used.run("status").output
    with app.own_state(used.state, wait=False):
        shown = used.run("status").output
    assert "not loaded" in shown
    assert "reload" in shown
    used.config.write_text(used.config.read_text() + "x = [\n")
    note_refused(ledger, used.config, digest_of(used.config), ("config.toml:9: is not TOML",))
    ledger.close()
    shown = used.run("status", "--exit-code")
    assert shown.exit_code == 1, shown.output
    assert "config.toml:9: is not TOML" in shown.output


def test_one_sink_or_source_only(used: Site) -> None:
    """A name that is not there is wrong usage."""
    assert used.run("status", "--sink", "archive", "--source", "events").exit_code == 0
    assert used.run("status", "--sink", "nobody").exit_code == 2


def total_of(sink: Any) -> int:
    parts = sum(sink["dead_parts"].values())
    assert parts == sink["dead"]
    return int(sink["delivered"] + sink["filtered"] + parts + sink["missing"] + sink["waiting"])


def test_numbers_add_up_after_dead_letters(site: Site) -> None:
    """Four letters: one retried, one dropped, two waiting; a replay undoes all. The parts are always the sum."""
    site.configure("odd")
    site.script.behave = refusing_events(b'"bad"')
    site.put("2024/01/31/00/a.ndjson.gz", ['{"n": 0}', *(f'{{"n": {n}, "bad": 1}}' for n in range(1, 5))])
    assert site.run("once").exit_code == 1
    (sink,) = status(site)["sinks"]
    assert sink["dead_parts"]["waiting"] == 4
    assert total_of(sink) == sink["indexed"] == 5
    letters = [str(row["id"]) for row in json.loads(site.run("dead-letters", "list", "--json").output)]
    site.script.behave = take
    assert site.run("dead-letters", "retry", letters[0]).exit_code == 0
    assert status(site)["sinks"][0]["dead_parts"]["retrying"] == 1
    site.run("once")
    assert site.run("dead-letters", "drop", letters[1], "--yes").exit_code == 0
    (sink,) = status(site)["sinks"]
    assert sink["dead_parts"] == {"waiting": 2, "retrying": 0, "retried": 1, "dropped": 1, "forgotten": 0}
    assert total_of(sink) == 5
    shown = site.run("status").output
    assert "5 indexed = 1 delivered + 1 delivered by a retry + 2 dead letters + 1 dead letter dropped" in shown
    replay = ["replay", "--sink", "odd", "--from", "2024-01-31", "--to", "2024-01-31", "--missing", "--yes"]
    assert site.run(*replay).exit_code == 0
    site.run("once")
    (sink,) = status(site)["sinks"]
    assert (total_of(sink), sink["delivered"]) == (5, 5)
    assert "indexed =" not in site.run("status").output  # the table says it all
    assert site.run(*replay[:-2], "--again", "--yes").exit_code == 0
    assert "5 indexed = 5 delivered; 5 more to be sent again by a replay" in site.run("status").output


def test_what_is_no_longer_configured_is_told_so(used: Site) -> None:
    """Taken out is not switched off: there is nothing to switch on."""
    used.config.write_text(f'state_dir = "{used.state}"\n')
    found = status(used)
    assert not found["sinks"][0]["configured"]
    assert not found["sources"][0]["configured"]
    shown = used.run("status").output
    assert shown.count("not in the config any more") == 2
    assert "switched off" not in shown


def test_a_broken_channel_is_told(used: Site) -> None:
    """Whoever relies on alerts sees here that none arrive; one that took a message since is fine."""
    used.configure(more='[[alerts.channels]]\nname = "ops"\ntype = "webhook"\nurl = "https://hook.invalid/x"\n')
    assert [each["failing"] for each in status(used)["channels"]] == [False]
    ledger = used.ledger()
    with ledger.write() as tx:
        write_notice(tx, level="error", event="sink.gap", subject="x", cause="sink.gap:x")
        (sent,) = sends.route(tx, lambda message, told: ["ops"])
        sends.record_failed(tx, sent[0].id, "ops", "404: no such hook", None)
    found = status(used)
    assert found["channels"][0] | {"failing": True, "given_up": 1, "error": "404: no such hook"} == found["channels"][0]
    assert found["needs_attention"]
    shown = used.run("status").output
    assert "ops does not work, 1 message given up: 404: no such hook" in shown
    assert "alert test --channel ops" in shown
    with ledger.write() as tx:
        write_notice(tx, level="error", event="sink.gap", subject="y", cause="sink.gap:y")
        (sent,) = sends.route(tx, lambda message, told: ["ops"])
        sends.record_sent(tx, sent[0].id, "ops", 1_700_000_000_000)
    ledger.close()
    assert not status(used)["channels"][0]["failing"]
    assert "ops (last message" in used.run("status").output


def test_without_a_sink_no_next_run_is_promised(used: Site) -> None:
    """Nothing is listed, and why is said."""
    used.config.write_text(used.config.read_text().replace('type = "file"', 'type = "file"\nenabled = false'))
    with app.own_state(used.state, wait=False):
        found = status(used)
        assert found["sources"][0]["next_run"] is None
        assert "no sink is enabled" in found["idle"]
        assert "nothing is listed: no sink is enabled" in used.run("status").output


def test_a_broken_config_is_told_before_any_daemon_ran(used: Site) -> None:
    """It is what keeps the first one from starting."""
    used.config.write_text(used.config.read_text() + "x = [\n")
    assert status(used)["config"]["state"] == "broken"
    assert "has mistakes" in used.run("status").output


def test_a_config_that_is_not_there_has_no_status(site: Site) -> None:
    """A typing error in --config is not an installation in which nothing has run."""
    site.config.rename(site.root / "elsewhere.toml")
    shown = site.run("status")
    assert shown.exit_code == 78
    assert "there is no such file" in shown.stderr
