"""Days that are replaced: every event once, in the form of today, whatever happens on the way."""

import json
import shutil
from pathlib import Path

import duckdb
import pytest
import sqlalchemy as sa
from tests.builders import Ferry, events, wait_until
from tests.troubled import TROUBLES

from eventferry.errors import UsageError
from eventferry.ledger import replay
from eventferry.ledger import tables as t
from eventferry.ledger.batches import OPEN
from eventferry.sink import BatchRejected, SinkUnavailable

FIRST, SECOND = "2026/01/01/00", "2026/01/02/00"
DAY = {"from": "2026-01-02", "to": "2026-01-02"}
README = Path(__file__).parents[3] / "sinks/eventferry_sinks/duckdb/README.md"
OLD, NEW = True, False  # whether an event still has the field that is dropped by now
OF_FIRST, OF_SECOND = list(range(20)), list(range(100, 120))


@pytest.fixture
def ferry(tmp_path):
    """Two days of twenty events each, in batches of seven; from now on a field is dropped."""
    with Ferry(tmp_path) as ferry:
        ferry.sinks["out"] = {
            "type": "tests.troubled:TroubledSink",
            "path": str(tmp_path / "bi.duckdb"),
            "timeout": "20s",
            "probe": "30ms",
            "retry": {"first": "1ms", "max": "10ms"},
            "batch": {"max_wait": "0s", "max_events": 7},
        }
        ferry.put(f"{FIRST}/a.ndjson", events(20))
        deliver(ferry)
        ferry.put(f"{SECOND}/b.ndjson", events(20, 100))
        deliver(ferry)
        assert rows(ferry) == [(n, OLD) for n in OF_FIRST + OF_SECOND]
        ferry.sinks["out"]["drop"] = ["event_type"]
        ferry.open()
        yield ferry


def deliver(ferry):
    ferry.open()
    ferry.index()
    ferry.deliver()


def trouble(ferry):
    return TROUBLES[ferry.sinks["out"]["path"]]


def query(ferry, sql, *values):
    with duckdb.connect(ferry.sinks["out"]["path"]) as file:
        return file.execute(sql, values).fetchall()


def rows(ferry):
    """Number and form of every event in the table."""
    found = [json.loads(event) for (event,) in query(ferry, "SELECT event FROM events")]
    return sorted((event["n"], "event_type" in event) for event in found)


def replayed(ferry, mode="replace", **days):
    said = ferry.do("replay", sink="out", mode=mode, **(days or DAY))
    settle(ferry)
    return said


def settle(ferry):
    """Let the sink work until nothing is on its way, replays included."""
    with ferry.working():
        wait_until(lambda: ferry.sink().state == "active" and not is_open(ferry))


def is_open(ferry):
    return any(batch.state in OPEN for batch in ferry.batches())


def in_place(*without):
    """The first day as it was, the second in its new form."""
    return [(n, OLD) for n in OF_FIRST] + [(n, NEW) for n in OF_SECOND if n not in without]


def refuse(marker):
    def behave(batch):
        if marker in batch.body:
            raise BatchRejected("it is poison")

    return behave


def lost_answers(count):
    """The first calls take effect, and are told to have failed."""
    left = iter(range(count))

    def behave(batch):
        if next(left, None) is not None:
            raise SinkUnavailable("the answer was lost")

    return behave


def test_a_day_is_replaced_and_no_other(ferry):
    """Each of its events is there once, in the form of today; the other day and the books are as they were."""
    before = ferry.book()
    said = replayed(ferry)
    assert said.startswith("3 batches are replaced at out")
    assert rows(ferry) == in_place()
    assert ferry.book() == before
    assert {id_ for (id_,) in query(ferry, "SELECT batch_id FROM events")} == {
        id_ for (id_,) in query(ferry, "SELECT batch_id FROM eventferry_batches")
    }


def test_new_columns_reach_old_rows(ferry):
    """What is configured later is filled in for the days that are replaced."""
    ferry.sinks["out"]["columns"] = {"n": {"path": "n", "type": "integer"}}
    ferry.open()
    replayed(ferry)
    found = query(ferry, "SELECT n FROM events WHERE n IS NOT NULL ORDER BY n")
    assert found == [(n,) for n in OF_SECOND]
    assert len(rows(ferry)) == 40


def test_twice_is_as_once(ferry):
    """The second one replaces the first."""
    replayed(ferry)
    assert replayed(ferry).startswith("3 batches")
    assert rows(ferry) == in_place()


def test_a_filter_that_takes_all_leaves_nothing(ferry):
    """An empty batch deletes what it replaces; a looser filter brings it back, also what was never sent before."""
    ferry.sinks["out"]["filter"] = [{"field": "n", "lt": 0}]
    ferry.open()
    replayed(ferry)
    assert rows(ferry) == [(n, OLD) for n in OF_FIRST]
    ferry.put("2026/01/02/01/c.ndjson", events(5, 200))
    deliver(ferry)  # filtered: the sink never sees it
    assert ferry.book().filtered == 5
    del ferry.sinks["out"]["filter"]
    ferry.open()
    replayed(ferry)
    assert rows(ferry) == [*in_place(), *((n, NEW) for n in range(200, 205))]


def test_a_refused_event_is_searched_for_and_replaced_later(ferry):
    """Halves replace the same and spare each other; what is refused is a dead letter until it is taken."""
    trouble(ferry).before = refuse(b'"n":103')
    replayed(ferry)
    assert rows(ferry) == in_place(103)
    assert [letter.reason for letter in ferry.letters()] == ["it is poison"]
    trouble(ferry).before = lambda batch: None
    replayed(ferry)
    assert rows(ferry) == in_place()
    assert ferry.letters() == []
    assert ferry.conditions() == {}


def test_what_was_sent_in_halves_is_replaced_in_halves(ferry):
    """Events that came as dead letters, one by one, are replaced with the batch that they came from."""
    trouble(ferry).before = refuse(b'"n":303')
    ferry.put("2026/01/03/00/c.ndjson", events(7, 300))
    deliver(ferry)
    trouble(ferry).before = lambda batch: None
    ferry.do("letters.retry", ids=[letter.id for letter in ferry.letters()])
    with ferry.working():
        wait_until(lambda: not ferry.letters(state="retrying"))
    assert rows(ferry)[-7:] == [(n, NEW) for n in range(300, 307)]
    ferry.sinks["out"]["drop"] = ["event_timestamp"]
    ferry.open()
    replayed(ferry, **{"from": "2026-01-03", "to": "2026-01-03"})
    assert rows(ferry)[-7:] == [(n, OLD) for n in range(300, 307)]
    assert len(rows(ferry)) == 47


@pytest.mark.parametrize("count", [1, 5])
def test_a_lost_answer_changes_nothing(ferry, count):
    """The same batch again finds itself, and replaces nothing twice."""
    trouble(ferry).after = lost_answers(count)
    replayed(ferry)
    assert rows(ferry) == in_place()


def test_a_refusal_after_a_lost_answer_is_asked_about(ferry):
    """A batch that is there already is not taken apart."""
    trouble(ferry).after = lost_answers(1)
    calls = iter(range(100))
    poison = refuse(b'"n":103')
    trouble(ferry).before = lambda batch: poison(batch) if next(calls) else None
    replayed(ferry)
    assert rows(ferry) == in_place()
    assert ferry.letters() == []


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_death_in_the_middle_changes_nothing(ferry, moment, tmp_path):
    """Killed before or after the sink's commit: the next process ends up with every event once."""
    copies = []

    def die(batch):
        if not copies:
            copies.append(ferry.crashed(tmp_path / "after the crash"))
        raise SinkUnavailable("the process is gone")

    setattr(trouble(ferry), moment, die)
    ferry.do("replay", sink="out", mode="replace", **DAY)
    with ferry.working():
        wait_until(lambda: copies)
    setattr(trouble(ferry), moment, lambda batch: None)
    (survivor,) = copies
    survivor.sinks["out"].pop("script")
    with survivor:
        settle(survivor.open())
        assert rows(survivor) == in_place()
        assert ferry.book() == survivor.book()


def test_duplicates_on_purpose_are_replaced_by_one(ferry):
    """However often the day was sent again, one copy is left."""
    replayed(ferry, "again")
    replayed(ferry, "again")
    assert len(rows(ferry)) == 80
    replayed(ferry)
    assert rows(ferry) == in_place()


def test_a_repair_does_not_undo_a_replacement(ferry):
    """What was replaced stays replaced; rows that were lost come back in their new form."""
    replayed(ferry)
    assert replayed(ferry, "missing").startswith("3 batches")
    assert rows(ferry) == in_place()
    (lost,) = query(ferry, "SELECT batch_id FROM events WHERE event->>'n' = '103'")[0]
    for table in ("events", "eventferry_batches", "eventferry_parts"):
        query(ferry, f"DELETE FROM {table} WHERE batch_id = ?", lost)
    assert len(rows(ferry)) == 33
    replayed(ferry, "missing")
    assert rows(ferry) == in_place()
    replayed(ferry)
    replayed(ferry, "missing")
    assert rows(ferry) == in_place()


@pytest.mark.parametrize("limit", [7, 11])
def test_a_ledger_that_is_built_anew_sends_nothing_twice(ferry, limit, tmp_path):
    """The parts of what was replaced stay known, under the ids of what replaced it."""
    trouble(ferry).before = refuse(b'"n":103')
    replayed(ferry)
    trouble(ferry).before = lambda batch: None
    ferry.close()
    shutil.rmtree(tmp_path / "state")
    ferry.set_batch(max_events=limit)
    deliver(ferry)
    assert rows(ferry) == in_place()  # and the dead letter that was lost with the ledger has come


@pytest.mark.parametrize("replacements", [1, 2])
def test_a_ledger_from_before_the_replacement_changes_nothing(ferry, tmp_path, replacements):
    """A backup that knows only the old batches, under the old filter, repairs nothing into the table."""
    del ferry.sinks["out"]["drop"]
    ferry.close()
    shutil.copytree(tmp_path / "state", tmp_path / "backup")
    for number in range(replacements):
        ferry.sinks["out"]["filter"] = [{"field": "n", "lt": 110 - number}]
        ferry.open()
        replayed(ferry)
    ferry.close()
    shutil.rmtree(tmp_path / "state")
    shutil.copytree(tmp_path / "backup", tmp_path / "state")
    ferry.open()
    replayed(ferry, "missing")
    assert rows(ferry) == [(n, OLD) for n in [*OF_FIRST, *range(100, 111 - replacements)]]


def test_rows_of_a_lost_ledger_hold_the_sink(ferry, tmp_path):
    """They cannot be told apart from what is to stay: a person is told which, and once they are gone it goes on."""
    ferry.close()
    shutil.rmtree(tmp_path / "state")
    ferry.set_batch(max_events=1000)
    deliver(ferry)
    assert len(rows(ferry)) == 40
    ferry.do("replay", sink="out", mode="replace", **DAY)
    with ferry.working():
        wait_until(lambda: ferry.sink().state == "held")
    assert len(rows(ferry)) == 40
    assert "6 batches of a lost ledger" in (ferry.sink().reason or "")
    recipe = README.read_text().split("```sql\n")[1].split("```")[0]
    for key in (f"{FIRST}/a.ndjson", f"{SECOND}/b.ndjson"):
        query(ferry, recipe.replace("KEY", key))
    settle(ferry)
    assert rows(ferry) == [(n, NEW) for n in OF_FIRST + OF_SECOND]  # one batch of both days, by then


def test_what_is_still_on_its_way_is_waited_for(ferry):
    """A batch of these days that arrived after its replacement would be there twice."""
    ferry.do("replay", sink="out", mode="again", **DAY)
    with pytest.raises(UsageError, match="3 batches of these days are still on the way to out"):
        ferry.do("replay", sink="out", mode="replace", **DAY)
    settle(ferry)
    replayed(ferry)
    assert rows(ferry) == in_place()


def test_an_interrupted_replacement_goes_on(ferry, monkeypatch):
    """Killed between two pages and asked for again, while the first page is on its way or delivered."""
    monkeypatch.setattr(replay, "PAGE", 1)
    real, pages = replay._copies, []

    def killed(*args):
        pages.append(args)
        if len(pages) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(replay, "_copies", killed)
    with pytest.raises(KeyboardInterrupt):
        ferry.do("replay", sink="out", mode="replace", **DAY)
    assert replayed(ferry).startswith("3 batches")
    assert rows(ferry) == in_place()
    assert ferry.rows(sa.select(t.meta.c.key).where(t.meta.c.key.startswith("replay:"))) == []


def test_an_interrupted_replacement_under_another_transform_begins_anew(ferry, monkeypatch):
    """What the first page wrote in its form of that time is replaced, too."""
    monkeypatch.setattr(replay, "PAGE", 1)
    real, pages = replay._copies, []

    def killed(*args):
        pages.append(args)
        if len(pages) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(replay, "_copies", killed)
    with pytest.raises(KeyboardInterrupt):
        ferry.do("replay", sink="out", mode="replace", **DAY)
    settle(ferry)
    del ferry.sinks["out"]["drop"]
    ferry.open()
    replayed(ferry)
    assert rows(ferry) == [(n, OLD) for n in OF_FIRST + OF_SECOND]


def test_what_cannot_be_written_anew_is_not_deleted(ferry, tmp_path):
    """The file is gone: its events stay as they were, and people are told."""
    ferry.sources["events"]["gone_after"] = "0s"
    path = tmp_path / "events" / SECOND / "b.ndjson"
    aside = path.rename(tmp_path / "aside")
    ferry.open()
    replayed(ferry)
    assert rows(ferry) == [(n, OLD) for n in OF_FIRST + OF_SECOND]
    assert "keeps some events as they were" in ferry.conditions()["events.dead:out"].subject
    aside.rename(path)
    replayed(ferry)
    assert rows(ferry) == in_place()
    assert ferry.letters() == []
    assert "events.dead:out" not in ferry.conditions()


def test_another_type_never_gets_what_replaces(ferry):
    """A sink whose type was changed meanwhile is held, instead of getting the events on top of the old ones."""
    ferry.do("replay", sink="out", mode="replace", **DAY)
    before = ferry.sinks["out"]
    ferry.add_sink("out", drop=["event_type"])
    ferry.open()
    with ferry.working():
        wait_until(lambda: ferry.sink().state == "held")
    assert "put the former type back" in (ferry.sink().reason or "")
    assert ferry.script().calls == []
    ferry.sinks["out"] = before
    ferry.open()
    settle(ferry)
    assert rows(ferry) == in_place()


def test_a_copy_that_lies_across_halves_is_replaced_by_all_of_them(ferry):
    """A day of which a batch was copied whole, and then repaired in halves: both halves replace the copy."""
    del ferry.sinks["out"]["drop"]
    ferry.open()
    replayed(ferry, "again")
    (lost,) = query(ferry, "SELECT batch_id FROM events WHERE event->>'n' = '103'")[0]
    for table in ("events", "eventferry_batches", "eventferry_parts"):
        query(ferry, f"DELETE FROM {table} WHERE batch_id = ?", lost)
    trouble(ferry).before = refuse(b'"n":103')
    replayed(ferry, "missing")
    trouble(ferry).before = lambda batch: None
    assert {batch.state for batch in ferry.batches()} >= {"split", "dead"}
    ferry.sinks["out"]["drop"] = ["event_type"]
    ferry.open()
    replayed(ferry)
    assert rows(ferry) == in_place()
    assert ferry.letters() == []


def test_a_sink_that_cannot_delete_is_held(ferry):
    """A batch that only deletes has no event to search for: a refusal is about the sink."""
    ferry.sinks["out"]["filter"] = [{"field": "n", "lt": 0}]
    ferry.open()

    def behave(batch):
        raise BatchRejected("no deleting here")

    trouble(ferry).before = behave
    ferry.do("replay", sink="out", mode="replace", **DAY)
    with ferry.working():
        wait_until(lambda: ferry.sink().state == "held")
        assert "no deleting here" in (ferry.sink().reason or "")
        trouble(ferry).before = lambda batch: None
        wait_until(lambda: ferry.sink().state == "active" and not is_open(ferry))
    assert rows(ferry) == [(n, OLD) for n in OF_FIRST]
    assert ferry.letters() == []
