"""Refused content: halved, bisected, believed only where the sink takes other events, and never moving a cursor."""

import math

import pytest
from tests.builders import HOUR, Ferry, event, events, numbers, wait_until
from tests.scripted import (
    buggy,
    commit_then_raise,
    first,
    raising,
    refusing,
    refusing_events,
    take,
    too_large,
)

from eventferry.sink import SinkUnavailable

POISON = b"poison"


def poisoned(count: int, *where: int) -> bytes:
    return b"".join(event(n, **({"bad": "poison"} if n in where else {})) for n in range(count))


def ready(ferry: Ferry, content: bytes, **batch: object) -> Ferry:
    ferry.set_batch(max_events=1_000_000, **batch)
    ferry.put(f"{HOUR}/a.ndjson", content)
    ferry.open()
    assert ferry.index().indexed.files == 1
    return ferry


def test_a_body_that_is_too_large_is_halved_until_it_fits(tmp_path):
    """413 halves; every event arrives once, in order, in bodies that fit."""
    with Ferry(tmp_path) as ferry:
        ferry.script().behave = too_large(3000)
        ready(ferry, events(500)).deliver()
        assert numbers(ferry.script().lines()) == list(range(500))
        assert max(len(batch.body) for batch in ferry.script().taken) <= 3000
        assert (ferry.book().delivered, ferry.letters()) == (500, [])


def test_one_event_that_is_too_large_alone_becomes_a_dead_letter(tmp_path):
    """What cannot be halved any more, while the sink takes other events, is kept as too large."""
    with Ferry(tmp_path) as ferry:
        ferry.script().behave = too_large(3000)
        ready(ferry, events(10) + event(10, pad="x" * 5000) + events(10, 11)).deliver()
        assert numbers(ferry.script().lines()) == [n for n in range(21) if n != 10]
        (letter,) = ferry.letters()
        assert (letter.kind, letter.place) == ("too_large", f"{HOUR}/a.ndjson:11")
        assert letter.body == event(10, pad="x" * 5000)


@pytest.mark.parametrize("where", [0, 61_803, 99_999])
def test_one_poisoned_event_among_a_hundred_thousand(tmp_path, where):
    """99,999 arrive; one dead letter with file, line and the sink's words, within 2·log2(n)+2 further requests."""
    with Ferry(tmp_path) as ferry:
        ferry.script().behave = refusing(POISON)
        ready(ferry, poisoned(100_000, where), max_bytes="64MiB").deliver(seconds=60)
        assert sorted(numbers(ferry.script().lines())) == [n for n in range(100_000) if n != where]
        assert len(ferry.script().calls) <= 1 + 2 * math.log2(100_000) + 2
        (letter,) = ferry.letters()
        assert letter.place == f"{HOUR}/a.ndjson:{where + 1}"
        assert letter.reason == "column `amount` is no number"
        assert letter.body == event(where, bad="poison")
        assert (ferry.book().delivered, ferry.book().dead) == (99_999, 1)
        assert "events.dead:out" in ferry.conditions()


def test_many_poisoned_events_all_become_dead_letters(tmp_path):
    """Refused events in a row and far apart are found one by one; every other one arrives."""
    where = {0, 1, 2, 3, 4, 250, 499}
    with Ferry(tmp_path) as ferry:
        ferry.script().behave = refusing(POISON)
        ready(ferry, poisoned(500, *where)).deliver()
        assert sorted(numbers(ferry.script().lines())) == [n for n in range(500) if n not in where]
        condition = ferry.conditions()["events.dead:out"]
        assert condition.subject == "Sink out refused 7 events; dead letters keep what was refused"
        assert condition.fields == {"sink": "out", "events": 7, "refused": 7}
        assert {int(letter.place.rpartition(":")[2]) - 1 for letter in ferry.letters()} == where


def test_order_is_kept_around_a_refused_event(tmp_path):
    """Bisecting sends what lies before the refused event before what lies after it."""
    with Ferry(tmp_path) as ferry:
        ferry.script().behave = refusing(POISON)
        ready(ferry, poisoned(300, 123)).deliver()
        assert numbers(ferry.script().lines()) == [n for n in range(300) if n != 123]


def test_a_sink_that_refuses_everything_is_held_and_recovers_by_itself(tmp_path):
    """Wholly refused is a fault of the sink: held, not one dead letter; once mended, a probe delivers everything."""
    with Ferry(tmp_path) as ferry:
        ferry.script().behave = refusing(b"{", "no such table")
        with ready(ferry, events(1000)).working():
            wait_until(lambda: ferry.sink().state == "held")
            calls = len(ferry.script().calls)
            assert calls <= 2 * math.log2(1000) + 6
            ferry.script().await_calls(calls + 4)
            assert ferry.letters() == []
            assert "no such table" in ferry.conditions()["sink.held:out"].detail
            ferry.script().behave = take
            wait_until(lambda: ferry.is_settled("out"))
        assert sorted(numbers(ferry.script().lines())) == list(range(1000))
        assert (ferry.book().delivered, ferry.letters()) == (1000, [])
        assert ferry.conditions() == {}


def test_a_refusal_that_began_in_the_middle_makes_no_dead_letters(tmp_path):
    """A table dropped while batches flow: what was taken before proves nothing about what is refused now."""
    with Ferry(tmp_path) as ferry:
        ferry.script().behave = first(5, take, refusing(b"{", "no such table"))
        ferry.put(f"{HOUR}/a.ndjson", events(100))
        ferry.set_batch(max_events=10)
        ferry.open()
        ferry.index()
        with ferry.working():
            wait_until(lambda: ferry.sink().state == "held")
            ferry.script().behave = take
            wait_until(lambda: ferry.is_settled("out"))
        assert ferry.letters() == []
        assert sorted(numbers(ferry.script().lines())) == list(range(100))


def test_held_and_mended_a_poisoned_event_is_still_found(tmp_path):
    """After the mend, what is refused although others are taken becomes a dead letter after all."""
    with Ferry(tmp_path) as ferry:
        ferry.script().behave = refusing(b"{")
        with ready(ferry, poisoned(64, 10)).working():
            wait_until(lambda: ferry.sink().state == "held")
            ferry.script().behave = refusing(POISON)
            wait_until(lambda: ferry.is_settled("out"))
        assert sorted(numbers(ferry.script().lines())) == [n for n in range(64) if n != 10]
        assert [letter.body for letter in ferry.letters()] == [event(10, bad="poison")]


def test_one_refused_event_with_nothing_else_to_send_is_held_not_dead(tmp_path):
    """A single refused event proves nothing about the event until the sink takes another one."""
    with Ferry(tmp_path) as ferry:
        ferry.script().behave = refusing(POISON)
        with ready(ferry, poisoned(1, 0)).working() as workers:
            wait_until(lambda: ferry.sink().state == "held")
            assert ferry.letters() == []
            ferry.put(f"{HOUR}/b.ndjson", events(3, 1))
            ferry.index()
            workers["out"].wake()
            wait_until(lambda: ferry.is_settled("out"))
        assert numbers(ferry.script().lines()) == [1, 2, 3]
        assert len(ferry.letters()) == 1


def test_events_that_the_sink_names_are_dead_and_the_rest_is_taken(tmp_path):
    """EventsRejected needs no bisecting: the named positions become dead letters with their places."""
    with Ferry(tmp_path) as ferry:

        def some(batch, script):
            script.commit(batch)
            refusing_events(POISON)(batch, script)

        ferry.script().behave = some
        ready(ferry, b"\n" + poisoned(10, 3, 7)).deliver()
        assert [letter.place for letter in ferry.letters()[::-1]] == [f"{HOUR}/a.ndjson:5", f"{HOUR}/a.ndjson:9"]
        assert (ferry.book().delivered, ferry.book().dead) == (8, 2)


def test_a_bug_is_repeated_five_times_then_bisected(tmp_path):
    """An exception that no contract knows is retried; the fifth time the batch is taken apart."""
    with Ferry(tmp_path) as ferry:
        ferry.script().behave = buggy(POISON)
        ready(ferry, poisoned(4, 2)).deliver()
        calls = ferry.script().calls
        assert [(batch.id, batch.attempt) for batch in calls[:5]] == [(calls[0].id, n) for n in range(1, 6)]
        assert set(numbers(ferry.script().lines())) == {0, 1, 3}
        (letter,) = ferry.letters()
        assert letter.reason.startswith("KeyError: 'amount' (at ")
        assert "scripted.py:" in letter.reason


def test_an_exception_that_quotes_the_batch_is_nowhere_repeated(tmp_path, capfd):
    """Events do not leak into ledger, alerts and journal by the words of a sink that fails."""

    def quoting(batch, script):
        raise ValueError(f"cannot store: {batch.body.decode()}")

    with Ferry(tmp_path) as ferry:
        ferry.script().behave = quoting
        with ready(ferry, events(1000, secret="opensesame")).working():
            wait_until(lambda: ferry.sink().state == "held", 60)
        said = {row.error.partition(" (at ")[0] for row in ferry.batches() if row.error}
        assert said == {"ValueError: cannot store:"}
        told = ferry.conditions()["sink.held:out"]
        assert "ValueError: cannot store: (at " in told.detail
        assert "opensesame" not in "".join(capfd.readouterr())


def test_a_bug_in_everything_holds_the_sink(tmp_path):
    """Where every batch makes the sink fail in that way, nothing is called dead."""
    with Ferry(tmp_path) as ferry:
        ferry.script().behave = buggy(b"{")
        with ready(ferry, events(8)).working():
            wait_until(lambda: ferry.sink().state == "held", 60)
            assert ferry.letters() == []
            ferry.script().behave = take
            wait_until(lambda: ferry.is_settled("out"))
        assert sorted(numbers(ferry.script().lines())) == list(range(8))


@pytest.mark.parametrize("answer", [True, False, None])
def test_after_an_unknown_attempt_the_sink_is_asked_before_a_batch_is_taken_apart(tmp_path, answer):
    """True: done, nothing is sent again. False: split safely. None: split, and the parts are marked as repeatable."""
    with Ferry(tmp_path) as ferry:
        ferry.script().knows = lambda batch: answer
        lost = commit_then_raise(SinkUnavailable("reset")) if answer is not False else raising(SinkUnavailable("reset"))
        ferry.script().behave = first(1, lost, too_large(300))
        ready(ferry, events(8)).deliver()
        assert ferry.script().asked == [ferry.script().calls[0].id]
        parts = [row for row in ferry.batches() if row.parent_seq is not None]
        if answer is True:
            assert parts == []
            assert numbers(ferry.script().lines()) == list(range(8))
        else:
            assert {row.repeatable for row in parts} == {answer is None}
            assert set(numbers(ferry.script().lines())) == set(range(8))
        assert ferry.book().delivered == 8


def test_a_batch_stays_whole_while_the_sink_cannot_be_asked(tmp_path):
    """A question that fails is asked again; the batch is not split on a guess."""
    with Ferry(tmp_path) as ferry:
        answers = iter([SinkUnavailable("down"), SinkUnavailable("down")])

        def knows(batch):
            if (error := next(answers, None)) is not None:
                raise error
            return False

        ferry.script().knows = knows
        ferry.script().behave = first(1, raising(SinkUnavailable("reset")), too_large(300))
        ready(ferry, events(8)).deliver()
        assert len(ferry.script().asked) == 3
        assert numbers(ferry.script().lines()) == list(range(8))
        assert not any(row.repeatable for row in ferry.batches())


def test_when_the_store_of_dead_letters_is_full_the_sink_is_held(tmp_path):
    """No room for a dead letter: the event waits with its sink until there is room."""
    with Ferry(tmp_path) as ferry:
        ferry.top["dead_letters"] = {"max_size": "100B"}
        ferry.script().behave = refusing(POISON)
        with ready(ferry, poisoned(16, 2, 9)).working():
            wait_until(lambda: ferry.sink().state == "held")
            assert len(ferry.letters()) == 1
            assert "full" in ferry.conditions()["sink.held:out"].detail
            ferry.do("letters.drop", ids=[ferry.letters()[0].id])
            wait_until(lambda: ferry.is_settled("out"))
        assert sorted(numbers(ferry.script().lines())) == [n for n in range(16) if n not in (2, 9)]
        assert len(ferry.letters()) == 1


def test_children_are_planned_in_the_transaction_that_ends_their_parent(tmp_path):
    """A kill at any call of a bisection loses and doubles nothing."""
    with Ferry(tmp_path / "0") as ferry:
        ferry.script().behave = refusing(POISON)
        copies: list[Ferry] = []

        def copying(batch, script):
            copies.append(ferry.crashed(tmp_path / str(len(copies) + 1)))
            refusing(POISON)(batch, script)

        ferry.script().behave = copying
        ready(ferry, poisoned(8, 5)).deliver()
        assert len(copies) >= 5
        for reborn in copies:
            with reborn:
                reborn.script().behave = refusing(POISON)
                reborn.script().knows = lambda batch: False
                reborn.deliver()
                assert (reborn.book().delivered, reborn.book().dead) == (7, 1)
                assert {row.id for row in reborn.batches()} == {row.id for row in ferry.batches()}


def test_events_that_vanished_are_not_counted_as_refused(tmp_path):
    """One alert stands for both, but what it says of the sink is only what the sink did."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"]["gone_after"] = "0s"
        ferry.script().behave = refusing(POISON)
        lost = ferry.put(f"{HOUR}/a.ndjson", events(10))
        ferry.put(f"{HOUR}/b.ndjson", poisoned(20, 3))
        ferry.open()
        ferry.index()
        lost.unlink()
        ferry.deliver()
        condition = ferry.conditions()["events.dead:out"]
        assert condition.subject == "Sink out refused 1 event; dead letters keep what was refused"
        assert condition.fields["events"] == 11
