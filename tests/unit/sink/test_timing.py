"""Calls that have no deadline of their own end at one."""

import math
import threading

import pytest

from eventferry.sink import SinkUnavailable
from eventferry.sink.timing import Deadline, within


def test_a_call_in_time_gives_what_it_gives():
    """What it returns, also None, and what it raises."""
    assert within(5, lambda: 7, TimeoutError()) == 7
    assert within(5, lambda: None, TimeoutError()) is None
    with pytest.raises(KeyError):
        within(5, lambda: {}["no"], TimeoutError())


def test_a_call_that_hangs_is_left_behind():
    """The caller goes on at the deadline, with the error that was named."""
    released = threading.Event()
    with pytest.raises(SinkUnavailable, match="too long"):
        within(0.05, released.wait, SinkUnavailable("it took too long"))
    released.set()


def test_a_deadline_that_is_over_says_so():
    """A step is not begun without time; without a limit there is always some."""
    with pytest.raises(SinkUnavailable, match="the lake: not done within 0 s") as caught:
        Deadline(0).remaining("the lake")
    assert caught.value.untouched
    assert Deadline().remaining("the lake") == math.inf
