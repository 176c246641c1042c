"""What people send once more: dead letters, replays; and what they ask of the daemon."""

import pytest
import sqlalchemy as sa
from tests.builders import HOUR, Ferry, event, events, numbers, wait_until
from tests.scripted import raising, refusing, take, unavailable

from eventferry.errors import UsageError
from eventferry.ledger import requests
from eventferry.service import carry_out
from eventferry.sink import SinkMisconfigured

DAY = {"from": "2026-01-02", "to": "2026-01-02"}


def with_letters(ferry: Ferry, *where: int) -> Ferry:
    """Ten events of which some were refused."""
    ferry.script().behave = refusing(b"poison")
    lines = [event(n, **({"bad": "poison"} if n in where else {})) for n in range(10)]
    ferry.put(f"{HOUR}/a.ndjson", b"".join(lines))
    ferry.open()
    ferry.index()
    ferry.deliver()
    assert len(ferry.letters()) == len(where)
    return ferry


def retry_all(ferry: Ferry) -> None:
    ferry.do("letters.retry", ids=[letter.id for letter in ferry.letters()])


def drain_letters(ferry: Ferry) -> None:
    with ferry.working():
        wait_until(lambda: not ferry.letters(state="retrying"))


def test_a_dead_letter_that_is_taken_now_is_over(tmp_path):
    """Retried, taken, its bytes forgotten, the alert closed."""
    with Ferry(tmp_path) as ferry:
        with_letters(ferry, 3)
        ferry.script().behave = take
        retry_all(ferry)
        drain_letters(ferry)
        assert numbers(ferry.script().lines())[-1] == 3
        assert [(letter.state, letter.body) for letter in ferry.letters(state=None)] == [("delivered", None)]
        assert ferry.conditions() == {}


def test_a_dead_letter_that_is_refused_again_waits_with_the_new_words(tmp_path):
    """The sink's last words are kept, and people are told that one still waits."""
    with Ferry(tmp_path) as ferry:
        with_letters(ferry, 3, 5)
        ferry.script().behave = refusing(b'"n":5', "still no number")
        retry_all(ferry)
        drain_letters(ferry)
        (letter,) = ferry.letters()
        assert (letter.reason, letter.body) == ("still no number", event(5, bad="poison"))
        assert "events.dead:out" in ferry.conditions()


def test_a_dead_letter_that_cannot_be_sent_now_is_tried_again_later(tmp_path):
    """An outage in the middle of a retry leaves the retry asked for, and nobody has to wake the sink for it."""
    with Ferry(tmp_path) as ferry:
        ferry.sinks["out"]["retry"] = {"first": "200ms", "max": "200ms"}
        with_letters(ferry, 3)
        failures = iter([True, True, True])

        def flaky(batch, script):
            if next(failures, False):
                raise OSError("reset")

        ferry.script().behave = flaky
        retry_all(ferry)
        drain_letters(ferry)
        assert [letter.state for letter in ferry.letters(state=None)] == ["delivered"]


def test_a_dead_letter_is_never_offered_as_a_first_attempt(tmp_path):
    """Its calls are not written down beforehand, and one may have been taken: a sink that looks first has to look."""
    with Ferry(tmp_path) as ferry:
        ferry.sinks["out"]["retry"] = {"first": "10ms", "max": "10ms"}
        with_letters(ferry, 3)
        seen = []

        def lose_the_first_reply(batch, script):
            seen.append((batch.id, batch.attempt))
            if len(seen) == 1:
                raise unavailable()

        ferry.script().behave = lose_the_first_reply
        retry_all(ferry)
        drain_letters(ferry)
        assert [attempt for _, attempt in seen] == [2, 3]
        assert len({batch_id for batch_id, _ in seen}) == 1


def test_a_letter_whose_file_is_gone_does_not_block_the_others(tmp_path):
    """A letter without bytes cannot be sent; retrying it says so and holds nothing up."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"]["gone_after"] = "0s"
        ferry.put("2026/01/01/00/gone.ndjson", events(5, 100))
        ferry.open()
        ferry.index()
        (tmp_path / "events" / "2026/01/01/00/gone.ndjson").unlink()
        ferry.deliver()
        assert [letter.kind for letter in ferry.letters()] == ["source_gone"]
        ferry.script().behave = refusing(b"poison")
        ferry.put(f"{HOUR}/a.ndjson", events(2) + event(2, bad="poison"))
        ferry.index()
        ferry.deliver()
        ferry.script().behave = take
        retry_all(ferry)
        with ferry.working():
            ferry.script().await_taken(3)
            wait_until(lambda: len(ferry.letters(state="delivered")) == 1)
        assert [letter.kind for letter in ferry.letters()] == ["source_gone"]


def test_dropped_letters_are_forgotten(tmp_path):
    """Dropping ends the alert and frees the room, the note of it stays."""
    with Ferry(tmp_path) as ferry:
        with_letters(ferry, 3, 5)
        ferry.do("letters.drop", ids=[letter.id for letter in ferry.letters()])
        assert ferry.letters() == []
        assert {letter.state for letter in ferry.letters(state=None)} == {"dropped"}
        assert ferry.conditions() == {}


def test_a_delivered_or_dropped_letter_cannot_be_retried(tmp_path):
    """Its bytes are gone: asking for it changes nothing."""
    with Ferry(tmp_path) as ferry:
        with_letters(ferry, 3)
        ids = [letter.id for letter in ferry.letters()]
        ferry.do("letters.drop", ids=ids)
        ferry.do("letters.retry", ids=ids)
        assert [letter.state for letter in ferry.letters(state=None)] == ["dropped"]


def replayed(ferry: Ferry, mode: str, **days: str) -> str:
    said = ferry.do("replay", sink="out", mode=mode, **(days or DAY))
    ferry.deliver()
    return said


def test_replay_missing_sends_the_same_ids(tmp_path):
    """Repair: the same ids and bytes again, so that a sink that knows ids takes only what it lacks."""
    with Ferry(tmp_path) as ferry:
        with_letters(ferry)
        before = [(batch.id, batch.body) for batch in ferry.script().calls]
        replayed(ferry, "missing")
        assert [(batch.id, batch.body) for batch in ferry.script().calls] == before * 2
        assert numbers(ferry.script().lines_once()) == list(range(10))
        assert ferry.book().delivered == 10


def test_replay_again_sends_new_ids(tmp_path):
    """Duplicates on purpose: new ids, the same bytes, and the books count each event once."""
    with Ferry(tmp_path) as ferry:
        with_letters(ferry)
        replayed(ferry, "again")
        ids = ferry.script().ids()
        assert len(set(ids)) == len(ids) == 2
        assert numbers(ferry.script().lines()) == [*range(10), *range(10)]
        assert ferry.book().delivered == 10
        replayed(ferry, "again")
        assert len(set(ferry.script().ids())) == 3


def test_replay_takes_only_the_days_asked_for(tmp_path):
    """Both days are included; files of other days stay out where batches keep them apart."""
    with Ferry(tmp_path) as ferry:
        ferry.set_batch(max_events=1)
        for day in (1, 2, 3, 4):
            ferry.put(f"2026/01/0{day}/00/a.ndjson", event(day))
        ferry.open()
        ferry.index()
        ferry.deliver()
        replayed(ferry, "missing", **{"from": "2026-01-02", "to": "2026-01-03"})
        assert numbers(ferry.script().lines()) == [1, 2, 3, 4, 2, 3]


def test_replay_missing_brings_back_what_was_gone(tmp_path):
    """A file given up as gone and brought back is delivered by a repair, transformed as the sink wants it."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"]["gone_after"] = "0s"
        ferry.sinks["out"]["drop"] = ["event_type"]
        ferry.sinks["out"]["filter"] = [{"field": "n", "lt": 7}]
        path = ferry.put(f"{HOUR}/a.ndjson", events(10))
        ferry.open()
        ferry.index()
        aside = path.rename(tmp_path / "aside")
        ferry.deliver()
        assert (ferry.book().missing, len(ferry.letters())) == (10, 1)
        aside.rename(path)
        replayed(ferry, "missing")
        assert numbers(ferry.script().lines()) == list(range(7))
        assert not any(b"event_type" in line for line in ferry.script().lines())
        assert (ferry.book().delivered, ferry.book().filtered, ferry.book().missing) == (7, 3, 0)
        assert ferry.letters() == []
        assert ferry.conditions() == {}


def test_replay_missing_sends_refused_events_again_and_settles_their_letters(tmp_path):
    """A repaired batch takes its dead letter along: taken now, nothing is left to retry by hand."""
    with Ferry(tmp_path) as ferry:
        with_letters(ferry, 3)
        ferry.script().behave = take
        replayed(ferry, "missing")
        assert set(numbers(ferry.script().lines())) == set(range(10))
        assert (ferry.book().delivered, ferry.book().dead) == (10, 0)
        assert ferry.letters() == []


def test_a_replay_to_a_held_sink_waits_with_it(tmp_path):
    """A replay is like any batch: nothing is sent while the sink is paused."""
    with Ferry(tmp_path) as ferry:
        with_letters(ferry)
        ferry.do("pause", sink="out")
        ferry.do("replay", sink="out", mode="missing", **DAY)
        with ferry.working() as workers:
            assert workers["out"].wait_idle(10)
        assert len(ferry.script().calls) == 1
        ferry.do("resume", sink="out")
        ferry.deliver()
        assert len(ferry.script().calls) == 2


@pytest.mark.parametrize("mode", ["missing", "again"])
def test_what_comes_in_does_not_wait_for_the_end_of_a_long_replay(tmp_path, mode):
    """Live batches and replayed ones take turns, and both arrive whole."""
    with Ferry(tmp_path) as ferry:
        ferry.set_batch(max_events=1)
        ferry.put(f"{HOUR}/a.ndjson", events(100))
        ferry.open()
        ferry.index()
        ferry.deliver()
        ferry.do("replay", sink="out", mode=mode, **DAY)
        ferry.put("2026/01/03/00/live.ndjson", events(20, 1000))
        ferry.index()
        ferry.deliver()
        sent = numbers(ferry.script().lines())[100:]
        assert sorted(sent) == [*range(100), *range(1000, 1020)]
        assert [n for n in sent if n >= 1000] == list(range(1000, 1020))
        assert sent.index(1019) < 45 and sum(n < 1000 for n in sent[:40]) >= 15


def test_a_replay_does_not_hammer_a_sink_that_asks_for_patience(tmp_path):
    """While a live batch waits for its next attempt no replayed one is sent in its place."""
    with Ferry(tmp_path) as ferry:
        ferry.set_batch(max_events=1)
        ferry.put(f"{HOUR}/a.ndjson", events(10))
        ferry.open()
        ferry.index()
        ferry.deliver()
        ferry.do("replay", sink="out", mode="missing", **DAY)
        ferry.put("2026/01/03/00/live.ndjson", events(5, 1000))
        ferry.index()
        ferry.script().behave = unavailable(retry_after=120.0)
        with ferry.working() as workers:
            ferry.script().await_calls(11)
            assert workers["out"].wait_idle(10)
        assert len(ferry.script().calls) == 11


def test_mistaken_requests_are_answered_with_a_remedy(tmp_path):
    """What cannot be done is refused in a sentence that names what is known."""
    with Ferry(tmp_path) as ferry:
        with_letters(ferry)
        for kind, args, words in (
            ("pause", {"sink": "nope"}, "known are: out"),
            ("replay", {"sink": "out", "mode": "missing", "from": "2026-01-03", "to": "2026-01-02"}, "is before"),
            ("replay", {"sink": "out", "mode": "missing", "from": "yesterday", "to": "2026-01-02"}, "2024-01-31"),
            ("replay", {"sink": "out", "mode": "replace", **DAY}, "cannot replace"),
            ("rename", {"what": "sink", "old": "nope", "new": "x"}, "there is no sink 'nope'"),
            ("no-such", {}, "not a request"),
            ("reload", {}, "no daemon is running"),
        ):
            with pytest.raises(UsageError, match=words):
                ferry.do(kind, **args)


def test_requests_are_carried_out_in_order_and_answered(tmp_path):
    """Each request gets its answer; a mistaken one stops none after it."""
    with Ferry(tmp_path) as ferry:
        with_letters(ferry)
        with ferry.ledger.write() as tx:
            asked = [
                requests.ask(tx, "pause", sink="out"),
                requests.ask(tx, "pause"),
                requests.ask(tx, "pause", sink="nope"),
                requests.ask(tx, "rename", what="sink", old="out", new="exit"),
            ]
        carry_out.carry_out(ferry.ledger, None)
        with ferry.ledger.read() as tx:
            answers = [requests.get(tx, number) for number in asked]
            assert requests.waiting(tx) == []
        assert [answer.ok for answer in answers] == [True, False, False, True]
        assert "known are: out" in (answers[2].result or "")
        assert ferry.sink("exit").state == "paused"


def test_a_letter_that_meets_a_misconfigured_sink_holds_it_and_goes_out_once_it_is_mended(tmp_path):
    """A 401 is about the sink: it is held and probed with the letter, whose retry stays asked for."""
    with Ferry(tmp_path) as ferry:
        with_letters(ferry, 3)
        calls = len(ferry.script().calls)
        ferry.script().behave = raising(SinkMisconfigured("401 Unauthorized"))
        retry_all(ferry)
        with ferry.working():
            ferry.script().await_calls(calls + 3)
            wait_until(lambda: ferry.sink().state == "held")
            (letter,) = ferry.letters(state="retrying")
            assert letter.body == event(3, bad="poison")
            assert letter.reason == "column `amount` is no number"
            assert "401" in ferry.conditions()["sink.held:out"].detail
            ferry.script().behave = take
            wait_until(lambda: ferry.sink().state == "active")
        assert [letter.state for letter in ferry.letters(state=None)] == ["delivered"]
        assert ferry.conditions() == {}


def test_events_that_come_while_a_letter_holds_the_sink_are_delivered_after_the_mend(tmp_path):
    """The hold that a letter began ends with the first batch that is taken, too."""
    with Ferry(tmp_path) as ferry:
        with_letters(ferry, 3)
        ferry.script().behave = raising(SinkMisconfigured("401 Unauthorized"))
        retry_all(ferry)
        with ferry.working() as workers:
            wait_until(lambda: ferry.sink().state == "held")
            ferry.put(f"{HOUR}/b.ndjson", events(5, 100))
            ferry.index()
            ferry.script().behave = take
            workers["out"].wake()
            wait_until(lambda: ferry.is_settled("out") and not ferry.letters(state="retrying"))
        assert set(numbers(ferry.script().lines())) == {*range(10), *range(100, 105)}
        assert ferry.conditions() == {}


class Broken:
    """A daemon that cannot do what it is asked."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def reload(self) -> list[str]:
        raise self.error

    def wake_sinks(self) -> None: ...

    def run_now(self, source: str | None) -> list[str]:
        return []


def test_a_request_that_fails_in_an_unknown_way_blocks_no_other(tmp_path):
    """It is answered with the error's type and text, once, and the next ones are carried out."""
    with Ferry(tmp_path) as ferry:
        with ferry.ledger.write() as tx:
            asked = [requests.ask(tx, "reload"), requests.ask(tx, "pause", sink="out")]
        carry_out.carry_out(ferry.ledger, Broken(RuntimeError("no more threads\n" + "x" * 5000)))
        with ferry.ledger.read() as tx:
            answers = [requests.get(tx, number) for number in asked]
        assert [answer.ok for answer in answers] == [False, True]
        assert (answers[0].result or "").startswith("RuntimeError: no more threads")
        assert len(answers[0].result or "") <= 400
        assert ferry.sink().state == "paused"


class Tired(Broken):
    """A daemon whose sinks cannot be woken."""

    def wake_sinks(self) -> None:
        raise self.error


def test_what_is_done_is_answered_so_also_where_the_sinks_cannot_be_woken(tmp_path):
    """A failure after the commit does not overwrite the answer."""
    with Ferry(tmp_path) as ferry:
        with ferry.ledger.write() as tx:
            number = requests.ask(tx, "pause", sink="out")
        carry_out.carry_out(ferry.ledger, Tired(RuntimeError("no more threads")))
        with ferry.ledger.read() as tx:
            answer = requests.get(tx, number)
        assert (answer.ok, "is paused" in (answer.result or "")) == (True, True)


def test_a_request_that_meets_a_locked_ledger_is_tried_again(tmp_path):
    """A transient fault of the ledger is no answer: the request goes on waiting."""
    with Ferry(tmp_path) as ferry:
        with ferry.ledger.write() as tx:
            requests.ask(tx, "reload")
        locked = sa.exc.OperationalError("BEGIN", None, Exception("database is locked"))
        with pytest.raises(sa.exc.OperationalError):
            carry_out.carry_out(ferry.ledger, Broken(locked))
        with ferry.ledger.read() as tx:
            assert len(requests.waiting(tx)) == 1


@pytest.mark.parametrize("way", ["letters.retry", "letters.drop"])
def test_a_repair_sends_a_refused_event_as_a_retry_did_and_never_one_that_was_dropped(tmp_path, way):
    """Delivered by a retry it goes under the id that the sink recorded then; dropped it was a person's wish."""
    with Ferry(tmp_path) as ferry:
        with_letters(ferry, 3)
        ferry.script().behave = take
        ferry.do(way, ids=[letter.id for letter in ferry.letters()])
        drain_letters(ferry)
        letters = [(letter.id, letter.state) for letter in ferry.letters(state=None)]
        known = {batch.id for batch in ferry.script().taken}
        ferry.script().calls.clear()
        ferry.do("replay", sink="out", mode="missing", **DAY)
        ferry.deliver()
        again = sorted(number for batch in ferry.script().calls for number in numbers(batch.body.splitlines()))
        assert again == [number for number in range(10) if number != 3 or way == "letters.retry"]
        assert {batch.id for batch in ferry.script().calls} <= known
        assert ferry.book().balance
        assert [(letter.id, letter.state) for letter in ferry.letters(state=None)] == letters
