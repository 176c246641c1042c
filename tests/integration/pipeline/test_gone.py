"""Files that vanish or change between index and delivery: awaited, then counted as missing; the rest goes on."""

import os
from datetime import timedelta

import pytest
import sqlalchemy as sa
from tests.builders import HOUR, Ferry, events, numbers, put, wait_until
from tests.scripted import take, unavailable

from eventferry import clock
from eventferry.ledger import tables as t


def ready(ferry: Ferry, patience: str = "0s") -> Ferry:
    """Three files of ten events in the log."""
    ferry.sources["events"]["gone_after"] = patience
    for number, name in enumerate("abc"):
        ferry.put(f"{HOUR}/{name}.ndjson", events(10, 10 * number))
    ferry.open()
    ferry.index()
    return ferry


def test_a_vanished_file_becomes_a_dead_letter_and_the_rest_goes_on(tmp_path):
    """After gone_after its range is counted missing and told; the files around it are delivered."""
    with Ferry(tmp_path) as ferry:
        ready(ferry)
        (tmp_path / "events" / HOUR / "b.ndjson").unlink()
        ferry.deliver()
        assert numbers(ferry.script().lines()) == [*range(10), *range(20, 30)]
        (letter,) = ferry.letters()
        assert (letter.kind, letter.place, letter.events) == ("source_gone", f"{HOUR}/b.ndjson:1", 10)
        assert (ferry.book().delivered, ferry.book().missing) == (20, 10)
        assert ferry.conditions()["events.dead:out"].fields["events"] == 10


def test_what_lies_before_a_vanished_file_does_not_wait_for_it(tmp_path):
    """Events that can be read are delivered while people still may bring the lost file back."""
    with Ferry(tmp_path) as ferry:
        ready(ferry, "24h")
        (tmp_path / "events" / HOUR / "b.ndjson").unlink()
        with ferry.working():
            ferry.script().await_taken(10)
            wait_until(lambda: any(cause.startswith("file.gone:") for cause in ferry.conditions()))
        assert numbers(ferry.script().lines()) == list(range(10))
        assert (ferry.book().waiting, ferry.letters()) == (20, [])


def test_a_file_that_comes_back_is_delivered_and_the_alert_ends(tmp_path):
    """Patience pays: the same bytes back in place, and everything arrives."""
    with Ferry(tmp_path) as ferry:
        ready(ferry, "24h")
        path = tmp_path / "events" / HOUR / "b.ndjson"
        aside = path.rename(tmp_path / "aside")
        with ferry.working():
            wait_until(lambda: any(cause.startswith("file.gone:") for cause in ferry.conditions()))
        aside.rename(path)
        ferry.deliver()
        assert numbers(ferry.script().lines()) == list(range(30))
        assert ferry.conditions() == {}


def test_other_bytes_under_the_same_key_are_never_sent_in_its_place(tmp_path):
    """Reads are pinned to the version that was indexed."""
    with Ferry(tmp_path) as ferry:
        ready(ferry)
        put(tmp_path / "events", f"{HOUR}/b.ndjson", events(10, 500), age=3600)
        ferry.deliver()
        assert numbers(ferry.script().lines()) == [*range(10), *range(20, 30)]
        assert ferry.book().missing == 10


def test_bytes_changed_in_place_with_time_and_size_kept_are_noticed(tmp_path):
    """The digest of every range is checked: a store that lies about versions cannot smuggle other events in."""
    with Ferry(tmp_path) as ferry:
        ready(ferry)
        path = tmp_path / "events" / HOUR / "b.ndjson"
        before = path.stat()
        with path.open("r+b") as file:
            file.write(events(10, 90))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        ferry.deliver()
        assert numbers(ferry.script().lines()) == [*range(10), *range(20, 30)]
        assert ferry.book().missing == 10


def test_an_attempted_batch_loses_only_what_is_really_gone(tmp_path):
    """A batch over three files that was sent in vain: the two living files still arrive when the third is given up."""
    with Ferry(tmp_path) as ferry:
        ferry.sinks["out"]["retry"] = {"first": "1ms", "max": "10ms"}
        ferry.script().behave = unavailable()
        with ready(ferry).working():
            ferry.script().await_calls(1)
        assert ferry.script().calls[0].events == 30
        (tmp_path / "events" / HOUR / "b.ndjson").unlink()
        ferry.script().behave = take
        ferry.deliver()
        assert numbers(ferry.script().lines()) == [*range(10), *range(20, 30)]
        assert (ferry.book().delivered, ferry.book().missing) == (20, 10)
        assert [letter.events for letter in ferry.letters()] == [10]


def test_all_files_of_an_attempted_batch_gone(tmp_path):
    """Every range becomes a dead letter by its place; the books balance."""
    with Ferry(tmp_path) as ferry:
        ferry.script().behave = unavailable()
        with ready(ferry).working():
            ferry.script().await_calls(1)
        for name in "abc":
            (tmp_path / "events" / HOUR / f"{name}.ndjson").unlink()
        ferry.script().behave = take
        ferry.deliver()
        assert ferry.script().lines() == []
        assert sorted(letter.place for letter in ferry.letters()) == [f"{HOUR}/{name}.ndjson:1" for name in "abc"]
        assert ferry.book().missing == 30


def test_a_file_gone_in_the_middle_of_its_delivery_loses_only_its_rest(tmp_path):
    """What was delivered of a file stays delivered; the rest is missing, with the line at which it begins."""
    with Ferry(tmp_path) as ferry:
        ferry.set_batch(max_events=4)
        ready(ferry)
        ferry.do("pause", sink="out")

        def pause_later(batch, script):
            if len(script.calls) == 1:
                ferry.do("pause", sink="out")

        ferry.script().behave = pause_later
        ferry.do("resume", sink="out")
        with ferry.working():
            ferry.script().await_taken(4)
        (tmp_path / "events" / HOUR / "a.ndjson").unlink()
        ferry.do("resume", sink="out")
        ferry.deliver()
        assert numbers(ferry.script().lines()) == [*range(4), *range(10, 30)]
        assert ferry.book().missing == 6
        assert ferry.letters()[0].place == f"{HOUR}/a.ndjson:5"


def test_one_sources_lost_file_does_not_hold_another_source_back(tmp_path):
    """While a file of one source is awaited, the sink's other sources are delivered."""
    with Ferry(tmp_path, sources=("one", "two")) as ferry:
        ferry.sources["one"]["gone_after"] = "24h"
        ferry.put(f"{HOUR}/a.ndjson", events(5), "one")
        ferry.open()
        ferry.index("one")
        ferry.script().behave = unavailable()
        with ferry.working():
            ferry.script().await_calls(2)  # a batch of it is written down, and has to be read again
        (tmp_path / "one" / HOUR / "a.ndjson").unlink()
        ferry.put(f"{HOUR}/b.ndjson", events(5, 100), "two")
        ferry.index("two")
        ferry.script().behave = take
        with ferry.working():
            ferry.script().await_taken(5)
        assert numbers(ferry.script().lines()) == list(range(100, 105))


@pytest.fixture
def later(monkeypatch):
    """Lets hours pass: `later(25)`."""
    real, passed = clock.now_ms, [timedelta()]
    monkeypatch.setattr(clock, "now_ms", lambda: real() + int(passed[0].total_seconds() * 1000))

    def pass_hours(hours: float) -> None:
        passed[0] += timedelta(hours=hours)

    return pass_hours


def messages(ferry: Ferry, event: str) -> list[str]:
    """The kinds of the messages about an event, in order."""
    return [row.kind for row in ferry.rows(sa.select(t.messages).order_by(t.messages.c.id)) if row.event == event]


def is_missed(ferry: Ferry) -> bool:
    return "file.gone:events:out" in ferry.conditions()


def test_files_deleted_together_are_given_up_together(tmp_path, later):
    """Twenty files, one patience: what vanished with the first one found is given up with it, under one message."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"]["gone_after"] = "24h"
        ferry.set_batch(max_events=5)
        paths = [ferry.put(f"{HOUR}/{n:02}.ndjson", events(5, 5 * n)) for n in range(30)]
        ferry.open()
        ferry.index()
        for number, path in enumerate(paths):
            if number % 3:
                path.unlink()
        with ferry.working():
            wait_until(lambda: is_missed(ferry))
        later(23)
        with ferry.working():
            wait_until(lambda: ferry.conditions()["file.gone:events:out"].count > 1)
        assert ferry.letters() == []
        later(1.1)
        ferry.deliver()
        assert numbers(ferry.script().lines()) == [n for n in range(150) if n // 5 % 3 == 0]
        assert len(ferry.letters()) == 20
        assert ferry.book().missing == 100
        assert list(ferry.conditions()) == ["events.dead:out"]
        assert messages(ferry, "file.gone") == ["problem", "over"]


def test_one_of_them_that_comes_back_in_time_is_delivered(tmp_path, later):
    """Only what is still gone when its turn comes is given up."""
    with Ferry(tmp_path) as ferry:
        ready(ferry, "24h")
        paths = [tmp_path / "events" / HOUR / f"{name}.ndjson" for name in "abc"]
        aside = [path.rename(tmp_path / path.name) for path in paths]
        with ferry.working():
            wait_until(lambda: is_missed(ferry))
        aside[1].rename(paths[1])
        later(25)
        ferry.deliver()
        assert numbers(ferry.script().lines()) == list(range(10, 20))
        assert sorted(letter.place for letter in ferry.letters()) == [f"{HOUR}/{name}.ndjson:1" for name in "ac"]
        assert not is_missed(ferry)


def test_a_file_that_vanishes_afterwards_has_a_patience_of_its_own(tmp_path, later):
    """What was indexed after the loss was noticed cannot have been lost with it."""
    with Ferry(tmp_path) as ferry:
        ready(ferry, "24h")
        (tmp_path / "events" / HOUR / "c.ndjson").unlink()
        with ferry.working():
            wait_until(lambda: is_missed(ferry))
        later(25)
        late = [ferry.put(f"{HOUR}/{name}.ndjson", events(10, start)) for name, start in (("d", 30), ("e", 40))]
        ferry.index()
        aside = late[0].rename(tmp_path / "aside")
        with ferry.working():
            wait_until(lambda: ferry.letters() and is_missed(ferry))
            wait_until(lambda: "d.ndjson" in ferry.conditions()["file.gone:events:out"].subject)
        assert [letter.place for letter in ferry.letters()] == [f"{HOUR}/c.ndjson:1"]
        aside.rename(late[0])
        ferry.deliver()
        assert numbers(ferry.script().lines()) == [*range(20), *range(30, 50)]
        assert len(ferry.letters()) == 1
        assert not is_missed(ferry)


def test_a_large_file_that_is_gone_waits_once(tmp_path, later):
    """Every range of a file shares its patience."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"]["gone_after"] = "24h"
        path = ferry.put(f"{HOUR}/a.ndjson", events(100_000))
        ferry.open()
        ferry.index()
        assert len(ferry.rows(sa.select(t.segments.c.position))) > 1
        path.unlink()
        with ferry.working():
            wait_until(lambda: is_missed(ferry))
        later(25)
        ferry.deliver()
        assert ferry.book().missing == 100_000
        assert not is_missed(ferry)


def test_what_is_left_of_a_changed_file_does_not_renew_the_patience(tmp_path, later):
    """A file of which one range changed is read on after that range was given up; the next file is given up with it."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"]["gone_after"] = "24h"
        path = ferry.put(f"{HOUR}/a.ndjson", events(100_000))
        gone = ferry.put(f"{HOUR}/b.ndjson", events(10, 100_000))
        ferry.open()
        ferry.index()
        before = path.stat()
        with path.open("r+b") as file:
            file.write(events(1, 9))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        gone.unlink()
        with ferry.working():
            wait_until(lambda: is_missed(ferry))
        later(25)
        ferry.deliver()
        assert [letter.place for letter in ferry.letters()] == [f"{HOUR}/b.ndjson:1", f"{HOUR}/a.ndjson:1"]
        assert 0 < ferry.book().delivered == 100_010 - ferry.book().missing
        assert not is_missed(ferry)


@pytest.mark.parametrize("on_change", ["hold", "deliver"])
def test_a_sink_that_starts_after_a_file_was_rewritten_does_not_wait_for_its_first_content(tmp_path, on_change):
    """What was replaced is counted missing at once, with a truthful reason; the new content and the rest arrive."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"]["on_change"] = on_change
        ready(ferry, "24h")
        ferry.deliver()
        ferry.put(f"{HOUR}/b.ndjson", events(12, 500), age=1800)
        ferry.index()
        if on_change == "hold":
            (held,) = ferry.objects(state="held")
            ferry.do("files.retry", ids=[held.id], release=True)
            ferry.index()
        ferry.put(f"{HOUR}/d.ndjson", events(10, 700))
        ferry.index()
        ferry.add_sink("late", start="earliest")
        ferry.open()
        ferry.deliver()
        news = [*range(500, 512), *range(700, 710)]
        assert numbers(ferry.script().lines()) == [*range(30), *news]
        assert numbers(ferry.script("late").lines()) == [*range(10), *range(20, 30), *news]
        assert (ferry.book("late").delivered, ferry.book("late").missing) == (42, 10)
        (letter,) = ferry.letters("late")
        assert (letter.kind, letter.place, letter.events) == ("source_gone", f"{HOUR}/b.ndjson:1", 10)
        assert "rewritten" in letter.reason
        told = {cause: each for cause, each in ferry.conditions().items() if "late" in cause}
        assert list(told) == ["events.dead:late"]
        assert "rewritten" in told["events.dead:late"].subject
        assert ferry.letters() == []


def test_a_file_that_only_grew_replaces_nothing(tmp_path):
    """What is gone of a file that grew before is awaited like any other."""
    with Ferry(tmp_path) as ferry:
        ready(ferry, "24h")
        ferry.put(f"{HOUR}/b.ndjson", events(15, 10), age=1800)
        ferry.index()
        (tmp_path / "events" / HOUR / "b.ndjson").unlink()
        with ferry.working():
            ferry.script().await_taken(10)
            wait_until(lambda: any(cause.startswith("file.gone:") for cause in ferry.conditions()))
        assert ferry.letters() == []


def rewritten(ferry):
    """A file that no sink has read, its second content in the log too; the path to write to."""
    ferry.sources["events"] |= {"on_change": "deliver", "gone_after": "24h"}
    ferry.put(f"{HOUR}/a.ndjson", events(10))
    ferry.open()
    ferry.index()
    ferry.put(f"{HOUR}/a.ndjson", events(10, 500), age=1800)
    ferry.index()


def deliver_until_missed(ferry):
    """Work until the sink misses a file and waits for it."""
    with ferry.working():
        wait_until(lambda: any(cause.startswith("file.gone:") for cause in ferry.conditions()), what="a missed file")


def test_a_first_content_that_was_put_back_is_awaited(tmp_path):
    """Before the next listing nobody knows what lies there now: nothing is given up, and then it is delivered."""
    with Ferry(tmp_path) as ferry:
        rewritten(ferry)
        ferry.put(f"{HOUR}/a.ndjson", events(10), age=900)
        deliver_until_missed(ferry)
        assert ferry.letters() == []
        ferry.index()
        with ferry.working():
            ferry.script().await_taken(10)
        assert numbers(ferry.script().lines()) == list(range(10))
        assert ferry.letters() == []  # the content between is awaited: it may come back like this one


def test_a_first_content_that_is_back_and_away_for_a_moment_is_awaited(tmp_path):
    """It lies there under its newest version: its absence is one like any other's."""
    with Ferry(tmp_path) as ferry:
        rewritten(ferry)
        path = ferry.put(f"{HOUR}/a.ndjson", events(10), age=900)
        ferry.index()
        path.rename(tmp_path / "aside")
        deliver_until_missed(ferry)
        assert ferry.letters() == []
        assert ferry.book().missing == 0
