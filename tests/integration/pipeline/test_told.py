"""What a sink tells beside its answers is kept with the outcome: counts of what was taken, and its guarantee here."""

import pytest
from tests.builders import HOUR, Ferry, events
from tests.scripted import ScriptedSink, first, unavailable

from eventferry.ledger import sink_counts, sinks
from eventferry.sink import BatchRejected, EventsRejected, Guarantee


def _deliver(ferry, count=25):
    ferry.set_batch(max_events=10)
    ferry.put(f"{HOUR}/a.ndjson.gz", events(count))
    ferry.open()
    ferry.index()
    ferry.deliver()


def _told(ferry):
    with ferry.ledger.read() as tx:
        (row,) = sinks.all_sinks(tx)
        return row.guarantee, {(each.what, each.of): each.number for each in sink_counts.counts_of(tx, row.id)}


def test_counts_add_up_over_batches_and_only_of_what_was_taken(tmp_path):
    """Attempts in vain count nothing, whatever they had counted by then."""
    with Ferry(tmp_path) as ferry:
        ferry.script().tells = lambda sink: sink.count("values.misfitted", "elapsed", 2)
        ferry.script().behave = first(2, unavailable())
        _deliver(ferry)
        assert len(ferry.script().calls) == 5
        assert _told(ferry) == ("at least once", {("values.misfitted", "elapsed"): 6})


def test_a_batch_of_which_some_was_refused_counts(tmp_path):
    """EventsRejected takes the rest, and BatchRejected nothing."""
    with Ferry(tmp_path) as ferry:
        ferry.script().tells = lambda sink: sink.count("values.discarded", "url")
        answers = [EventsRejected({0: "no"}), BatchRejected("no")]

        def behave(batch, script):
            if answers:
                raise answers.pop(0)

        ferry.script().behave = behave
        _deliver(ferry, 20)
        assert len(ferry.script().calls) == 4
        assert _told(ferry)[1] == {("values.discarded", "url"): 3}


def test_a_guarantee_that_the_place_lowers_is_remembered(tmp_path):
    """What the opened instance says counts, not what its type declares."""
    with Ferry(tmp_path) as ferry:
        ferry.script().tells = lambda sink: setattr(sink, "guarantee", Guarantee.AT_LEAST_ONCE_KEYED)
        _deliver(ferry)
        assert _told(ferry)[0] == "at least once, keyed"


@pytest.mark.parametrize("counts", [None, {"odd": 1}, {("a", "b"): "many"}, {("a", "b"): -1}])
def test_a_sink_that_breaks_its_counts_delivers_all_the_same(tmp_path, counts):
    """Nothing that a third party makes of its counts repeats a batch."""
    with Ferry(tmp_path) as ferry:
        ferry.script().tells = lambda sink: setattr(sink, "counts", counts)
        _deliver(ferry)
        assert len(ferry.script().calls) == 3
        assert _told(ferry)[1] == {}


def test_invented_counts_do_not_fill_the_ledger(tmp_path):
    """Beyond 200 different ones the rest is counted together, and long names are cut."""
    with Ferry(tmp_path) as ferry:

        def tell(sink: ScriptedSink) -> None:
            for number in range(300):
                sink.count("values.misfitted", f"{number} " + "x" * 200)

        ferry.script().tells = tell
        _deliver(ferry, 5)
        _, counts = _told(ferry)
        assert len(counts) == sink_counts.MOST + 1
        assert counts["values.misfitted", sink_counts.OTHERS] == 100
        assert max(len(of) for _, of in counts) <= 100
