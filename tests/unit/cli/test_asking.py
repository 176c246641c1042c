"""What is asked of the daemon, and what is done at once where none runs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import pytest
import sqlalchemy as sa
from tests.scripted import unavailable
from tests.unit.cli.conftest import Site

from eventferry import app
from eventferry.cli import asking
from eventferry.errors import ConfigError
from eventferry.ledger import sinks, tables
from eventferry.service import carry_out


class Reloading:
    """The daemon's side of requests; its reload is refused or not, as a test says."""

    def __init__(self, outcome: list[str] | ConfigError) -> None:
        self.outcome = outcome

    def reload(self) -> list[str]:
        if isinstance(self.outcome, ConfigError):
            raise self.outcome
        return self.outcome

    def wake_sinks(self) -> None: ...

    def run_now(self, source: str | None) -> list[str]:
        return []


@contextmanager
def daemon(site: Site, outcome: list[str] | ConfigError) -> Iterator[None]:
    """Hold the ledger and carry out requests, as the daemon does."""
    ledger, done = site.ledger(), threading.Event()

    def serve() -> None:
        while not done.wait(0.05):
            carry_out.carry_out(ledger, Reloading(outcome))

    thread = threading.Thread(target=serve)
    with app.own_state(site.state, wait=False):
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            ledger.close()


def state_of(site: Site, name: str) -> Any:
    ledger = site.ledger()
    with ledger.read() as tx:
        row = sinks.get_sink(tx, name)
    ledger.close()
    return None if row is None else row.state


def test_pause_and_resume_without_a_daemon(used: Site) -> None:
    """Done at once, and remembered by the next run."""
    assert used.run("pause", "archive").exit_code == 0
    assert state_of(used, "archive") == "paused"
    used.put("2024/01/31/01/b.ndjson.gz", 2)
    shown = used.run("once")
    assert shown.exit_code == 1, shown.output
    assert "sink archive is paused; 2 events wait" in shown.output
    assert used.run("resume", "archive").exit_code == 0
    assert used.run("once").exit_code == 0


def test_what_is_so_already_is_said(site: Site) -> None:
    """No action is claimed where none was needed; a sink that fails is told as such when it is resumed."""
    site.configure("odd", more='retry = { first = "1h", max = "1h" }\n')
    assert site.run("once").exit_code == 0
    assert "is active already" in site.run("resume", "odd").output
    assert site.run("pause", "odd").exit_code == 0
    again = site.run("pause", "odd")
    assert again.exit_code == 0
    assert "is paused already" in again.output
    assert "was paused; it is tried now" in site.run("resume", "odd").output
    site.put("2024/01/31/01/b.ndjson.gz", 2)
    site.script.behave = unavailable()
    assert site.run("once").exit_code == 1
    assert "next try " in site.run("status").output
    assert "odd was waiting to be tried again; it is tried now" in site.run("resume", "odd").output


@pytest.mark.parametrize(
    ("type_", "words"),
    [
        ("file", "its old id: it takes what it lacks"),
        ("console", "its old id: what it has already it gets a second time."),
        ("http", "it gets a second time, unless its receiver knows the keys of batches"),
    ],
)
def test_a_repair_promises_no_more_than_the_type(used: Site, type_: str, words: str) -> None:
    """Only a sink whose type makes repeats harmless takes no event twice."""
    ledger = used.ledger()
    with ledger.write() as tx:
        tx.execute(sa.update(tables.sinks).values(type=type_))
    ledger.close()
    assert words in replay(used, "--missing").output


def test_pause_through_the_daemon(used: Site) -> None:
    """The daemon does it and the command tells what it said."""
    with daemon(used, []):
        shown = used.run("pause", "archive")
    assert shown.exit_code == 0, shown.output
    assert "is paused" in shown.output
    assert state_of(used, "archive") == "paused"


def test_an_unknown_sink_is_wrong_usage(used: Site) -> None:
    """With the names that there are."""
    shown = used.run("pause", "archiv")
    assert shown.exit_code == 2
    assert "known are: archive" in shown.stderr


def test_a_daemon_that_does_not_answer(used: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command gives up; the request stays."""
    monkeypatch.setattr(asking, "PATIENCE_SECONDS", 0.2)
    with app.own_state(used.state, wait=False):
        shown = used.run("pause", "archive")
    assert shown.exit_code == 1, shown.output
    assert "has not answered" in shown.stderr
    assert state_of(used, "archive") == "active"


def test_reload_tells_what_changed(used: Site) -> None:
    """Each change in a line."""
    with daemon(used, ["sources.events.interval: 10m → 5m"]):
        shown = used.run("reload")
    assert shown.exit_code == 0, shown.output
    assert "sources.events.interval: 10m → 5m" in shown.output


def test_reload_of_a_broken_edit_reaches_the_daemon(used: Site) -> None:
    """It refuses, and its reasons are printed; the exit code is 1, as `systemctl reload` expects."""
    used.config.write_text(used.config.read_text() + "\nx = [\n")
    with daemon(used, ConfigError("config.toml:12: is not TOML", "sinks[0].name: is missing")):
        shown = used.run("reload", "--wait")
    assert shown.exit_code == 1, shown.output
    assert "config.toml:12: is not TOML" in shown.stderr
    assert "sinks[0].name: is missing" in shown.stderr
    assert shown.stdout == ""


def test_reload_without_a_daemon(used: Site) -> None:
    """There is nobody to load anything."""
    shown = used.run("reload")
    assert shown.exit_code == 1, shown.output
    assert "no daemon is running" in shown.stderr


def test_reload_without_waiting(used: Site) -> None:
    """The request is left, and the outcome is where the text says."""
    with app.own_state(used.state, wait=False):
        shown = used.run("reload", "--no-wait")
    assert shown.exit_code == 0, shown.output
    assert "eventferry status" in shown.output


def test_rename_keeps_the_memory(used: Site) -> None:
    """Under the new name nothing is sent again; while the daemon runs it is refused."""
    with app.own_state(used.state, wait=False):
        beside = used.run("rename", "sink", "archive", "warehouse")
    assert beside.exit_code == 75
    assert 'renamed_from = "archive"' in beside.stderr
    assert state_of(used, "archive") == "active"
    assert used.run("rename", "sink", "archive", "warehouse").exit_code == 0
    assert used.run("rename", "sink", "archive", "other").exit_code == 2
    used.config.write_text(used.config.read_text().replace('"archive"', '"warehouse"'))
    before = sorted(used.out.rglob("*.ndjson"))
    assert used.run("once").exit_code == 0
    assert sorted(used.out.rglob("*.ndjson")) == before


def replay(site: Site, *how: str, first: str = "2024-01-31", last: str = "2024-01-31", sink: str = "archive") -> Any:
    return site.run("replay", "--sink", sink, "--from", first, "--to", last, *how)


def test_replay_says_first_what_it_means(used: Site) -> None:
    """How many batches and events; without a yes nothing is sent."""
    shown = replay(used, "--again")
    assert shown.exit_code == 2
    assert "1 batch with 3 events" in shown.output
    assert used.run("once").exit_code == 0
    assert len(list(used.out.rglob("*.ndjson"))) == 1


def test_replay_again_duplicates_on_purpose_and_missing_repairs(used: Site) -> None:
    """New ids make a second file; old ids bring back one that was lost."""
    assert replay(used, "--again", "--yes").exit_code == 0
    assert used.run("once").exit_code == 0
    files = sorted(used.out.rglob("*.ndjson"))
    assert len(files) == 2
    for path in files:
        path.unlink()
    assert replay(used, "--missing", "--yes").exit_code == 0
    assert used.run("once").exit_code == 0
    assert [path for path in sorted(used.out.rglob("*.ndjson")) if path in files]


@pytest.mark.parametrize(
    "args",
    [
        {"how": []},
        {"how": ["--again", "--missing"]},
        {"how": ["--replace"]},
        {"how": ["--again"], "first": "yesterday"},
        {"how": ["--again"], "first": "2024-02-01"},
        {"how": ["--again"], "sink": "nobody"},
    ],
)
def test_a_replay_that_means_nothing(used: Site, args: dict[str, Any]) -> None:
    """Wrong dates, names or modes are wrong usage."""
    assert replay(used, *args.pop("how"), "--yes", **args).exit_code == 2


def test_only_some_types_can_replace(used: Site) -> None:
    """Refused by the type's name, with the types that can; nothing is asked and nothing sent."""
    shown = replay(used, "--replace", "--yes")
    assert shown.exit_code == 2
    assert "sinks of type 'file' cannot replace events in one transaction;" in shown.stderr
    assert "duckdb, mysql, postgres, redshift and snowflake can" in " ".join(shown.stderr.split())


def test_replace_says_first_what_it_means(site: Site) -> None:
    """What is deleted and what is written; afterwards each event is there once."""
    path = site.root / "bi.duckdb"
    site.configure(more=f'[[sinks]]\nname = "bi"\ntype = "duckdb"\npath = "{path}"\nstart = "earliest"\n')
    assert site.run("once").exit_code == 0
    shown = replay(site, "--replace", sink="bi")
    assert shown.exit_code == 2
    assert (
        "what sink bi holds of 1 batch (3 events before any filter) will be deleted, and written anew" in shown.output
    )
    shown = replay(site, "--replace", "--yes", sink="bi")
    assert "1 batch goes to sink bi again, in place of what it has" in shown.output
    assert replay(site, "--replace", "--yes", sink="bi").exit_code == 2  # the first one is still on its way
    assert site.run("once").exit_code == 0
    with duckdb.connect(str(path), read_only=True) as file:
        assert file.execute("SELECT count(*), count(DISTINCT batch_id) FROM events").fetchall() == [(3, 1)]


def test_replay_of_days_without_events(used: Site) -> None:
    """Nothing to do is said, and is no failure."""
    shown = replay(used, "--again", first="2020-01-01", last="2020-01-02")
    assert shown.exit_code == 0, shown.output
    assert "nothing to replay" in shown.output


def test_a_dry_run_of_prune_changes_nothing(used: Site) -> None:
    """What it says would go is still there; the real one takes it, but never beside a daemon."""
    used.config.write_text(used.config.read_text().replace("[execution]", '[ledger]\nretention = "1ms"\n[execution]'))
    shown = used.run("prune", "--dry-run")
    assert shown.exit_code == 0, shown.output
    assert "Would go" in shown.output
    assert used.run("prune", "--dry-run").output == shown.output
    with app.own_state(used.state, wait=False):
        assert used.run("prune").exit_code == 75
    assert used.run("prune").output.replace("Gone, as it was", "Would go, as it is") == shown.output
    assert used.run("prune", "--dry-run").output != shown.output


def test_rename_says_what_the_configuration_means_now(used: Site) -> None:
    """Unedited, it would make a new sink of the old name: refused, or sent everything again."""
    shown = used.run("rename", "sink", "archive", "warehouse")
    assert shown.exit_code == 0, shown.output
    line = used.config.read_text().split("\n").index('name = "archive"') + 1
    assert f'{used.config}:{line}: sinks[0].name still says "archive"' in shown.output
    assert "refuses that name" in shown.output
    assert 'write name = "warehouse"' in shown.output
    used.config.write_text(used.config.read_text().replace('"archive"', '"warehouse"\nstart = "earliest"'))
    shown = used.run("rename", "sink", "warehouse", "archive")
    assert "a new sink: it starts at earliest, 3 events, " in shown.output
    used.config.write_text(used.config.read_text().replace('"warehouse"', '"archive"'))
    assert used.run("rename", "sink", "archive", "other").exit_code == 0
    assert "nothing is left to do" in used.run("rename", "sink", "other", "archive").output
    assert 'write name = "clicks"' in used.run("rename", "source", "events", "clicks").output


@pytest.mark.parametrize(
    "old, new, why",
    [
        ("nobody", "x", "there is no sink 'nobody' in the ledger; known are: archive"),
        ("archive", "archive", "has that name already"),
        ("archive", "A b", "'A b' is not a name"),
    ],
)
def test_a_rename_that_cannot_be(used: Site, old: str, new: str, why: str) -> None:
    """One reason each, not two to choose from."""
    shown = used.run("rename", "sink", old, new)
    assert shown.exit_code == 2
    assert why in shown.stderr


def test_a_rename_to_a_name_in_use(used: Site) -> None:
    """Both have memories; none is overwritten."""
    sink = f'[[sinks]]\nname = "odd"\ntype = "tests.scripted:ScriptedSink"\nscript = "{used.root}"\nstart = "latest"\n'
    used.configure(more=sink)
    assert used.run("once").exit_code == 0
    shown = used.run("rename", "sink", "archive", "odd")
    assert shown.exit_code == 2
    assert "there is a sink 'odd' in the ledger already" in shown.stderr


def test_a_replay_says_that_batches_reach_beyond_the_days(site: Site) -> None:
    """A batch of two days goes whole, so events of the other day go with it: with counts, before the yes."""
    site.put("2024/02/01/00/b.ndjson.gz", 4)
    assert site.run("once").exit_code == 0
    shown = replay(site, "--again")
    assert "2024-01-31 (UTC): 1 file of which it got events" in shown.output
    assert "Whole batches are sent: 1 batch with 7 events" in shown.output
    assert "Among them are 4 events of 1 file of other days" in shown.output
    assert "Among them" not in replay(site, "--again", last="2024-02-01").output
    assert "1 batch goes to sink archive again" in replay(site, "--again", "--yes").output
