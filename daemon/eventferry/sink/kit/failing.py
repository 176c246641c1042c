"""The promises about what cannot be delivered: the right error, its whole truth, and nothing left behind."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventferry import clock
from eventferry.sink.base import Guarantee
from eventferry.sink.errors import (
    BatchRejected,
    BatchTooLarge,
    EventsRejected,
    SinkMisconfigured,
    SinkUnavailable,
)
from eventferry.sink.kit.batches import make_batch, sample_events
from eventferry.sink.kit.places import Places


class FailingPromises(Places):
    """Each is skipped where the contract test has no such place."""

    def test_an_unreachable_place_means_later(self) -> None:
        """A place that cannot be reached raises SinkUnavailable, at open or at the delivery."""
        with self.unreachable() as target, pytest.raises(SinkUnavailable), target.sink() as sink:
            sink.deliver(make_batch(sample_events(2)))

    def test_a_misconfigured_place_means_a_person(self) -> None:
        """Where a person has to act, SinkMisconfigured says so, at open or at the delivery, and nothing arrives."""
        with self.misconfigured() as target:
            with pytest.raises(SinkMisconfigured) as caught, target.sink() as sink:
                sink.deliver(make_batch(sample_events(2)))
            assert str(caught.value).strip(), "nothing tells the person what to do"
            assert not target.arrived(), "the sink is to be held, but events arrived"

    def test_a_refusal_is_said(self) -> None:
        """A refusal is an error of the contract that no retry would mend, and takes nothing unless it says so."""
        with self.refusing() as target:
            refused = (BatchRejected, EventsRejected, BatchTooLarge, SinkMisconfigured)
            with pytest.raises(refused) as caught, target.sink() as sink:
                sink.deliver(make_batch(sample_events(2)))
            if not isinstance(caught.value, EventsRejected):
                assert not target.arrived(), "the batch was refused, but events of it arrived"

    def test_a_refused_event_is_named_or_alone_in_the_way(self) -> None:
        """One event that is refused for its content: its exact position and all others taken, the same at a resend; or
        nothing taken, so that halves can be tried."""
        with self.poisoned() as target, target.sink() as sink:
            assert self.the_poison is not None
            good = sample_events(6)
            batch = make_batch([*good[:4], self.the_poison, *good[4:]])
            with pytest.raises((EventsRejected, BatchRejected)) as caught:
                sink.deliver(batch)
            if isinstance(caught.value, EventsRejected):
                self._named(caught.value, 4)
                with pytest.raises(EventsRejected) as again:
                    sink.deliver(batch)
                self._named(again.value, 4)
                if self.sink_type.guarantee is Guarantee.EFFECTIVELY_ONCE:
                    self._same(target.arrived(), good)
                return
            assert not target.arrived(), "the batch was refused, but events of it arrived"
            for half in (good[:4], good[4:]):
                sink.deliver(make_batch(half))
            with pytest.raises((EventsRejected, BatchRejected)):
                sink.deliver(make_batch([self.the_poison]))
            self._same(target.arrived(), good[:4], good[4:])

    def test_a_wish_for_patience_is_passed_on(self) -> None:
        """Where the other side names a time to wait, the error carries it, and nothing has arrived if it says so."""
        with self.throttling() as target:
            with pytest.raises(SinkUnavailable) as caught, target.sink() as sink:
                sink.deliver(make_batch(sample_events(2)))
            wish = caught.value.retry_after
            assert wish is not None, "the time that was asked for is lost"
            assert abs(wish - self.retry_after) <= 1.5, f"{self.retry_after} s were asked for, the error says {wish}"
            assert not (caught.value.untouched and target.arrived()), "untouched, but events arrived"

    def test_a_call_ends_at_its_deadline(self) -> None:
        """A place that never finishes its answer is left at the deadline, and the outcome counts as unknown."""
        with self.hanging() as target:
            started, was_opened = clock.monotonic(), False
            with pytest.raises(SinkUnavailable) as caught, target.sink() as sink:
                target.arm()
                started, was_opened = clock.monotonic(), True
                sink.deliver(make_batch(sample_events(2)))
            assert clock.monotonic() - started < self.deadline + 1.0, "the call outlived its deadline by a second"
            if was_opened:
                assert not caught.value.untouched, "an overdue call may have taken effect: untouched must be False"

    def test_a_failed_open_leaves_nothing_behind(self) -> None:
        """Opening in vain leaves no thread and no descriptor, so that a probe every minute costs nothing."""
        with self.unreachable() as target:
            self._fail(target)
            before = _descriptors(), threading.active_count()
            for _ in range(5):
                self._fail(target)
            now = _descriptors(), threading.active_count()
            assert now[0] <= before[0], f"{now[0] - before[0]} descriptors are left after five failures"
            assert now[1] <= before[1] + 1, f"{now[1] - before[1]} threads are left after five failures"

    @staticmethod
    def _named(error: EventsRejected, position: int) -> None:
        assert set(error.reasons) == {position}, f"position {position} is refused, the error says {set(error.reasons)}"
        assert error.reasons[position].strip(), "the refusal has no words"


def _descriptors() -> int:
    return sum(1 for _ in _listed(Path("/proc/self/fd")))


def _listed(folder: Path) -> Iterator[Path]:
    return folder.iterdir() if folder.is_dir() else iter(())
