"""One pass in the foreground: what is delivered, and what the exit code says about the rest."""

from pathlib import Path

from tests.scripted import raising, refusing_events, unavailable
from tests.unit.cli.conftest import Site

from eventferry import app
from eventferry.ledger import books
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
    assert shown.exit_code == 1, shown.output
    assert f"eventferry --config {site.config} once --drain" in shown.output
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
    site.script.behave = lambda batch, script: None
    site.run("resume", "odd")
    assert site.run("once").exit_code == 0
    assert len(site.script.lines()) == 3


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
    assert f"eventferry --config {used.config} check --source events" in shown.output
