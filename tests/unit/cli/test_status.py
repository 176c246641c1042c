"""What `status` says, to people and to programs."""

import json
from typing import Any

from tests.scripted import raising, refusing_events
from tests.unit.cli.conftest import Site

from eventferry import app
from eventferry.ledger.database import set_meta
from eventferry.service.reload import digest_of, note_loaded, note_refused
from eventferry.sink import SinkMisconfigured


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
    assert sink <= set(found["sinks"][0])


def test_a_held_sink_is_told_with_its_reason_and_its_command(site: Site) -> None:
    """The one thing that a person at three in the morning needs."""
    site.configure("odd")
    site.script.behave = raising(SinkMisconfigured("401: who are you?"))
    site.run("once")
    shown = site.run("status", "--exit-code")
    assert shown.exit_code == 1, shown.output
    for word in ("held", "401: who are you?", "eventferry resume odd"):
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
    assert "not loaded" in used.run("status").output
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
