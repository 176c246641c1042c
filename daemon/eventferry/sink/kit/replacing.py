"""The promises of sink types that can replace, as tests to inherit: SinkPromises does."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from eventferry.sink.kit.batches import cut_batch, replacing_batch, sample_events
from eventferry.sink.kit.places import Places
from eventferry.sink.kit.target import Target


class ReplacingPromises(Places):
    """Skipped where the type does not say `can_replace`."""

    def _old(self) -> list[list[bytes]]:
        if not self.sink_type.can_replace:
            pytest.skip("this sink type cannot replace")
        return [sample_events(6), sample_events(6, 6)]

    def test_a_replacement_takes_the_place_of_what_it_names(self) -> None:
        """All that came under the named ids goes, the new events come, and what came under others stays."""
        files = self._old()
        with self.healthy() as target, target.sink() as sink:
            old = [cut_batch(files, first, first + 4) for first in (0, 4, 8)]
            more = cut_batch(files, 4, 8, "kit#2")
            for batch in (*old, more):
                sink.deliver(batch)
            sink.deliver(replacing_batch(old[1], _anew(old[1].lines()), old[1].id, more.id, "0" * 32))
            _is_there(target, old=[0, 1, 2, 3, 8, 9, 10, 11], new=[4, 5, 6, 7])

    def test_a_replacement_twice_is_once(self) -> None:
        """A repeat, by another instance as after a crash, changes nothing; and a replacement can be replaced."""
        files = self._old()
        with self.healthy() as target:
            old = cut_batch(files, 0, 12)
            first = replacing_batch(old, _anew(old.lines()), old.id)
            second = replacing_batch(old, _anew(old.lines()), old.id, first.id)
            for batch in (old, first, first):
                with target.sink() as sink:
                    sink.deliver(batch)
                    assert sink.was_delivered(batch) in (None, True)
            _is_there(target, old=[], new=list(range(12)))
            with target.sink() as sink:
                for batch in (second, second):
                    sink.deliver(batch)
            _is_there(target, old=[], new=list(range(12)))

    def test_a_replacement_without_events_deletes(self) -> None:
        """Where the filter of today leaves nothing, an empty body still deletes, and is known again."""
        files = self._old()
        with self.healthy() as target, target.sink() as sink:
            old = [cut_batch(files, first, first + 6) for first in (0, 6)]
            empty = replacing_batch(old[0], [], old[0].id)
            for batch in (*old, empty, empty):
                sink.deliver(batch)
            assert sink.was_delivered(empty) in (None, True)
            _is_there(target, old=list(range(6, 12)), new=[])

    def test_an_empty_batch_where_nothing_is_adds_nothing(self) -> None:
        """An empty body whose predecessors never came is taken, leaves no event, and is known again."""
        files = self._old()
        with self.healthy() as target, target.sink() as sink:
            old = cut_batch(files, 0, 6)
            empty = replacing_batch(old, [], old.id)
            sink.deliver(empty)
            assert sink.was_delivered(empty) in (None, True)
            sink.deliver(cut_batch(files, 6, 12))
            _is_there(target, old=list(range(6, 12)), new=[])

    def test_halves_of_a_replacement_spare_each_other(self) -> None:
        """Halves that name the same ids, sent in any order and repeated, end as all of the new events."""
        files = self._old()
        with self.healthy() as target, target.sink() as sink:
            old = cut_batch(files, 0, 12)
            halves = [cut_batch(files, first, last) for first, last in ((4, 12), (0, 4))]
            halves = [replacing_batch(half, _anew(half.lines()), old.id) for half in halves]
            for batch in (old, *halves, *halves):
                sink.deliver(batch)
            _is_there(target, old=[], new=list(range(12)))

    def test_what_was_replaced_is_not_lacking(self) -> None:
        """An old batch that comes once more, whole or cut otherwise, adds nothing to what stands in its place."""
        files = self._old()
        with self.healthy() as target, target.sink() as sink:
            old = cut_batch(files, 0, 12)
            for batch in (old, replacing_batch(old, _anew(old.lines()), old.id), old, cut_batch(files, 3, 9)):
                sink.deliver(batch)
            _is_there(target, old=[], new=list(range(12)))


def _anew(lines: Any) -> list[bytes]:
    """Events in another form."""
    return [json.dumps({**json.loads(line), "form": "new"}, separators=(",", ":")).encode() for line in lines]


def _is_there(target: Target, *, old: Sequence[int], new: Sequence[int]) -> None:
    events = [json.loads(event) for event in target.arrived()]
    found = sorted((event["n"], "form" in event) for event in events)
    expected = sorted([*((n, False) for n in old), *((n, True) for n in new)])
    assert found == expected, f"(event, is new) {found} are there, not {expected}"
