"""Deadlines ring once, in time and in their order, unless they were cancelled."""

import threading

from freezegun import freeze_time

from eventferry import clock
from eventferry.sink.alarm import Alarms


def test_they_ring_in_order_of_their_time_and_not_of_their_setting():
    """An earlier one that is set later wakes the thread in time."""
    alarms, rung, done = Alarms(), [], threading.Event()
    alarms.set("late", 0.2, lambda: (rung.append("late"), done.set()))
    alarms.set("early", 0.05, lambda: rung.append("early"))
    assert done.wait(5)
    assert rung == ["early", "late"]


def test_what_is_cancelled_does_not_ring_and_what_is_set_anew_rings_at_the_new_time():
    """A key stands for one deadline: the last one that was set."""
    alarms, rung, done = Alarms(), [], threading.Event()
    alarms.set("gone", 0.02, lambda: rung.append("gone"))
    alarms.cancel("gone")
    alarms.set("moved", 0.02, lambda: rung.append("too early"))
    alarms.set("moved", 0.1, done.set)
    started = clock.steady()
    assert done.wait(5)
    assert clock.steady() - started >= 0.09
    assert rung == []


def test_one_thread_serves_all_and_a_later_one_finds_it():
    """A thread for each call would cost more than the call."""
    alarms, before = Alarms(), threading.active_count()
    for number in range(200):
        alarms.set(number, 60, lambda: None)
        alarms.cancel(number)
    assert threading.active_count() <= before + 1
    done = threading.Event()
    alarms.set("after a while without any", 0.01, done.set)
    assert done.wait(5)


def test_they_ring_in_real_time_where_a_test_holds_the_clock():
    """A server that never answers must end a call also then."""
    done = threading.Event()
    with freeze_time("2026-05-01"):
        Alarms().set("x", 0.05, done.set)
        assert done.wait(5)
