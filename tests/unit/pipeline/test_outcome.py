"""What an answer's words become: one bounded line without payloads, for journal, ledger and messages."""

import pytest

from eventferry.pipeline.outcome import Ending, judge
from eventferry.sink import BatchRejected, BatchTooLarge, EventsRejected, SinkMisconfigured, SinkUnavailable

PAYLOAD = '{"user":"ada","amount":12}\n' * 100_000


@pytest.mark.parametrize("kind", [SinkUnavailable, SinkMisconfigured, BatchTooLarge, BatchRejected])
def test_the_words_of_a_sink_are_one_bounded_line(kind):
    """However much a sink says, its first line is kept, at most 200 characters, without control characters."""
    assert judge(kind("says\x1b[31m no\nand more"), 1).reason == "says [31m no"
    assert judge(kind("\n no \n"), 1).reason == "no"
    assert len(judge(kind("x" * 3_000_000), 1).reason) == 200


def test_an_unknown_exception_shows_no_events():
    """Its type and the words before a payload are told, never the payload."""
    verdict = judge(ValueError("cannot store: " + PAYLOAD), 1)
    assert (verdict.ending, verdict.reason) == (Ending.BUG, "ValueError: cannot store:")
    assert judge(ValueError(PAYLOAD), 1).reason == "ValueError"
    assert judge(RuntimeError("x" * 5000), 1).reason == "RuntimeError: " + "x" * 99 + "…"
    assert judge(KeyError("amount"), 1).reason == "KeyError: 'amount'"
    assert judge(OSError("line one\nline two"), 1).reason == "OSError: line one"


def test_the_reasons_of_single_events_are_bounded():
    """Each position keeps its own words, at most 200 characters on one line."""
    verdict = judge(EventsRejected({0: "bad\n" + PAYLOAD, 2: "y" * 5000}), 3)
    assert verdict.ending is Ending.SOME_REFUSED
    assert verdict.refused[0] == "bad"
    assert len(verdict.refused[2]) == 200
    assert len(verdict.reason) <= 200


def test_a_whole_refusal_by_position_is_bounded():
    """Where every event is refused, the first one's words are the batch's, bounded like any."""
    verdict = judge(EventsRejected({0: "z" * 5000}), 1)
    assert verdict.ending is Ending.REFUSED
    assert len(verdict.reason) == 200


def test_positions_outside_of_the_batch_are_a_bug_told_in_bounds():
    """Nonsense of a sink stays a bug, and says no more than others."""
    verdict = judge(EventsRejected({7: "w" * 5000}), 2)
    assert verdict.ending is Ending.BUG
    assert verdict.reason.startswith("EventsRejected names positions outside the batch of 2: 1 events refused")
    assert len(verdict.reason) <= 200
