"""The promises about the same batch sent again, from which the guarantee comes."""

import threading
from dataclasses import replace

import pytest

from eventferry.sink.base import Guarantee
from eventferry.sink.batch import Batch
from eventferry.sink.errors import SinkError, SinkUnavailable
from eventferry.sink.kit.batches import cut_batch, make_batch, sample_events
from eventferry.sink.kit.places import STRENGTH, Places, numbers
from eventferry.sink.kit.target import Target


class RepeatingPromises(Places):
    """Every type keeps its own declaration: neither more nor less."""

    def test_a_repeat_keeps_the_guarantee(self) -> None:
        """The same batch twice has the effect that the type declares, never a part of it."""
        with self.healthy() as target, target.sink() as sink:
            batch = make_batch(sample_events(5))
            sink.deliver(batch)
            sink.deliver(make_batch(sample_events(5), attempt=2))
            self._kept_guarantee(target, batch)

    def test_a_repeat_by_another_instance_keeps_the_guarantee(self) -> None:
        """What makes a repeat harmless outlives the instance, as after a crash."""
        with self.healthy() as target:
            batch = make_batch(sample_events(5))
            for _ in range(2):
                with target.sink() as sink:
                    sink.deliver(batch)
            self._kept_guarantee(target, batch)

    def test_a_lost_reply_keeps_the_guarantee(self) -> None:
        """Where the effect is there and its reply is lost, the outcome is unknown, and a repeat does no harm."""
        with self.losing_reply() as target:
            batch = make_batch(sample_events(5))
            self._lose(target, batch)
            self._kept_guarantee(target, batch)
            if self.sink_type.guarantee is Guarantee.EFFECTIVELY_ONCE:
                for number in range(1, self.lost_replies):
                    self._lose(target, make_batch(sample_events(5, 5 * number)))
                arrived = numbers(target.arrived())
                assert arrived == list(range(5 * self.lost_replies)), "not each event is there once"

    def test_a_crash_before_the_effect_loses_nothing(self) -> None:
        """Where the call broke off before its effect, nothing is there, nobody says otherwise, and a repeat arrives."""
        with self.crashing_before() as target:
            batch = make_batch(sample_events(5))
            _break(target, batch, may_be_untouched=True)
            assert not target.arrived(), "a delivery that broke off left events"
            with target.sink() as sink:
                assert not sink.was_delivered(batch), "nothing took effect, and was_delivered says it did"
                sink.deliver(make_batch(sample_events(5), attempt=2))
            self._same(target.arrived(), sample_events(5))

    def test_twins_at_the_same_time_keep_the_guarantee(self) -> None:
        """A call that was given up may still be at work while another instance sends the same batch."""
        if self.sink_type.guarantee is not Guarantee.EFFECTIVELY_ONCE:
            pytest.skip("this sink type may repeat anyway")
        with self.healthy() as target:
            batch, failed = make_batch(sample_events(5)), list[Exception]()
            together = threading.Barrier(2)
            threads = [
                threading.Thread(target=_send_twin, args=(target, batch, together, failed), daemon=True)
                for _ in range(2)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            if failed:
                raise failed[0]
            with target.sink() as sink:
                sink.deliver(batch)
            self._same(target.arrived(), sample_events(5))

    def test_other_bytes_under_the_same_id_are_never_mixed(self) -> None:
        """One id has one body. Where another one comes all the same, the first stays whole, alone where once is
        promised."""
        first, other = sample_events(5), sample_events(7, 100)
        batch = make_batch(first)
        with self.healthy() as target:
            for each in (batch, replace(make_batch(other), id=batch.id, parts=batch.parts)):
                with target.sink() as sink:
                    try:
                        sink.deliver(each)
                    except SinkError:  # to refuse the second one is fine
                        assert each is not batch, "the first batch was refused"
            arrived = numbers(target.arrived())
            allowed = [numbers(first)]
            if self.sink_type.guarantee is not Guarantee.EFFECTIVELY_ONCE:
                allowed += [numbers([*first, *other])]
            assert arrived in allowed, f"the events {arrived} are there, neither the first batch alone nor both"

    def test_the_declared_guarantee_is_what_repeats_show(self) -> None:
        """A repeat, another instance's repeat and a lost reply show the declared guarantee: neither more nor less."""
        batch = make_batch(sample_events(5))
        with self.healthy() as target:
            said = _repeat(target, batch)
            shown = [self._shown(target, batch)]
        if self.has("losing_reply"):
            with self.losing_reply() as target:
                _break(target, batch)
                with target.sink() as sink:
                    sink.deliver(batch)
                shown.append(self._shown(target, batch))
        weakest = max(shown, key=STRENGTH.index)
        assert said is self.sink_type.guarantee, f"open lowered the guarantee to {said!r} at a healthy place"
        assert weakest is said, f"the type declares {said!r}, what repeats show is {weakest!r}"

    def test_a_lowered_guarantee_is_said_and_kept(self) -> None:
        """Where a place cannot keep what the type declares, the opened instance says less, and that is kept."""
        with self.lowering() as target:
            batch = make_batch(sample_events(5))
            said = _repeat(target, batch)
            assert STRENGTH.index(said) > STRENGTH.index(self.sink_type.guarantee), "open did not lower the guarantee"
            assert STRENGTH.index(self._shown(target, batch)) <= STRENGTH.index(said), f"not even {said!r} is kept"

    def test_equal_events_in_two_batches_both_arrive(self) -> None:
        """Only the batch's id makes a repeat: equal content under another id is delivered."""
        with self.healthy() as target, target.sink() as sink:
            sink.deliver(make_batch(sample_events(3), salt="one"))
            sink.deliver(make_batch(sample_events(3), salt="two"))
            self._same(target.arrived(), sample_events(3) * 2)

    def test_other_cuts_of_the_same_ranges_repeat_nothing(self) -> None:
        """Batches that a restored ledger cuts otherwise add only the events that are lacking, each once."""
        if not self.records_parts:
            pytest.skip("this sink type records batches, not their parts")
        files = [sample_events(10), sample_events(7, 10), sample_events(13, 17)]
        with self.healthy() as target:
            with target.sink() as sink:
                for first, last in ((0, 4), (8, 20), (25, 26)):  # an earlier ledger; some of it never came
                    sink.deliver(cut_batch(files, first, last))
            with target.sink() as sink:
                for first, last in ((0, 3), (3, 9), (9, 18), (18, 30)):
                    sink.deliver(cut_batch(files, first, last))
                    assert sink.was_delivered(cut_batch(files, first, last)) in (None, True)
            arrived = numbers(target.arrived())
            assert arrived == list(range(30)), f"{arrived} arrived, not each of 30 events once"

    def test_another_epoch_repeats_on_purpose(self) -> None:
        """A replay that duplicates on purpose is delivered, and once."""
        if not self.records_parts:
            pytest.skip("this sink type records batches, not their parts")
        files = [sample_events(6)]
        with self.healthy() as target, target.sink() as sink:
            for epoch, cuts in (("kit", ((0, 6),)), ("kit#2", ((0, 4), (4, 6), (2, 6)))):
                for first, last in cuts:
                    sink.deliver(cut_batch(files, first, last, epoch))
            self._same(target.arrived(), sample_events(6) * 2)

    def test_was_delivered_is_right(self) -> None:
        """was_delivered says None always, or False before and True after, also to another instance."""
        with self.healthy() as target:
            batch, other = make_batch(sample_events(2)), make_batch(sample_events(2), salt="other")
            with target.sink() as sink:
                before = sink.was_delivered(batch)
                sink.deliver(batch)
                after = (sink.was_delivered(batch), sink.was_delivered(other))
            with target.sink() as sink:
                later = (sink.was_delivered(batch), sink.was_delivered(other))
            assert before in (None, False), f"said {before} before the delivery"
            expected = (None, None) if before is None else (True, False)
            assert after == later == expected, f"said {after}, then {later}, not {expected}"

    def _lose(self, target: Target, batch: Batch) -> None:
        """A delivery whose reply is lost, and its repeat by another instance."""
        _break(target, batch)
        if self.lost_replies == 1:
            assert len(target.arrived()) == batch.events, "the reply was lost, and its effect with it"
        with target.sink() as sink:
            assert sink.was_delivered(batch) in (None, True), "it took effect, and was_delivered denies it"
            sink.deliver(replace(batch, attempt=2))


def _repeat(target: Target, batch: Batch) -> Guarantee:
    """Deliver twice by one instance and once by another; gives the guarantee that the opened instance says."""
    with target.sink() as sink:
        said = sink.guarantee
        for attempt in (1, 2):
            sink.deliver(replace(batch, attempt=attempt))
    with target.sink() as sink:
        sink.deliver(replace(batch, attempt=3))
    return said


def _break(target: Target, batch: Batch, *, may_be_untouched: bool = False) -> None:
    """A first delivery that ends without an answer, and its instance with it."""
    sink = target.sink()
    sink.open()
    try:
        target.arm()
        with pytest.raises(SinkUnavailable) as caught:
            sink.deliver(batch)
    finally:
        sink.close()
    assert may_be_untouched or not caught.value.untouched, "a lost reply is no proof that nothing was taken"


def _send_twin(target: Target, batch: Batch, together: threading.Barrier, failed: list[Exception]) -> None:
    try:
        with target.sink() as sink:
            together.wait(10)
            sink.deliver(batch)
    except (SinkUnavailable, threading.BrokenBarrierError):  # it is to come back, and does
        together.abort()
    except Exception as error:  # shown by the test, which is another thread
        together.abort()
        failed.append(error)
