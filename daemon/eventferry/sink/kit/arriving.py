"""The promises about what arrives: every event, whole and in order, however odd it is."""

import threading

import pytest

from eventferry.sink.errors import BatchRejected, EventsRejected, SinkUnavailable
from eventferry.sink.kit.batches import FIELD_NAMES, NUL, NUMBERS, UNICODE, make_batch, sample_events
from eventferry.sink.kit.places import Places, numbers
from eventferry.sink.kit.target import Target

_TRIES = 5


class ArrivingPromises(Places):
    """Every type keeps them all; `exact`, `ordered` and `takes_nul` say in which form."""

    def test_one_event_arrives(self) -> None:
        """A batch of one event arrives."""
        self._arrives(sample_events(1))

    def test_the_largest_batch_arrives(self) -> None:
        """A batch as large as the type's own limits arrives whole."""
        limits = self.sink_type.limits
        longest = max(map(len, sample_events(1, 10_000_000))) + 1
        self._arrives(sample_events(max(1, min(limits.max_events, limits.max_bytes // longest))))

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
        self._arrives([each for each in FIELD_NAMES if self.takes_nul or b"\\u0000" not in each])

    def test_order_is_kept(self) -> None:
        """Events keep the order of their batch, and batches that of their delivery unless they lie side by side."""
        with self.healthy() as target, target.sink() as sink:
            batches = [sample_events(40, start) for start in (0, 40, 80)]
            for events in batches:
                sink.deliver(make_batch(events))
            self._same(target.arrived(), *batches)

    def test_as_many_instances_as_declared_work_at_once(self) -> None:
        """`max_concurrency` instances on threads of their own lose nothing and mix nothing."""
        count = min(self.sink_type.max_concurrency, 4)
        if count == 1:
            pytest.skip("this sink type has one instance at a time")
        with self.healthy() as target:
            failed: list[Exception] = []
            threads = [
                threading.Thread(target=_send_three, args=(target, number, failed), daemon=True)
                for number in range(count)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            if failed:
                raise failed[0]
            assert numbers(target.arrived()) == list(range(30 * count)), "not each event arrived once"


def _send_three(target: Target, number: int, failed: list[Exception]) -> None:
    try:
        for start in range(30 * number, 30 * number + 30, 10):
            _send(target, start)
    except Exception as error:  # shown by the test, which is another thread
        failed.append(error)


def _send(target: Target, start: int) -> None:
    for attempt in range(1, _TRIES + 1):
        try:
            with target.sink() as sink:
                sink.deliver(make_batch(sample_events(10, start), attempt=attempt))
        except SinkUnavailable:  # as where two transactions met; the daemon sends it again
            if attempt == _TRIES:
                raise
        else:
            break
