"""Delivery when nothing or something passing goes wrong: written down first, repeated alike, never lost."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import freezegun
import pytest
import sqlalchemy as sa
from tests.builders import HOUR, Ferry, event, events, numbers, wait_until
from tests.scripted import commit_then_raise, first, hang, raising, take, unavailable

from eventferry import clock
from eventferry.ledger import Ledger, alerts
from eventferry.ledger import tables as t
from eventferry.pipeline import record, trouble
from eventferry.pipeline.deliver import SinkWorker
from eventferry.pipeline.outcome import backoff_ms
from eventferry.pipeline.record import Attempted
from eventferry.pipeline.turns import Turns
from eventferry.sink import SinkMisconfigured, SinkUnavailable


def ready(ferry: Ferry, count: int = 25, most: int = 10) -> Ferry:
    """One file of numbered events in the log, batches of at most `most`."""
    for name in ferry.sinks:
        ferry.set_batch(name, max_events=most)
    ferry.put(f"{HOUR}/a.ndjson.gz", events(count))
    ferry.open()
    ferry.index()
    return ferry


def test_every_event_arrives_in_order_and_the_books_balance(tmp_path):
    """Batches within the limit, every event once, in the order of the file."""
    with Ferry(tmp_path) as ferry:
        ready(ferry).deliver()
        assert [batch.events for batch in ferry.script().calls] == [10, 10, 5]
        assert numbers(ferry.script().lines()) == list(range(25))
        assert (ferry.book().delivered, ferry.book().waiting) == (25, 0)


def test_a_batch_is_written_down_before_it_is_sent(tmp_path):
    """While the sink is being called, the ledger already says so: id, interval, digest and the moved cursor."""
    with Ferry(tmp_path) as ferry:
        seen = []

        def look(batch, script):
            row = ferry.batches()[-1]
            seen.append((row.id, row.state, row.attempts, row.body_bytes) == (batch.id, "sending", 1, len(batch.body)))

        ferry.script().behave = look
        ready(ferry).deliver()
        assert seen == [True, True, True]


def test_a_retry_repeats_the_id_and_the_bytes(tmp_path):
    """However often the sink does not answer, it gets the same batch again, with the attempt counted."""
    with Ferry(tmp_path) as ferry:
        ferry.script().behave = first(3, unavailable())
        ready(ferry).deliver()
        calls = ferry.script().calls[:4]
        assert len({(batch.id, batch.body) for batch in calls}) == 1
        assert [batch.attempt for batch in calls] == [1, 2, 3, 4]
        assert numbers(ferry.script().lines()) == list(range(25))


def test_an_answer_that_was_lost_costs_a_repeat_under_the_same_id(tmp_path):
    """What the sink took although the call failed comes again under the same id: a sink that knows ids has it once."""
    with Ferry(tmp_path) as ferry:
        ferry.script().behave = first(1, commit_then_raise(SinkUnavailable("connection reset")))
        ready(ferry).deliver()
        assert numbers(ferry.script().lines()) == [*range(10), *range(25)]
        assert numbers(ferry.script().lines_once()) == list(range(25))
        assert ferry.batches()[0].unknown


def test_back_off_grows_is_capped_and_never_undercuts_the_sinks_own_wish():
    """Waiting doubles up to the cap with full jitter; Retry-After is a lower bound."""
    for attempt in range(1, 40):
        ceiling = min(600.0, 2.0 ** (attempt - 1))
        waits = [backoff_ms(attempt, 1.0, 600.0, None) for _ in range(50)]
        assert min(waits) > 0
        assert max(waits) <= max(ceiling, 0.5) * 1000
    assert min(backoff_ms(1, 1.0, 600.0, 30.0) for _ in range(50)) >= 30_000
    assert max(backoff_ms(30, 1.0, 600.0, None) for _ in range(200)) > 300_000


def test_the_sinks_retry_after_is_honoured(tmp_path):
    """A batch is not due before the time that the sink named, and people are told after the third failure."""
    with Ferry(tmp_path) as ferry:
        ferry.script().behave = unavailable(retry_after=120.0)
        with ready(ferry).working():
            before = clock.now_ms()
            wait_until(lambda: ferry.batches() and ferry.batches()[0].state == "waiting")
        row = ferry.batches()[0]
        assert row.next_ms >= before + 120_000
        assert len(ferry.script().calls) == 1


def test_people_are_told_of_a_sink_that_keeps_failing_and_of_its_recovery(tmp_path):
    """The third failure in a row opens a warning; the next success closes it."""
    with Ferry(tmp_path) as ferry:
        ferry.script().behave = unavailable()
        with ready(ferry).working():
            ferry.script().await_calls(5)
            wait_until(lambda: "sink.unavailable:out" in ferry.conditions())
            ferry.script().behave = take
            wait_until(lambda: ferry.is_settled("out"))
        assert ferry.conditions() == {}
        query = sa.select(*alerts.MESSAGE_COLUMNS).order_by(t.messages.c.id)
        problem, end = (alerts.read_message(row) for row in ferry.rows(query))
        assert problem.fields["backlog_events"] == 25
        assert (end.subject, end.fields) == ("Sink out takes events again", {"sink": "out"})


def test_a_kill_during_a_call_is_an_unknown_outcome_resent_under_the_same_id(tmp_path):
    """What a kill -9 leaves as `sending` is sent again after the restart: same id, same bytes, marked unknown."""
    with Ferry(tmp_path / "one") as ferry:
        ferry.script().behave = hang
        with ready(ferry).working():
            ferry.script().await_calls(1)
            with ferry.crashed(tmp_path / "two") as reborn:
                assert reborn.batches()[0].state == "sending"
                reborn.deliver()
                before, after = ferry.script().calls[0], reborn.script().calls[0]
                assert (after.id, after.body, after.attempt) == (before.id, before.body, 2)
                assert reborn.batches()[0].unknown
                assert reborn.book().delivered == 25
                assert numbers(reborn.script().lines()) == list(range(25))


def test_a_misconfigured_sink_is_held_once_and_recovers_by_its_probe(tmp_path):
    """401 and the like move nothing: held, one alert, then the probe finds it mended and everything is delivered."""
    with Ferry(tmp_path) as ferry:
        ferry.script().behave = raising(SinkMisconfigured("401 Unauthorized"))
        with ready(ferry).working():
            wait_until(lambda: ferry.sink().state == "held")
            ferry.script().await_calls(3)
            assert ferry.book().delivered == 0
            assert ferry.conditions()["sink.held:out"].detail == "401 Unauthorized"
            ferry.script().behave = take
            wait_until(lambda: ferry.is_settled("out"))
        assert len({batch.id for batch in ferry.script().calls}) == 3
        assert ferry.conditions() == {}
        assert ferry.letters() == []


def test_a_hanging_call_is_abandoned_at_its_deadline_and_its_late_result_changes_nothing(tmp_path):
    """After the deadline the outcome is unknown, one zombie makes the sink stuck, its late return repeats nothing."""
    with Ferry(tmp_path) as ferry:
        ferry.sinks["out"]["timeout"] = "50ms"
        ferry.script().behave = first(1, hang)
        with ready(ferry).working() as workers:
            wait_until(lambda: ferry.batches() and ferry.batches()[0].state == "waiting")
            wait_until(lambda: workers["out"].is_stuck)
            assert ferry.batches()[0].unknown
            assert len(ferry.script().calls) == 1, "a second call beside the zombie"
            ferry.script().released.set()
            wait_until(lambda: not workers["out"].is_stuck)
            wait_until(lambda: ferry.is_settled("out"))
        assert numbers(ferry.script().lines_once()) == list(range(25))
        assert ferry.book().delivered == 25
        assert [row.attempts for row in ferry.batches()] == [2, 1, 1]


def test_a_paused_sink_gets_nothing_until_it_is_resumed(tmp_path):
    """Pausing stops new calls, resuming goes on where it was."""
    with Ferry(tmp_path) as ferry:
        ready(ferry)
        ferry.do("pause", sink="out")
        with ferry.working() as workers:
            workers["out"].wake()
            assert workers["out"].wait_idle(10)
            assert ferry.script().calls == []
            ferry.do("resume", sink="out")
            workers["out"].wake()
            ferry.script().await_taken(25)
        assert numbers(ferry.script().lines()) == list(range(25))


def test_a_sink_paused_during_a_failing_call_stays_paused(tmp_path):
    """The answer of a call that was under way does not undo what a person asked for."""
    with Ferry(tmp_path) as ferry:
        ready(ferry)

        def refuse_later(batch, script):
            ferry.do("pause", sink="out")
            raise SinkMisconfigured("401 Unauthorized")

        ferry.script().behave = refuse_later
        with ferry.working():
            wait_until(lambda: ferry.batches() and ferry.batches()[0].state == "waiting")
        assert ferry.sink().state == "paused"
        assert len(ferry.script().calls) == 1


def test_four_calls_at_once_deliver_everything_once(tmp_path):
    """With concurrency the calls overlap, and still each batch arrives once."""
    with Ferry(tmp_path) as ferry:
        ferry.sinks["out"]["concurrency"] = 4
        ferry.script().behave = hang
        with ready(ferry, 400, 10).working():
            ferry.script().await_calls(4)
            ferry.script().released.set()
            ferry.script().await_taken(400)
            wait_until(lambda: ferry.is_settled("out"))
        assert sorted(numbers(ferry.script().lines())) == list(range(400))
        assert len(set(ferry.script().ids())) == len(ferry.script().calls) == 40


def test_four_calls_at_once_survive_failures(tmp_path):
    """Failures at random among overlapping calls lose and double nothing per id."""
    with Ferry(tmp_path) as ferry:
        ferry.sinks["out"]["concurrency"] = 4

        def flaky(batch, script):
            if int(batch.id, 16) % 3 == batch.attempt % 3:
                script.commit(batch)
                raise SinkUnavailable("reset")

        ferry.script().behave = flaky
        ready(ferry, 400, 10).deliver()
        assert sorted(numbers(ferry.script().lines_once())) == list(range(400))
        assert ferry.book().delivered == 400


def test_what_the_filter_leaves_nothing_of_is_recorded_and_not_sent(tmp_path):
    """A batch without events costs no call; the books call it filtered."""
    with Ferry(tmp_path) as ferry:
        ferry.sinks["out"]["filter"] = [{"field": "event_type", "eq": "click"}]
        ready(ferry).deliver()
        assert ferry.script().calls == []
        assert (ferry.book().filtered, ferry.book().delivered) == (25, 0)
        assert {row.state for row in ferry.batches()} == {"filtered"}


def test_a_sink_gets_only_what_its_filter_and_its_redaction_leave(tmp_path):
    """Filter and redaction hold for what is sent, and the books know what was left out."""
    with Ferry(tmp_path) as ferry:
        ferry.sinks["out"] |= {"filter": [{"field": "n", "lt": 5}], "redact": {"event_type": "remove"}}
        ready(ferry).deliver()
        assert numbers(ferry.script().lines()) == [0, 1, 2, 3, 4]
        assert all("event_type" not in json.loads(line) for line in ferry.script().lines())
        assert (ferry.book().filtered, ferry.book().delivered) == (20, 5)


def test_a_short_batch_waits_for_more_until_it_is_old_enough(tmp_path):
    """`max_wait` holds a short batch back; what fills a batch goes at once; flushing ends the wait."""
    with Ferry(tmp_path) as ferry:
        ferry.set_batch(max_wait="1h")
        with ready(ferry, 5).working() as workers:
            assert workers["out"].wait_idle(10)
            assert ferry.script().calls == []
            ferry.put(f"{HOUR}/b.ndjson.gz", events(7, 5))
            ferry.index()
            workers["out"].wake()
            ferry.script().await_taken(10)
            assert workers["out"].wait_idle(10)
            assert [batch.events for batch in ferry.script().calls] == [10]
            workers["out"].flush()
            ferry.script().await_taken(12)


def test_waiting_for_idle_sees_what_was_appended_just_before(tmp_path):
    """Idle after a wake-up means that everything in the log at that moment was dealt with."""
    with Ferry(tmp_path) as ferry, ready(ferry, 1).working() as workers:
        for number in range(1, 30):
            ferry.put(f"{HOUR}/{number:03}.ndjson", event(number))
            ferry.index()
            workers["out"].wake()
            assert workers["out"].wait_idle(10)
            assert len(ferry.script().lines()) == number + 1


def test_two_sources_take_turns(tmp_path):
    """One source's backlog does not hold the other's events back."""
    with Ferry(tmp_path, sources=("one", "two")) as ferry:
        ferry.set_batch(max_events=10)
        ferry.put(f"{HOUR}/a.ndjson.gz", events(200), "one")
        ferry.put(f"{HOUR}/b.ndjson.gz", events(10, 1000), "two")
        ferry.open()
        ferry.index("one")
        ferry.index("two")
        ferry.deliver()
        where = [numbers(batch.lines())[0] for batch in ferry.script().calls]
        assert where.index(1000) <= 2


def test_a_source_that_was_taken_from_a_sink_does_not_block_its_others(tmp_path):
    """A batch of a source that the sink no longer takes waits; the sink goes on with its other sources."""
    with Ferry(tmp_path, sources=("one", "two")) as ferry:
        ferry.sinks["out"] |= {"sources": ["one"], "retry": {"first": "1h", "max": "1h"}}
        ferry.script().behave = unavailable()
        ferry.put(f"{HOUR}/a.ndjson.gz", events(5), "one")
        ferry.put(f"{HOUR}/b.ndjson.gz", events(5, 100), "two")
        ferry.open()
        ferry.index("one")
        ferry.index("two")
        with ferry.working():
            wait_until(lambda: ferry.batches() and ferry.batches()[0].state == "waiting")
        ferry.sinks["out"]["sources"] = ["two"]
        ferry.script().behave = take
        ferry.open()
        with ferry.working():
            ferry.script().await_taken(5)
        assert numbers(ferry.script().lines()) == list(range(100, 105))


def test_a_persisted_retry_time_far_ahead_is_clamped(tmp_path):
    """A clock that was wrong for a while must not make a batch wait for years."""
    with Ferry(tmp_path) as ferry:
        ferry.script().behave = unavailable(untouched=True)
        ready(ferry)
        with ferry.working():
            ferry.script().await_calls(1)
        with ferry.ledger.write() as tx:
            tx.exec_driver_sql("UPDATE batches SET next_ms = 9000000000000")
        ferry.script().behave = take
        ferry.restart().deliver()
        assert numbers(ferry.script().lines()) == list(range(25))


@pytest.mark.parametrize("start, expected", [("earliest", 3), ("latest", 0), ("2026-01-03", 1)])
def test_a_new_sink_starts_where_it_is_told_to(tmp_path, start, expected):
    """Earliest: all; latest: what comes from now on; a date: the files dated from then on."""
    with Ferry(tmp_path, sinks=()) as ferry:
        for day in (1, 2, 3):
            ferry.put(f"2026/01/0{day}/00/a.ndjson", event(day))
        ferry.open()
        ferry.index()
        ferry.add_sink("out", start=start)
        ferry.open().deliver()
        assert len(ferry.script().lines()) == expected
        ferry.put("2026/01/04/00/a.ndjson", event(4))
        ferry.index()
        ferry.deliver()
        assert len(ferry.script().lines()) == expected + 1


def test_a_frozen_clock_does_not_stop_delivery(tmp_path):
    """Nothing in delivery depends on time passing while all goes well."""
    with freezegun.freeze_time("2026-03-01 12:00:00"), Ferry(tmp_path) as ferry:
        ready(ferry)
        with ferry.working():
            ferry.script().await_taken(25)


def test_a_replaced_worker_begins_nothing_more(tmp_path):
    """A worker that a reload replaced while it read the store neither moves the cursor back nor sends a second time."""
    with Ferry(tmp_path) as ferry:
        ferry.set_batch(max_events=5)
        ferry.put(f"{HOUR}/a.ndjson", events(20))
        ferry.open()
        ferry.index()
        reading, go_on = threading.Event(), threading.Event()
        old = SinkWorker(ferry.ledger, ferry.setups["out"])
        read = old._cargo._readers[ferry.at_work["events"].id].read

        def slowly(segment):
            reading.set()
            assert go_on.wait(20)
            return read(segment)

        old._cargo._readers[ferry.at_work["events"].id].read = slowly
        old.start()
        old.flush()
        assert reading.wait(20)
        old.stop()
        ferry.deliver()
        go_on.set()
        assert old.join(20)
        ferry.deliver()
        assert numbers(ferry.script().lines()) == list(range(20))
        assert ferry.book().delivered == 20


def kinds(ferry: Ferry, event: str) -> list[str]:
    """Of the messages to people about an event, in order."""
    found = sa.select(t.messages.c.kind).where(t.messages.c.event == event).order_by(t.messages.c.id)
    return [row.kind for row in ferry.rows(found)]


def test_a_resumed_sink_has_recovered_when_it_has_taken_something(tmp_path):
    """Resumed by a person is not yet mended: no recovery before a delivery, no second alarm where it fails again."""
    with Ferry(tmp_path) as ferry:
        ferry.sinks["out"]["probe"] = "1h"
        ferry.script().behave = raising(SinkMisconfigured("401 Unauthorized"))
        with ready(ferry).working() as workers:
            wait_until(lambda: ferry.sink().state == "held")
            ferry.do("resume", sink="out")
            condition = ferry.conditions()["sink.held:out"]
            assert "resumed by hand" in condition.subject and "401" in condition.detail
            workers["out"].wake()
            ferry.script().await_calls(2)
            wait_until(lambda: ferry.sink().state == "held")
            assert "needs a person" in ferry.conditions()["sink.held:out"].subject
            assert kinds(ferry, "sink.held") == ["problem"]
            ferry.script().behave = take
            ferry.do("resume", sink="out")
            workers["out"].wake()
            wait_until(lambda: ferry.is_settled("out"))
        assert ferry.conditions() == {}
        assert kinds(ferry, "sink.held") == ["problem", "recovered"]


def test_a_held_sink_is_tried_at_once_when_its_configuration_was_changed(tmp_path):
    """Not at its next probe, which a mere restart waits for."""
    with Ferry(tmp_path) as ferry:
        ferry.sinks["out"]["probe"] = "1h"
        ferry.script().behave = raising(SinkMisconfigured("no such table"))
        with ready(ferry).working():
            wait_until(lambda: ferry.sink().state == "held")
        ferry.script().behave = take
        with ferry.restart().working() as workers:
            assert workers["out"].wait_idle(20)
        assert (ferry.sink().state, len(ferry.script().calls)) == ("held", 1)
        ferry.sinks["out"]["timeout"] = "19s"
        with ferry.restart().working():
            wait_until(lambda: ferry.is_settled("out"))
        assert ferry.book().delivered == 25


def test_pausing_a_held_sink_is_told_as_what_it_is(tmp_path):
    """Nobody mended anything: the alert is over, not recovered."""
    with Ferry(tmp_path) as ferry:
        ferry.script().behave = raising(SinkMisconfigured("401 Unauthorized"))
        with ready(ferry).working():
            wait_until(lambda: ferry.sink().state == "held")
            ferry.do("pause", sink="out")
        assert kinds(ferry, "sink.held") == ["problem", "over"]


def test_a_thread_that_nobody_foresaw_to_fail_is_told_once_and_so_is_its_recovery(tmp_path, monkeypatch):
    """The same exception again and again is one message, with what waits; it works again, and that is another."""
    waits = []

    def explode(*args: object, **how: object) -> None:
        raise ZeroDivisionError("nobody foresaw this")

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            return super().wait(0.001)

    own = trouble.Trouble.wait
    monkeypatch.setattr(trouble.Trouble, "wait", lambda self, stopping: own(self, Stop()))

    with Ferry(tmp_path) as ferry:
        ready(ferry)
        with monkeypatch.context() as patched:
            patched.setattr(Turns, "next", explode)
            with ferry.working():
                wait_until(lambda: len(waits) >= 6, what="six failures")
        condition = ferry.conditions()["deliver.failed:out"]
        assert condition.detail.startswith("ZeroDivisionError: nobody foresaw this (at ")
        assert (condition.level, condition.fields["backlog_events"]) == ("error", 25)
        assert waits[:5] == [1, 2, 4, 8, 16]
        ferry.deliver()
        assert ferry.conditions() == {}
        assert kinds(ferry, "deliver.failed") == ["problem", "recovered"]


def test_a_ledger_that_cannot_be_written_ends_no_thread(tmp_path, monkeypatch):
    """Where even the alert cannot be written the thread goes on trying, and delivers when the ledger is back."""
    monkeypatch.setattr(trouble, "FIRST_WAIT_S", 0.01)
    refused = []

    @contextmanager
    def full(ledger: Ledger) -> Iterator[None]:
        refused.append(ledger)
        raise sa.exc.OperationalError("BEGIN", None, Exception("database or disk is full"))
        yield

    with Ferry(tmp_path) as ferry:
        ready(ferry)
        with ferry.working() as workers:
            with monkeypatch.context() as patched:
                patched.setattr(Ledger, "write", full)
                workers["out"].wake()
                wait_until(lambda: len(refused) >= 6, what="writes that were refused")
            workers["out"].wake()
            wait_until(lambda: ferry.is_settled("out"))
        assert ferry.book().delivered == 25


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_failure_between_a_begun_attempt_and_its_call_strands_nothing(tmp_path, monkeypatch, concurrency):
    """A batch that was written down as under way, and never sent, is sent by the same worker."""
    monkeypatch.setattr(trouble, "FIRST_WAIT_S", 0.01)
    real, fails = Attempted.as_batch, iter([False, True])

    def flaky(*args: object) -> object:
        if next(fails, False):
            raise sa.exc.OperationalError("COMMIT", None, Exception("database is locked"))
        return real(*args)

    monkeypatch.setattr(Attempted, "as_batch", flaky)
    with Ferry(tmp_path) as ferry:
        ferry.sinks["out"]["concurrency"] = concurrency
        with ready(ferry).working():
            wait_until(lambda: ferry.is_settled("out"))
        assert sorted(numbers(ferry.script().lines_once())) == list(range(25))
        assert ferry.book().delivered == 25


def test_a_batch_that_cannot_be_repeated_holds_the_sink_once(tmp_path):
    """A repair that a changed salt forbids: held until a person acts, and no live batch ends and renews the hold."""
    with Ferry(tmp_path) as ferry:
        ferry.sinks["out"] |= {"redact": {"event_type": "hash"}, "redact_salt": "old", "probe": "20ms"}
        ferry.put(f"{HOUR}/a.ndjson", events(10))
        ferry.open()
        ferry.index()
        ferry.deliver()
        ferry.sinks["out"]["redact_salt"] = "new"
        ferry.set_batch(max_events=1)
        ferry.open()
        ferry.do("replay", sink="out", mode="missing", **{"from": "2026-01-02", "to": "2026-01-02"})
        ferry.put("2026/01/03/00/live.ndjson", events(20, 1000))
        ferry.index()
        with ferry.working():
            wait_until(lambda: ferry.sink().failures > 5, what="several probes")
        assert ferry.sink().state == "held"
        assert kinds(ferry, "sink.held") == ["problem"]


def test_a_replayed_batch_that_always_fails_is_told_of_and_delays_no_live_one(tmp_path):
    """The sink takes everything else: live events arrive, people learn of the one batch, and of its end."""
    with Ferry(tmp_path) as ferry:
        ferry.set_batch(max_events=1)
        ferry.put(f"{HOUR}/a.ndjson", events(3))
        ferry.open()
        ferry.index()
        ferry.deliver()
        ferry.do("replay", sink="out", mode="again", **{"from": "2026-01-02", "to": "2026-01-02"})
        ferry.put("2026/01/03/00/live.ndjson", events(60, 1000))
        ferry.index()
        mended = threading.Event()

        def behave(batch, script):
            if numbers(batch.body.splitlines()) == [1] and not mended.is_set():
                raise SinkUnavailable("times out on this one")

        ferry.script().behave = behave
        with ferry.working():
            wait_until(lambda: sum(n >= 1000 for n in numbers(ferry.script().lines_once())) == 60, what="live events")
            wait_until(lambda: "batch.failing:out" in ferry.conditions(), what="people know")
            assert "sink.unavailable:out" not in ferry.conditions()
            mended.set()
            wait_until(lambda: ferry.conditions() == {}, what="its end")
        assert kinds(ferry, "batch.failing") == ["problem", "recovered"]


def test_a_resumed_sink_that_lacks_nothing_is_held_no_more(tmp_path):
    """Where nothing waits nothing can prove that it works: the alert is over, not recovered."""
    with Ferry(tmp_path) as ferry:
        ferry.script().behave = raising(SinkMisconfigured("401 Unauthorized"))
        with ready(ferry).working():
            wait_until(lambda: ferry.sink().state == "held")
        ferry.script().behave = take
        ferry.do("resume", sink="out")
        assert "sink.held:out" in ferry.conditions()
        ferry.deliver()
        with ferry.ledger.write() as tx:
            record.hold(tx, ferry.setups["out"].rules, "401 Unauthorized")
        ferry.do("resume", sink="out")
        assert ferry.conditions() == {}
        assert kinds(ferry, "sink.held")[-1] == "over"
