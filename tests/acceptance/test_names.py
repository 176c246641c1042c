"""Names are identity: editing the configuration never resets memory, and never resends everything by surprise."""

import pytest
from tests.builders import HOUR, Ferry, event, events, numbers, put

from eventferry.errors import ConfigError


def used(ferry: Ferry) -> Ferry:
    """A ledger in use: a file delivered."""
    ferry.put(f"{HOUR}/a.ndjson", events(1234))
    ferry.open()
    ferry.index()
    ferry.deliver()
    return ferry


def refused(ferry: Ferry) -> str:
    with pytest.raises(ConfigError) as caught:
        ferry.open()
    return str(caught.value)


def renamed(table: dict, old: str, new: str, **more: object) -> None:
    table[new] = {**table.pop(old), **more}


def test_an_unknown_sink_on_a_used_ledger_is_refused_with_its_cost(tmp_path):
    """A new name must say where it starts; the refusal says how many events it would be sent."""
    with Ferry(tmp_path) as ferry:
        used(ferry)
        ferry.add_sink("more")
        words = refused(ferry)
        assert "sinks.more" in words
        assert "1,234 events" in words
        assert "start =" in words
        assert "renamed_from" in words


@pytest.mark.parametrize("start, count", [("earliest", 1234), ("latest", 0)])
def test_an_unknown_sink_that_says_where_it_starts_is_welcome(tmp_path, start, count):
    """Said on purpose, both ends are fine."""
    with Ferry(tmp_path) as ferry:
        used(ferry)
        ferry.add_sink("more", start=start)
        ferry.open().deliver()
        assert len(ferry.script("more").lines()) == count
        assert len(ferry.script("out").lines()) == 1234


def test_a_renamed_sink_keeps_its_memory(tmp_path):
    """Nothing is sent again under the new name, and a retry after the rename has the same id as before."""
    with Ferry(tmp_path) as ferry:
        used(ferry)
        ids = ferry.script().ids()
        renamed(ferry.sinks, "out", "exit", renamed_from="out")
        ferry.open()
        ferry.put(f"{HOUR}/b.ndjson", event(5000))
        ferry.index()
        script = ferry.sinks["exit"]["script"]
        assert script.endswith(":out")
        from tests.scripted import SCRIPTS

        from eventferry.pipeline.deliver import SinkWorker

        worker = SinkWorker(ferry.ledger, ferry.setups["exit"])
        worker.start()
        SCRIPTS[script].await_taken(1235)
        worker.stop()
        assert worker.join(20)
        assert SCRIPTS[script].ids()[: len(ids)] == ids
        assert numbers(SCRIPTS[script].lines())[-1] == 5000
        assert ferry.sink("exit").identity == "out"


def test_a_renamed_source_keeps_its_memory(tmp_path):
    """Its files are not taken again."""
    with Ferry(tmp_path) as ferry:
        used(ferry)
        renamed(ferry.sources, "events", "clicks", renamed_from="events")
        ferry.open()
        assert ferry.index("clicks").discovery.found == []
        ferry.put(f"{HOUR}/b.ndjson", event(5000), "events")
        assert len(ferry.index("clicks").discovery.found) == 1
        ferry.deliver()
        assert numbers(ferry.script().lines()) == [*range(1234), 5000]


def test_renaming_by_command_works_as_well(tmp_path):
    """After `rename`, the configuration with the new name needs nothing more."""
    with Ferry(tmp_path) as ferry:
        used(ferry)
        ferry.do("rename", what="source", old="events", new="clicks")
        renamed(ferry.sources, "events", "clicks")
        ferry.open()
        assert ferry.index("clicks").discovery.found == []


def test_an_unknown_source_on_a_used_ledger_is_refused(tmp_path):
    """A source under a new name would take all of its files again."""
    with Ferry(tmp_path) as ferry:
        used(ferry)
        renamed(ferry.sources, "events", "clicks")
        assert "sources.clicks" in refused(ferry)


def test_a_rename_from_a_name_that_nobody_knows_is_refused(tmp_path):
    """A typing mistake in `renamed_from` must not start from nothing."""
    with Ferry(tmp_path) as ferry:
        used(ferry)
        renamed(ferry.sinks, "out", "exit", renamed_from="uot")
        assert "'uot' is not known" in refused(ferry)


def test_every_mistake_is_named_at_once(tmp_path):
    """Two unknown sinks and an unknown source: three sentences."""
    with Ferry(tmp_path) as ferry:
        used(ferry)
        ferry.add_sink("one")
        ferry.add_sink("two")
        renamed(ferry.sources, "events", "clicks")
        with pytest.raises(ConfigError) as caught:
            ferry.open()
        assert len(caught.value.problems) == 3


def test_a_changed_root_is_refused_until_the_move_is_declared(tmp_path):
    """Another place under the same name is either a move, which must be said, or another source."""
    with Ferry(tmp_path) as ferry:
        used(ferry)
        (tmp_path / "events").rename(tmp_path / "moved")
        ferry.sources["events"]["url"] = str(tmp_path / "moved")
        words = refused(ferry)
        assert "moved_from" in words
        assert str(tmp_path / "moved") in words
        ferry.sources["events"]["moved_from"] = str(tmp_path / "events")
        ferry.open()
        assert ferry.index(full=True).indexed.files == 0
        ferry.deliver()
        assert len(ferry.script().lines()) == 1234


def test_a_mistyped_root_that_held_nothing_is_simply_corrected(tmp_path):
    """Where no file was ever seen there is nothing to confuse: no move needs to be declared."""
    with Ferry(tmp_path) as ferry:
        ferry.open()
        assert ferry.index(full=True).indexed.files == 0
        (tmp_path / "evnts").mkdir()
        ferry.sources["events"]["url"] = str(tmp_path / "evnts")
        put(tmp_path / "evnts", f"{HOUR}/a.ndjson.gz", events(3))
        ferry.open()
        assert ferry.index().indexed.files == 1


def test_on_a_fresh_ledger_every_name_is_welcome(tmp_path):
    """Nothing was ever sent: renaming costs nothing."""
    with Ferry(tmp_path) as ferry:
        ferry.open()
        renamed(ferry.sources, "events", "clicks")
        ferry.add_sink("more")
        ferry.open()


def test_a_sink_switched_off_and_on_resumes_where_it_was(tmp_path):
    """Nothing is skipped and nothing repeated; other sinks go on meanwhile."""
    with Ferry(tmp_path, sinks=("out", "other")) as ferry:
        used(ferry)
        ferry.sinks["out"]["enabled"] = False
        ferry.open()
        ferry.put(f"{HOUR}/b.ndjson", event(5000))
        ferry.index()
        ferry.deliver()
        assert len(ferry.script("out").lines()) == 1234
        assert len(ferry.script("other").lines()) == 1235
        del ferry.sinks["out"]["enabled"]
        ferry.open().deliver()
        assert numbers(ferry.script("out").lines()) == [*range(1234), 5000]


STARTS = ["latest", "2026-01-02", {"events": "2026-01-02"}]


@pytest.mark.parametrize("start", STARTS, ids=["latest", "date", "table"])
def test_a_sinks_start_holds_on_a_fresh_ledger(tmp_path, start):
    """What lies before it is not owed, though the log was empty when the sink was registered."""
    with Ferry(tmp_path, sinks=("all", "late")) as ferry:
        ferry.sinks["late"]["start"] = start
        ferry.put("2026/01/01/00/a.ndjson", events(10))
        ferry.open()
        ferry.index()
        ferry.deliver()
        assert (len(ferry.script("all").lines()), len(ferry.script("late").lines())) == (10, 0)
        assert (ferry.book("late").indexed, ferry.book("late").waiting) == (0, 0)
        ferry.restart()
        ferry.put("2026/01/01/01/b.ndjson", events(10, 10))
        ferry.put("2026/01/02/00/c.ndjson", events(10, 20), age=-3600 if start == "latest" else 3600)
        ferry.sources["events"]["settle"] = "0s"
        ferry.open()
        ferry.index()
        ferry.deliver()
        assert numbers(ferry.script("late").lines()) == list(range(20, 30))
        assert ferry.book("late").indexed == ferry.book("late").delivered == 10
        ferry.put("2026/01/01/02/d.ndjson", events(10, 30))  # it has begun: late files are owed like any other
        ferry.index(full=True)
        ferry.deliver()
        assert numbers(ferry.script("late").lines()) == list(range(20, 40))
