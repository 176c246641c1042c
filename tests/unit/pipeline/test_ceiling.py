"""How large a batch may be is learned from what a sink takes and refuses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventferry.pipeline.ceiling import Ceiling


def sent(ceiling, most, batches):
    """How many of so many full batches a sink that takes `most` bytes refuses; halves are taken."""
    refused = 0
    for _ in range(batches):
        size = ceiling.bytes
        if size <= most:
            ceiling.note_taken(size)
            continue
        refused += 1
        ceiling.note_refused(size)
        while size > most:
            size //= 2
        ceiling.note_taken(size)
    return refused


@given(configured=st.integers(100, 10**8), share=st.floats(0.001, 1.0))
def test_a_steady_limit_is_met_once_in_a_hundred_batches(configured, share):
    """Whatever the sink's limit is, it is found in a few steps, and then tried beyond rarely."""
    ceiling, most = Ceiling(configured), max(1, int(configured * share))
    assert sent(ceiling, most, 100) <= 11
    assert sent(ceiling, most, 1000) <= 11
    if most > 50:
        assert ceiling.bytes >= most // 3, "batches are smaller than they need to be"


def test_a_limit_that_is_raised_is_found_again():
    """A refusal is not remembered for ever: what was configured comes back while the sink takes all."""
    ceiling = Ceiling(8_000_000)
    sent(ceiling, 1_000_000, 100)
    assert sent(ceiling, 10**9, 4000) == 0
    assert ceiling.bytes == 8_000_000


@pytest.mark.parametrize("size", [10, 499])
def test_small_bodies_prove_nothing(size):
    """Many short batches that were taken do not say that large ones would be."""
    ceiling = Ceiling(2000)
    ceiling.note_refused(2000)
    for _ in range(10_000):
        ceiling.note_taken(size)
    assert ceiling.bytes == 1000


def test_a_refusal_never_raises_it():
    """What was cut before less was learned, and is refused now, teaches nothing new."""
    ceiling = Ceiling(16_000_000)
    for size in (16_000_000, 8_000_000, 4_000_000):
        ceiling.note_refused(size)
    ceiling.note_taken(900_000)
    ceiling.note_refused(16_000_000)
    assert ceiling.bytes <= 2_000_000
