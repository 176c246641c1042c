"""A sink that takes smaller bodies than the configuration says is asked too much once, not with every batch."""

from tests.builders import HOUR, Ferry, events, numbers
from tests.scripted import take, too_large


def test_a_limit_of_the_sink_is_learned(tmp_path):
    """After the first refusal batches are cut as the sink takes them; every event arrives, in order."""
    with Ferry(tmp_path) as ferry:
        ferry.set_batch(max_events=100)
        ferry.script().behave = too_large(5000)
        ferry.put(f"{HOUR}/a.ndjson", events(4000))
        ferry.open()
        ferry.index()
        ferry.deliver()
        script = ferry.script()
        assert numbers(script.lines()) == list(range(4000))
        refused = [batch for batch in script.calls if len(batch.body) > 5000]
        assert 1 <= len(refused) <= 3, [len(batch.body) for batch in script.calls]
        assert ferry.book().delivered == 4000


def test_a_single_event_too_large_does_not_make_the_others_small(tmp_path):
    """One giant event becomes a dead letter; what follows it goes in full batches."""
    with Ferry(tmp_path) as ferry:
        ferry.set_batch(max_events=10)
        ferry.script().behave = too_large(5000)
        ferry.put(f"{HOUR}/a.ndjson", events(1, pad="x" * 9000) + events(300, 1))
        ferry.open()
        ferry.index()
        ferry.deliver()
        assert sorted(numbers(ferry.script().lines())) == list(range(1, 301))
        assert [letter.kind for letter in ferry.letters()] == ["too_large"]
        ferry.script().behave = take
        assert max(batch.events for batch in ferry.script().taken[-5:]) == 10
