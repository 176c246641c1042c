"""What a changed filter or redaction means for batches that were already written down."""

import json

from tests.builders import HOUR, Ferry, events, numbers, wait_until
from tests.scripted import raising, take, unavailable

from eventferry.sink import SinkMisconfigured


def attempted(ferry: Ferry) -> None:
    """One batch of ten attempted in vain, fifteen events behind it."""
    ferry.set_batch(max_events=10)
    ferry.sinks["out"]["retry"] = {"first": "1h", "max": "1h"}
    ferry.script().behave = unavailable()
    ferry.put(f"{HOUR}/a.ndjson", events(25, secret="s"))
    ferry.open()
    ferry.index()
    with ferry.working():
        wait_until(lambda: ferry.batches() and ferry.batches()[0].state == "waiting")
    ferry.script().behave = take


def mended(ferry: Ferry) -> None:
    ferry.sinks["out"]["retry"] = {"first": "1ms", "max": "10ms"}
    with ferry.ledger.write() as tx:
        tx.exec_driver_sql("UPDATE batches SET next_ms = 0")


def test_an_attempted_batch_keeps_its_transform(tmp_path):
    """What may have arrived once is sent again with the same bytes; only new batches are cut under the new filter."""
    with Ferry(tmp_path) as ferry:
        attempted(ferry)
        mended(ferry)
        ferry.sinks["out"]["filter"] = [{"field": "n", "gte": 20}]
        ferry.open().deliver()
        calls = ferry.script().calls
        assert (calls[1].id, calls[1].body) == (calls[0].id, calls[0].body)
        assert numbers(ferry.script().lines()) == [*range(10), *range(20, 25)]
        assert ferry.book().filtered == 10


def test_a_tightened_redaction_holds_what_was_attempted_without_it(tmp_path):
    """What must not be seen any more is not sent, not even by a probe, until a person says so."""
    with Ferry(tmp_path) as ferry:
        attempted(ferry)
        mended(ferry)
        ferry.sinks["out"]["redact"] = {"secret": "remove"}
        ferry.open()
        assert ferry.sink().state == "held"
        with ferry.working() as workers:
            for _ in range(5):  # five times the time between probes
                workers["out"].wake()
                wait_until(lambda: workers["out"].wait_idle(0.05))
            assert len(ferry.script().calls) == 1
            assert "sink.held:out" in ferry.conditions()
            ferry.do("resume", sink="out")
            workers["out"].wake()
            ferry.script().await_taken(25)
        seen = [json.loads(line) for line in ferry.script().lines()]
        assert [each["n"] for each in seen if "secret" in each] == list(range(10))
        assert ferry.book().delivered == 25


def test_a_tightened_redaction_stays_held_over_a_restart(tmp_path):
    """A restart is not a person's consent."""
    with Ferry(tmp_path) as ferry:
        attempted(ferry)
        mended(ferry)
        ferry.sinks["out"]["redact"] = {"secret": "remove"}
        ferry.open()
        ferry.restart()
        with ferry.working() as workers:
            for _ in range(3):
                workers["out"].wake()
                wait_until(lambda: workers["out"].wait_idle(0.05))
        assert len(ferry.script().calls) == 1
        assert ferry.sink().state == "held"


def test_a_held_sink_whose_redaction_is_tightened_is_not_tried_for_the_edit(tmp_path):
    """Another edit would have it tried at once; what was attempted shows too much for that."""
    with Ferry(tmp_path) as ferry:
        ferry.sinks["out"]["probe"] = "1h"
        ferry.script().behave = raising(SinkMisconfigured("no such table"))
        ferry.set_batch(max_events=5)
        ferry.put(f"{HOUR}/a.ndjson", events(5, secret="s"))
        ferry.open()
        ferry.index()
        with ferry.working():
            wait_until(lambda: ferry.sink().state == "held" and ferry.sink().probe_ms)
        ferry.script().behave = take
        ferry.sinks["out"]["redact"] = {"secret": "remove"}
        ferry.open()
        with ferry.working() as workers:
            for _ in range(3):
                workers["out"].wake()
                wait_until(lambda: workers["out"].wait_idle(0.05))
            assert len(ferry.script().calls) == 1
            ferry.do("resume", sink="out")
            workers["out"].wake()
            ferry.script().await_taken(5)
        assert all("secret" in json.loads(line) for line in ferry.script().lines())


def test_a_tightened_redaction_holds_nothing_where_nothing_was_attempted(tmp_path):
    """Unattempted events are simply cut under the new rules."""
    with Ferry(tmp_path) as ferry:
        ferry.put(f"{HOUR}/a.ndjson", events(25, secret="s"))
        ferry.open()
        ferry.index()
        ferry.sinks["out"]["redact"] = {"secret": "hash"}
        ferry.sinks["out"]["redact_salt"] = "pepper"
        ferry.open().deliver()
        assert ferry.sink().state == "active"
        assert {len(json.loads(line)["secret"]) for line in ferry.script().lines()} == {64}


def test_a_loosened_redaction_holds_nothing(tmp_path):
    """Showing more than before is no reason to wait."""
    with Ferry(tmp_path) as ferry:
        ferry.sinks["out"]["redact"] = {"secret": "remove"}
        attempted(ferry)
        mended(ferry)
        del ferry.sinks["out"]["redact"]
        ferry.open().deliver()
        seen = [json.loads(line) for line in ferry.script().lines()]
        assert [each["n"] for each in seen if "secret" not in each] == list(range(10))


def test_a_batch_that_cannot_be_rebuilt_alike_holds_its_sink(tmp_path):
    """A changed salt would change bytes that may have arrived: held, and the way back is the old salt."""
    with Ferry(tmp_path) as ferry:
        ferry.sinks["out"] |= {"redact": {"secret": "hash"}, "redact_salt": "old"}
        attempted(ferry)
        mended(ferry)
        ferry.sinks["out"]["redact_salt"] = "new"
        ferry.open()
        with ferry.working():
            wait_until(lambda: ferry.sink().state == "held")
        assert len(ferry.script().calls) == 1
        ferry.sinks["out"]["redact_salt"] = "old"
        ferry.open()
        ferry.do("resume", sink="out")
        ferry.deliver()
        assert numbers(ferry.script().lines()) == list(range(25))
