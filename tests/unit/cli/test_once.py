"""One pass in the foreground: what is delivered, and what the exit code says about the rest."""

import json
import os
import time
from pathlib import Path

import pytest
from tests.scripted import raising, refusing_events, unavailable
from tests.unit.cli.conftest import Site
from typer.testing import Result

from eventferry import app, clock
from eventferry.ledger import books, objects
from eventferry.pipeline.ending import RELEASED
from eventferry.sink import SinkMisconfigured


def delivered(out: Path) -> int:
    """Events in the files that the sink wrote."""
    return sum(len(path.read_bytes().splitlines()) for path in out.rglob("*.ndjson"))


def test_everything_available_is_delivered(site: Site) -> None:
    """Exit code 0 means that every sink has every event, and the summary says so."""
    site.put("2024/01/31/01/b.ndjson.gz", 4)
    shown = site.run("once")
    assert shown.exit_code == 0, shown.output
    assert "Everything is delivered" in shown.output
    assert delivered(site.out) == 7
    assert site.is_free()


def test_a_second_pass_sends_nothing_again(used: Site) -> None:
    """`once` may run from cron for years."""
    assert used.run("once").exit_code == 0
    assert delivered(used.out) == 3


def test_more_files_than_a_run_takes(site: Site) -> None:
    """One pass keeps to max_files and says how to get the rest; --drain gets it."""
    site.configure(source="max_files = 2")
    for number in range(5):
        site.put(f"2024/01/31/01/{number}.ndjson.gz", 1)
    shown = site.run("once")
    assert shown.exit_code == 0, shown.output  # nothing failed: `set -e` in a script does not end here
    assert "source events has more new files than one run takes (max_files)" in shown.output
    assert f"eventferry --config {site.config} once --drain" in shown.output
    assert "Everything else is delivered" in shown.output
    assert site.run("once", "--drain").exit_code == 0
    assert delivered(site.out) == 8


def test_a_truncated_file_is_named_with_the_next_command(site: Site) -> None:
    """What waits for a person makes the exit code 1."""
    site.put("2024/01/31/01/cut.ndjson.gz", 50, cut=20)
    shown = site.run("once")
    assert shown.exit_code == 1, shown.output
    assert "1 file is quarantined" in shown.output
    assert "eventferry files list --state quarantined" in shown.output
    assert delivered(site.out) == 3


def test_a_file_that_cannot_be_read_yet_is_named(site: Site) -> None:
    """Truncated and young, it is tried again for a while; each pass says which it is, why, and where to look."""
    path = site.put("2024/01/31/01/cut.ndjson.gz", 50, cut=20)
    now = time.time()
    os.utime(path, (now - 600, now - 600))
    for _ in range(2):  # the second pass does not try it: it is too early
        shown = site.run("once")
        assert shown.exit_code == 1, shown.output
        assert "source events: 1 file could not be read yet; 2024/01/31/01/cut.ndjson.gz: " in shown.output
        assert "truncated" in shown.output
        assert "Everything" not in shown.output
        assert f"eventferry --config {site.config} files list --state seen --source events" in shown.output
    assert "truncated" in site.run("files", "list", "--state", "seen").output
    assert "1 not readable yet" in site.run("status").output
    assert f"eventferry --config {site.config} files list --state seen" in site.run("status").output
    (source,) = json.loads(site.run("status", "--json").output)["sources"]
    assert source["unreadable"] == 1


def test_a_released_file_that_could_not_be_read_since_is_named(site: Site) -> None:
    """What a person released is not delivered before it was read: neither done nor forgotten."""
    site.put("2024/01/31/01/cut.ndjson.gz", 50, cut=20)
    site.run("once")
    ledger = app.open_existing_ledger(app.load_config(site.config))
    with ledger.write() as tx:
        (row,) = objects.find_objects(tx, state="quarantined")
        objects.requeue(tx, [row.id], RELEASED)
        objects.postpone_object(tx, row.id, clock.now_ms() + 60_000, RELEASED)
    ledger.close()
    shown = site.run("once")
    assert shown.exit_code == 1, shown.output
    assert "1 file could not be read yet; 2024/01/31/01/cut.ndjson.gz" in shown.output
    assert "1 not readable yet" in site.run("status").output


def test_a_held_sink_delays_nobody(site: Site) -> None:
    """The healthy sink has everything; the other one is named with its reason and the command for it."""
    site.configure("file, odd")
    site.script.behave = raising(SinkMisconfigured("401: who are you?"))
    shown = site.run("once")
    assert shown.exit_code == 1, shown.output
    assert "sink odd is held; 3 events wait: 401: who are you?" in shown.output
    assert "eventferry resume odd" in shown.output
    assert delivered(site.out) == 3


def test_a_sink_that_does_not_answer_keeps_its_events(site: Site) -> None:
    """Waiting is not delivered: exit code 1, and the next pass goes on."""
    site.configure("odd", more='retry = { first = "1ms" }\n')
    site.script.behave = unavailable()
    shown = site.run("once")
    assert shown.exit_code == 1, shown.output
    assert "3 events wait: answered 503" in shown.output
    assert f"eventferry --config {site.config} check --sink odd" in shown.output
    site.script.behave = lambda batch, script: None
    site.run("resume", "odd")
    assert site.run("once").exit_code == 0
    assert len(site.script.lines()) == 3


def test_a_function_that_raises_is_told_with_its_line(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The place in the code is where to look; `status` shows that the sink fails, and when it is tried again."""
    (site.root / "own_sink.py").write_text("def take(text):\n    raise KeyError('amount')\n")
    monkeypatch.syspath_prepend(str(site.root))
    site.configure(
        "none", more='[[sinks]]\nname = "fn"\ntype = "own_sink:take"\nretry = { first = "1h", max = "1h" }\n'
    )
    shown = site.run("once")
    assert shown.exit_code == 1, shown.output
    assert "sink fn: 3 events wait: KeyError: 'amount' (at " in shown.output
    assert "look at the line of code that is named above; once it is mended: eventferry --config" in shown.output
    shown = site.run("status")
    assert "trying again" in shown.output
    assert "; next try " in shown.output
    assert "No open problems" not in shown.output
    assert "sink fn fails" in shown.output


def test_vanished_events_are_not_called_refused(site: Site) -> None:
    """Nothing was refused, and there are no bytes to keep."""
    site.configure("odd", source='gone_after = "0s"')
    site.script.behave = unavailable()
    assert site.run("once").exit_code == 1
    for path in site.store.rglob("*.gz"):
        path.rename(site.root / path.name)
    site.script.behave = lambda batch, script: None
    shown = _until(site, "not sent")
    assert shown.exit_code == 1
    assert "sink odd: 3 events were not sent, because the file is gone or was rewritten in the store" in shown.output
    assert "refused" not in shown.output


def _until(site: Site, words: str) -> Result:
    """Passes, until one says that."""
    for _ in range(10):
        site.run("resume", "odd")
        shown = site.run("once")
        if words in shown.output:
            return shown
    raise AssertionError(shown.output)


def test_refused_events_are_kept_and_told(site: Site) -> None:
    """Dead letters make the exit code 1."""
    site.configure("odd")
    site.script.behave = refusing_events(b'"n": 1')
    shown = site.run("once")
    assert shown.exit_code == 1, shown.output
    assert "eventferry dead-letters list --sink odd" in shown.output
    assert len(site.script.calls) == 1  # the sink took the other two in the same call


def test_without_a_sink_nothing_is_listed(site: Site) -> None:
    """Nobody wants events: the store is left alone, no ledger appears, and the text says why."""
    site.configure("none")
    shown = site.run("once")
    assert shown.exit_code == 0, shown.output
    assert "no sink is enabled" in shown.output
    assert not site.state.exists()


def test_young_files_are_left_for_later(site: Site) -> None:
    """A file that may still be being written is no reason to fail."""
    fresh = site.put("2024/01/31/01/new.ndjson.gz", 5)
    fresh.touch()
    shown = site.run("once")
    assert shown.exit_code == 0, shown.output
    assert "1 file may still be being written" in shown.output
    assert delivered(site.out) == 3


def test_an_unknown_source_is_wrong_usage(site: Site) -> None:
    """A mistyped name does not look like an empty store."""
    shown = site.run("once", "--source", "evnts")
    assert shown.exit_code == 2
    assert "known are: events" in shown.stderr


def test_while_the_daemon_runs(used: Site) -> None:
    """Two writers never share a ledger."""
    with app.own_state(used.state, wait=False):
        shown = used.run("once")
    assert shown.exit_code == 75


def test_the_books_balance_afterwards(site: Site) -> None:
    """Lines = events + bad + blank, indexed = delivered."""
    site.put("2024/01/31/01/b.ndjson.gz", ['{"n":1}', "", "{broken", '{"n":2}'])
    assert site.run("once").exit_code == 0
    ledger = site.ledger()
    with ledger.read() as tx:
        (source,), (sink,) = books.source_books(tx), books.sink_books(tx)
    ledger.close()
    assert (source.lines, source.events, source.bad, source.blank) == (7, 5, 1, 1)
    assert source.balance
    assert (sink.delivered, sink.waiting) == (5, 0)
    assert sink.balance


def test_a_store_that_is_gone_is_told(used: Site) -> None:
    """An unmounted disk is not the same as no new files."""
    used.store.rename(used.root / "elsewhere")
    shown = used.run("once")
    assert shown.exit_code == 1, shown.output
    assert "could not be listed" in shown.output
    assert "nothing new" not in shown.stderr
    assert f"eventferry --config {used.config} check --source events" in shown.output
