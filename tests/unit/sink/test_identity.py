"""Ids of events say where they came from, and nothing else."""

from dataclasses import replace

from eventferry.sink.identity import event_ids
from eventferry.sink.kit import cut_batch, make_batch, sample_events

FILES = [sample_events(10), sample_events(7, 10)]


def test_ids_hold_in_other_cuts_and_differ_between_files():
    """The same event has one id in every batch; two events never share one, even with the same bytes."""
    ids = {}
    for first, last in ((0, 17), (0, 4), (4, 12), (12, 17)):
        batch = cut_batch(FILES, first, last)
        for line, identity in zip(batch.lines(), event_ids(batch), strict=True):
            assert ids.setdefault(identity, line) == line
    assert len(ids) == 17
    assert not set(event_ids(make_batch(FILES[0]))) & set(event_ids(make_batch(FILES[0], salt="other")))


def test_a_replay_that_duplicates_has_other_ids_unless_the_place_alone_counts():
    """The epoch makes the difference, where a sink wants it."""
    one, other = (cut_batch(FILES, 0, 5, epoch) for epoch in ("kit", "kit#2"))
    assert not set(event_ids(one)) & set(event_ids(other))
    assert event_ids(one, epoch=False) == event_ids(other, epoch=False)


def test_without_places_ids_are_those_of_the_batch():
    """A dead letter that is sent once more says nothing of its file: its batch and position stand for it."""
    batch = replace(make_batch(sample_events(3)), parts=())
    assert event_ids(batch) == [f"{batch.id}-{position}" for position in range(3)]


def test_ids_are_fit_for_headers_and_documents():
    """Letters, digits and dashes, not more than fifty, also far into a large file."""
    batch = make_batch(sample_events(1))
    far = replace(batch, starts=lambda: [[2**62]])
    (identity,) = event_ids(far)
    assert identity.replace("-", "").isalnum()
    assert identity.isascii()
    assert len(identity) <= 50
