"""The promises that every sink type keeps, as tests to inherit."""

import contextlib
import json
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from eventferry import clock
from eventferry.sink.base import CONTRACT_VERSION, Guarantee, Sink, SinkOptions
from eventferry.sink.errors import (
    BatchRejected,
    BatchTooLarge,
    EventsRejected,
    SinkError,
    SinkMisconfigured,
    SinkUnavailable,
)
from eventferry.sink.kit.batches import FIELD_NAMES, NUL, NUMBERS, UNICODE, cut_batch, make_batch, sample_events
from eventferry.sink.kit.replacing import ReplacingPromises
from eventferry.sink.kit.target import Target


class SinkPromises(ReplacingPromises):
    """Inherit this in a test class, say what the other side is, and pytest proves the contract.

    `healthy` is required; a sink that talks to a network also gives `unreachable`, `refusing` and `hanging`. Each is a
    context manager that yields a Target; `self.tmp_path` is an empty directory for it.
    """

    sink_type: ClassVar[type[Sink[Any]]]
    exact: ClassVar[bool] = True  # the bytes of an event arrive as they were; False: as equal JSON
    ordered: ClassVar[bool] = True  # batches arrive one after the other; False: they lie side by side, as files do
    takes_nul: ClassVar[bool] = True  # \u0000 in a text is taken; False: it is refused by name
    records_parts: ClassVar[bool] = False  # True: what came in batches that were cut otherwise is known, too
    options: ClassVar[dict[str, Any]] = {}  # valid options, for the tests of options
    secrets: ClassVar[tuple[str, ...]] = ()  # texts among the options of `unreachable` and `refusing` to be kept
    deadline: ClassVar[float] = 1.0  # seconds that the sink of `hanging` is configured to wait in total

    tmp_path: Path

    @pytest.fixture(autouse=True)
    def _give_directory(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path

    def healthy(self) -> AbstractContextManager[Target]:
        """A place that takes everything."""
        raise NotImplementedError("a contract test defines healthy()")

    def unreachable(self) -> AbstractContextManager[Target]:
        """A place that cannot be reached now, but may be later."""
        pytest.skip("this sink type has no unreachable()")

    def refusing(self) -> AbstractContextManager[Target]:
        """A place that answers, and refuses whatever is sent."""
        pytest.skip("this sink type has no refusing()")

    def hanging(self) -> AbstractContextManager[Target]:
        """A place that takes the connection and never finishes its answer."""
        pytest.skip("this sink type has no hanging()")

    # What arrives

    def test_one_event_arrives(self) -> None:
        """A batch of one event arrives."""
        self._arrives(sample_events(1))

    def test_the_largest_batch_arrives(self) -> None:
        """A batch as large as the type's own limits arrives whole."""
        self._arrives(sample_events(self._largest()))

    def test_unicode_arrives(self) -> None:
        """Texts arrive as they were: separators of other kinds split nothing, escapes and spaces stay."""
        self._arrives(UNICODE)

    def test_nul_arrives_or_is_refused_by_name(self) -> None:
        """An escaped NUL is taken, or refused as that event; it never blocks the events around it in silence."""
        lines = [*sample_events(1), *NUL, *sample_events(1, 1)]
        if self.takes_nul:
            self._arrives(lines)
            return
        with self.healthy() as target, target.sink() as sink, pytest.raises((EventsRejected, BatchRejected)):
            sink.deliver(make_batch(lines))

    def test_numbers_arrive(self) -> None:
        """Numbers at and beyond 64 bits arrive without losing a digit, and odd times stop nothing."""
        self._arrives(NUMBERS)

    def test_hostile_field_names_arrive(self) -> None:
        """Field names that are SQL, twins, empty, long or nested, and events without any usual field, arrive."""
        self._arrives(FIELD_NAMES)

    def test_order_is_kept(self) -> None:
        """Events keep the order of their batch, and batches that of their delivery unless they lie side by side."""
        with self.healthy() as target, target.sink() as sink:
            batches = [sample_events(40, start) for start in (0, 40, 80)]
            for events in batches:
                sink.deliver(make_batch(events))
            self._same(target.arrived(), *batches)

    # The same batch twice

    def test_a_repeat_keeps_the_guarantee(self) -> None:
        """The same batch twice has the effect that the type declares, never a part of it."""
        with self.healthy() as target, target.sink() as sink:
            batch = make_batch(sample_events(5))
            sink.deliver(batch)
            sink.deliver(make_batch(sample_events(5), attempt=2))
            self._kept_guarantee(target, batch.id)

    def test_a_repeat_by_another_instance_keeps_the_guarantee(self) -> None:
        """What makes a repeat harmless outlives the instance, as after a crash."""
        with self.healthy() as target:
            batch = make_batch(sample_events(5))
            for _ in range(2):
                with target.sink() as sink:
                    sink.deliver(batch)
            self._kept_guarantee(target, batch.id)

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
            arrived = sorted(json.loads(event)["n"] for event in target.arrived())
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

    # When it cannot be

    def test_an_unreachable_place_means_later(self) -> None:
        """A place that cannot be reached raises SinkUnavailable, at open or at the delivery."""
        with self.unreachable() as target, pytest.raises(SinkUnavailable), target.sink() as sink:
            sink.deliver(make_batch(sample_events(2)))

    def test_a_refusal_is_said(self) -> None:
        """A refusal is an error of the contract that no retry would mend, and takes nothing unless it says so."""
        with self.refusing() as target:
            refused = (BatchRejected, EventsRejected, BatchTooLarge, SinkMisconfigured)
            with pytest.raises(refused) as caught, target.sink() as sink:
                sink.deliver(make_batch(sample_events(2)))
            if not isinstance(caught.value, EventsRejected):
                assert not target.arrived(), "the batch was refused, but events of it arrived"

    def test_a_call_ends_at_its_deadline(self) -> None:
        """A place that never finishes its answer is left at the deadline, and the outcome counts as unknown."""
        with self.hanging() as target, target.sink() as sink:
            started = clock.monotonic()
            with pytest.raises(SinkUnavailable) as caught:
                sink.deliver(make_batch(sample_events(2)))
            assert clock.monotonic() - started < self.deadline + 1.0, "the call outlived its deadline by a second"
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

    # Life and options

    def test_making_a_sink_touches_nothing(self) -> None:
        """A sink is made, shown and closed without any connection."""
        with self.unreachable() as target:
            sink = target.sink()
            assert repr(sink)
            sink.close()

    def test_close_twice_is_harmless(self) -> None:
        """close may be called again, and a new instance takes over at once."""
        with self.healthy() as target:
            with target.sink() as sink:
                sink.deliver(make_batch(sample_events(1)))
            sink.close()
            with target.sink() as sink:
                sink.deliver(make_batch(sample_events(1, 1)))
            self._same(target.arrived(), sample_events(1), sample_events(1, 1))

    def test_unknown_options_are_refused(self) -> None:
        """A misspelt option is an error, never ignored."""
        self.sink_type.Options.model_validate(self.options)
        with pytest.raises(ValidationError):
            self.sink_type.Options.model_validate({**self.options, "no_such_option": 1})

    def test_the_type_declares_itself(self) -> None:
        """A type says its guarantee, its limits and the contract it was written for."""
        kind = self.sink_type
        assert issubclass(kind, Sink)
        assert issubclass(kind.Options, SinkOptions)
        assert kind.contract == CONTRACT_VERSION
        assert isinstance(kind.guarantee, Guarantee)
        assert kind.max_concurrency >= 1
        assert kind.limits.max_events >= 1
        assert kind.limits.max_bytes >= 1024

    def test_secrets_stay_secret(self) -> None:
        """No secret is in the text of a sink, of its options, or of an error and its traceback."""
        if not self.secrets:
            pytest.skip("this sink type has no secrets")
        for place in (self.unreachable, self.refusing):
            with place() as target:
                sink = target.sink()
                texts = [repr(sink), str(sink), repr(sink.options), str(sink.options), self._fail(target)]
            for secret in self.secrets:
                assert not any(secret in text for text in texts), "a secret is shown"

    # How it is judged

    def _largest(self) -> int:
        limits = self.sink_type.limits
        longest = max(map(len, sample_events(1, 10_000_000))) + 1
        return max(1, min(limits.max_events, limits.max_bytes // longest))

    def _arrives(self, events: Sequence[bytes]) -> None:
        with self.healthy() as target, target.sink() as sink:
            sink.deliver(make_batch(events))
            self._same(target.arrived(), events)

    def _kept_guarantee(self, target: Target, batch_id: str) -> None:
        events, arrived = sample_events(5), target.arrived()
        if self.sink_type.guarantee is Guarantee.EFFECTIVELY_ONCE:
            self._same(arrived, events)
            return
        self._same(arrived, events * max(1, len(arrived) // 5))
        if self.sink_type.guarantee is Guarantee.AT_LEAST_ONCE_KEYED:
            assert target.keys is not None, "a keyed sink's Target gives keys"
            assert set(target.keys()) == {batch_id}, "the receiver did not see the batch's id as the key"

    def _same(self, arrived: Sequence[bytes], *batches: Sequence[bytes]) -> None:
        if not self.ordered:  # take the batches in the order in which they lie there
            place = {event: number for number, event in reversed(list(enumerate(arrived)))}
            batches = tuple(sorted(batches, key=lambda events: place.get(events[0], 0)))
        sent = [event for events in batches for event in events]
        assert len(arrived) == len(sent), f"{len(arrived)} events arrived, {len(sent)} were sent"
        for number, (here, there) in enumerate(zip(arrived, sent, strict=True)):
            equal = here == there if self.exact else _parsed(here) == _parsed(there)
            assert equal, f"event {number} changed: {here[:300]!r} was {there[:300]!r}"

    def _fail(self, target: Target) -> str:
        """The traceback of a delivery in vain; the sink is closed as the daemon would."""
        sink = target.sink()
        try:
            sink.open()
            with contextlib.closing(sink):
                sink.deliver(make_batch(sample_events(2)))
        except SinkError as error:
            return "".join(traceback.format_exception(error))
        raise AssertionError("the delivery went well where it should have failed")


def _parsed(event: bytes) -> Any:
    return json.loads(event, parse_float=Decimal)


def _descriptors() -> int:
    return sum(1 for _ in _listed(Path("/proc/self/fd")))


def _listed(folder: Path) -> Iterator[Path]:
    return folder.iterdir() if folder.is_dir() else iter(())
