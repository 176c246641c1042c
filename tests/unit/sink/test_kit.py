"""The kit catches sinks that break the contract."""

from contextlib import contextmanager
from dataclasses import replace

import pytest

from eventferry.sink import BatchRejected, Guarantee, Sink, SinkOptions, SinkUnavailable
from eventferry.sink.kit import SinkPromises, Target, make_batch, sample_events


class Memory(Sink[SinkOptions]):
    """A good sink; each mutant below breaks one promise."""

    guarantee = Guarantee.EFFECTIVELY_ONCE
    place: dict

    def deliver(self, batch):
        self.place.setdefault(batch.id, list(batch.lines()))

    def was_delivered(self, batch):
        return batch.id in self.place


class Lossy(Memory):
    def deliver(self, batch):
        self.place.setdefault(batch.id, list(batch.lines())[:9_000])


class Splitting(Memory):
    def deliver(self, batch):
        self.place.setdefault(batch.id, [line.encode() for line in batch.body.decode().splitlines()])


class Repeating(Memory):
    def deliver(self, batch):
        self.place[batch.id] = self.place.get(batch.id, []) + list(batch.lines())


class ByContent(Memory):
    def deliver(self, batch):
        self.place.setdefault(batch.body, list(batch.lines()))


class Backwards(Memory):
    def deliver(self, batch):
        self.place.setdefault(batch.id, list(batch.lines())[::-1])


class Rewriting(Memory):
    def deliver(self, batch):
        self.place.setdefault(batch.id, [line.replace(b" ", b"") for line in batch.lines()])


class Forgetful(Memory):
    def was_delivered(self, batch):
        return False


class Recording(Memory):
    """Keeps the parts beside the events, as a table would."""

    def deliver(self, batch):
        recorded = self.place.setdefault((batch.epoch,), [])
        if batch.id not in self.place:
            self.place[batch.id] = batch.lacking(recorded).splitlines()
            recorded += batch.parts


class Merging(Recording):
    """Takes a replay on purpose for a repeat."""

    def deliver(self, batch):
        super().deliver(replace(batch, epoch=""))


class Replacing(Recording):
    """Forgets the batches that another one names, and writes their parts down with their ids."""

    can_replace = True

    def deliver(self, batch):
        if batch.id in self.place:
            return
        for id_ in batch.replaces:
            self.place.pop(id_, None)
            self.place.pop((id_,), None)
        known = [part for key, (epoch, parts) in self._books() if epoch == batch.epoch for part in parts]
        self.place[batch.id] = batch.lacking(known).splitlines()
        self.place[(batch.id,)] = (batch.epoch, batch.parts)

    def _books(self):
        return [(key, value) for key, value in self.place.items() if type(key) is tuple]


class Adding(Replacing):
    """Takes what replaces for what comes on top."""

    def deliver(self, batch):
        super().deliver(replace(batch, replaces=(), parts=()))


class Tombstones(Replacing):
    """Takes an empty body for nothing to do."""

    def deliver(self, batch):
        if batch.body:
            super().deliver(batch)


class Greedy(Replacing):
    """Forgets all that it has of the same file."""

    def deliver(self, batch):
        contents = {part.content for part in batch.parts}
        mine = [key[0] for key, (_, parts) in self._books() if contents & {part.content for part in parts}]
        super().deliver(replace(batch, replaces=tuple(set(mine) - {batch.id})) if batch.replaces else batch)


class Silent(Memory):
    """Takes refusals and failures for success."""


class Wrong(Memory):
    """Calls a refusal a case for later."""

    def deliver(self, batch):
        raise SinkUnavailable("no")


def _promises(kind, **declared):
    class Promises(SinkPromises):
        sink_type = kind
        records_parts = declared.get("records_parts", False)

        @contextmanager
        def healthy(self):
            place = {}

            def make():
                sink = kind(SinkOptions())
                sink.place = place
                return sink

            yield Target(
                make, lambda: [line for id_, lines in place.items() if type(id_) is not tuple for line in lines]
            )

        unreachable = refusing = healthy

    return Promises()


def _broken(kind, **declared):
    """The names of the promises that `kind` breaks."""
    promises = _promises(kind, **declared)
    broken = set()
    for name in [one for one in dir(promises) if one.startswith("test_")]:
        try:
            getattr(promises, name)()
        except pytest.skip.Exception:
            continue
        except (AssertionError, BatchRejected, SinkUnavailable, pytest.fail.Exception):
            broken.add(name.removeprefix("test_"))
    return broken


FAILURES = {"an_unreachable_place_means_later", "a_refusal_is_said", "a_failed_open_leaves_nothing_behind"}


@pytest.mark.parametrize(
    ("kind", "promise"),
    [
        (Lossy, "the_largest_batch_arrives"),
        (Splitting, "unicode_arrives"),
        (Repeating, "a_repeat_keeps_the_guarantee"),
        (Repeating, "a_repeat_by_another_instance_keeps_the_guarantee"),
        (ByContent, "equal_events_in_two_batches_both_arrive"),
        (Backwards, "order_is_kept"),
        (Rewriting, "unicode_arrives"),
        (Forgetful, "was_delivered_is_right"),
        (Silent, "an_unreachable_place_means_later"),
        (Silent, "a_refusal_is_said"),
        (Wrong, "a_refusal_is_said"),
    ],
)
def test_each_broken_promise_is_noticed(kind, promise):
    """A sink that breaks a promise fails that test of the kit."""
    assert promise in _broken(kind)


def test_a_good_sink_keeps_all_promises():
    """Nothing but what its missing network would show is left."""
    assert _broken(Memory) == FAILURES
    assert _broken(Recording, records_parts=True) == FAILURES
    assert _broken(Replacing, records_parts=True) == FAILURES


def test_a_sink_that_only_claims_to_record_parts_is_noticed():
    """Knowing ids, or ranges without their epoch, is not knowing parts."""
    assert "other_cuts_of_the_same_ranges_repeat_nothing" in _broken(Memory, records_parts=True)
    assert "another_epoch_repeats_on_purpose" in _broken(Merging, records_parts=True)


@pytest.mark.parametrize(
    ("kind", "promise"),
    [
        (Adding, "a_replacement_takes_the_place_of_what_it_names"),
        (Adding, "a_replacement_twice_is_once"),
        (Tombstones, "a_replacement_without_events_deletes"),
        (Greedy, "halves_of_a_replacement_spare_each_other"),
    ],
)
def test_a_sink_that_only_claims_to_replace_is_noticed(kind, promise):
    """Adding, ignoring an empty body and deleting too much are no replacing."""
    assert promise in _broken(kind, records_parts=True)


def test_ids_follow_content_and_salt():
    """The kit's batches have the ids that the contract promises: equal parts, equal id."""
    assert make_batch(sample_events(2)).id == make_batch(sample_events(2), attempt=2).id
    assert make_batch(sample_events(2)).id != make_batch(sample_events(2), salt="x").id
    assert make_batch(sample_events(2)).events == 2
