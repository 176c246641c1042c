"""What an answer's words become: one bounded line without payloads, for journal, ledger and messages."""

import sys
from operator import methodcaller
from queue import SimpleQueue

import pytest

from eventferry.pipeline.outcome import Ending, judge
from eventferry.pipeline.slot import Call, Slot
from eventferry.sink import BatchRejected, BatchTooLarge, EventsRejected, SinkMisconfigured, SinkUnavailable
from eventferry.sink.kit import make_batch
from eventferry.sink.registry import make_sink

PAYLOAD = '{"user":"ada","amount":12}\n' * 100_000


@pytest.mark.parametrize("kind", [SinkUnavailable, SinkMisconfigured, BatchTooLarge, BatchRejected])
def test_the_words_of_a_sink_are_one_bounded_line(kind):
    """However much a sink says, its first line is kept, without control characters; a remedy has more room."""
    assert judge(kind("says\x1b[31m no\nand more"), 1).reason == "says [31m no"
    assert judge(kind("\n no \n"), 1).reason == "no"
    assert len(judge(kind("x" * 3_000_000), 1).reason) == (1000 if kind is SinkMisconfigured else 200)


def test_an_unknown_exception_shows_no_events():
    """Its type and the words before a payload are told, never the payload."""
    verdict = judge(ValueError("cannot store: " + PAYLOAD), 1)
    assert (verdict.ending, verdict.reason) == (Ending.BUG, "ValueError: cannot store:")
    assert judge(ValueError(PAYLOAD), 1).reason == "ValueError"
    assert judge(RuntimeError("x" * 5000), 1).reason == "RuntimeError: " + "x" * 99 + "…"
    assert judge(KeyError("amount"), 1).reason == "KeyError: 'amount'"
    assert judge(OSError("line one\nline two"), 1).reason == "OSError: line one"


def test_an_unknown_exception_is_located_in_the_code_that_was_called(tmp_path, monkeypatch):
    """File and line of the sink's own code, not of the library that it uses; the type is not said twice."""
    (tmp_path / "own_hook.py").write_text(
        "import json\n"
        "def process(ndjson):\n"
        "    return parse(ndjson)\n"
        "def parse(text):\n"
        "    return json.loads('nonsense')\n"
        "def fail(ndjson):\n"
        "    raise RuntimeError('RuntimeError: no more')\n"
        "def later(ndjson):\n"
        "    return (n for n in [])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    batch = make_batch([b'{"n":1}'])
    place = f"{tmp_path}/own_hook.py"
    place = place if len(place) <= 150 else f"…{place[-149:]}"

    def reason(function: str) -> str:
        replies = SimpleQueue()
        slot = Slot(lambda: make_sink(f"own_hook:{function}", "bi", {}), replies, "bi")
        slot.start(Call(1, methodcaller("deliver", batch)), 10)
        error = replies.get(timeout=10).error
        slot.close()
        return judge(error, 1).reason

    assert reason("process") == f"JSONDecodeError: Expecting value: line 1 column 1 (char 0) (at {place}:5)"
    assert reason("fail") == f"RuntimeError: no more (at {place}:7)"
    assert reason("later") == "TypeError: bi returned work that is not done yet: generator"
    sys.modules.pop("own_hook")


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
