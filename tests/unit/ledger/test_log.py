"""The log and the identity of what is cut from it."""

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from tests.builders import Ferry, event, events

from eventferry.ledger.identity import batch_id, batch_id_of
from eventferry.ledger.log import first_since, pack_holes, segments_after, segments_between, unpack_holes
from eventferry.sink import Part

EDGES = st.lists(st.tuples(st.integers(0, 2**62), st.integers(0, 2**62)), max_size=50).map(tuple)


@given(EDGES)
def test_holes_survive_their_packing(holes):
    """What is stored is what was found."""
    assert unpack_holes(pack_holes(holes)) == holes


PART = Part("events", "a", "digest", 0, 10, 1)


def test_an_id_depends_on_all_that_makes_the_bytes_and_on_nothing_else():
    """Sink, epoch, transform, source, key, content and range count; how many events they are does not."""
    base = batch_id("out", 1, "", [PART])
    others = [
        batch_id("other", 1, "", [PART]),
        batch_id("out", 2, "", [PART]),
        batch_id("out", 1, "t", [PART]),
        batch_id("out", 1, "", [PART, PART]),
        *(batch_id("out", 1, "", [replace(PART, **{name: value})]) for name, value in
          (("source", "x"), ("key", "x"), ("digest", "x"), ("start", 1), ("end", 11))),
    ]  # fmt: skip
    assert len({base, *others}) == len(others) + 1
    assert batch_id("out", 1, "", [replace(PART, events=5)]) == base
    assert len(base) == 32


def test_the_ledger_finds_the_same_id_again(tmp_path):
    """From what the ledger keeps of a batch its id follows: on any machine, on any day."""
    with Ferry(tmp_path) as ferry:
        ferry.set_batch(max_events=7)
        for name in "ab":
            ferry.put(f"2026/01/02/03/{name}.ndjson", events(10))
        ferry.open()
        ferry.index()
        ferry.deliver()
        with ferry.ledger.read() as tx:
            for row in ferry.batches():
                assert batch_id_of(tx, "out", 1, "", json.loads(row.parts)) == row.id


def test_segments_are_found_by_place_and_by_date(tmp_path):
    """After a place inside a segment comes that segment; after its end the next of the same source."""
    with Ferry(tmp_path, sources=("one", "two")) as ferry:
        for day in (1, 2, 3):
            ferry.put(f"2026/01/0{day}/00/a.ndjson", event(day), "one")
            ferry.put(f"2026/01/0{day}/00/a.ndjson", event(day), "two")
        ferry.open()
        ferry.index("one")
        ferry.index("two")
        with ferry.ledger.read() as tx:
            two = ferry.at_work["two"].id
            size = len(event(1))
            assert [each.position for each in segments_after(tx, two, 0, 1 << 62)] == [4, 5, 6]
            assert [each.position for each in segments_after(tx, two, 4, size - 1)] == [4, 5, 6]
            assert [each.position for each in segments_after(tx, two, 4, size)] == [5, 6]
            assert [each.position for each in segments_between(tx, two, 2, 5)] == [4, 5]
            day_two = 1_767_312_000_000
            assert first_since(tx, two, 0, day_two) == 5
            assert first_since(tx, two, 5, day_two) == 6
            assert first_since(tx, two, 0, day_two + 30 * 86_400_000) is None
            assert first_since(tx, two, 0, day_two + 30 * 86_400_000, by_age=True) == 4
