"""The kit catches sinks that break the contract, each by the name of the promise."""

from contextlib import contextmanager

import pytest
from tests.unit.sink.broken import (
    POISON,
    TOKEN,
    Adding,
    Backwards,
    Bisected,
    Boasting,
    ByContent,
    Counting,
    Denying,
    Forgetful,
    Forgetting,
    Greedy,
    HalfTaking,
    Hasty,
    Hopeful,
    Impatient,
    Injectable,
    Later,
    Leaving,
    Lenient,
    Logging,
    Lossy,
    Memory,
    Merging,
    Misnaming,
    Mixing,
    Modest,
    Mute,
    Once,
    Opening,
    Place,
    Racing,
    Recording,
    Recounting,
    Repeating,
    Replacing,
    Rewriting,
    Silent,
    Splitting,
    Telling,
    Tombstones,
    Trying,
    Uncounting,
    Unguarded,
    Unproven,
    Wrong,
)

from eventferry.sink.kit import SinkPromises, Target, make_batch, sample_events

PROMISES = {name.removeprefix("test_") for name in dir(SinkPromises) if name.startswith("test_")}


def _place(mode):
    @contextmanager
    def place(self):
        yield self.target(Place(mode))

    return place


def _promises(kind):
    class Promises(SinkPromises):
        sink_type = kind
        counterpart = "a dictionary"
        records_parts = issubclass(kind, Recording) or kind in CLAIM_PARTS
        secrets = (TOKEN,)
        poison = POISON

        def target(self, place, **options):
            def make():
                sink = kind(kind.Options(**options))
                sink.place = place
                return sink

            return Target(make, place.arrived)

        @contextmanager
        def with_columns(self, columns):
            yield self.target(Place(), columns=columns)

        healthy, unreachable, refusing = _place(""), _place("unreachable"), _place("refusing")
        misconfigured, hanging, throttling = _place("misconfigured"), _place("hanging"), _place("throttling")
        losing_reply, crashing_before = _place("losing"), _place("crashing")
        poisoned, lowering = _place("poisoned"), _place("lowered")

    return Promises()


def _breaks(kind, promise):
    try:
        getattr(_promises(kind), f"test_{promise}")()
    except pytest.skip.Exception:
        return False
    except (Exception, pytest.fail.Exception):  # a test that raises anything has failed
        return True
    return False


class Claiming(Memory):
    """Says that it records parts."""


CLAIM_PARTS = (Claiming,)

BROKEN = [
    (Lossy, "the_largest_batch_arrives"),
    (Wrong, "one_event_arrives"),
    (Splitting, "unicode_arrives"),
    (Rewriting, "unicode_arrives"),
    (Backwards, "order_is_kept"),
    (Racing, "as_many_instances_as_declared_work_at_once"),
    (Repeating, "a_repeat_keeps_the_guarantee"),
    (Repeating, "a_repeat_by_another_instance_keeps_the_guarantee"),
    (Forgetting, "a_repeat_by_another_instance_keeps_the_guarantee"),
    (Forgetting, "a_lost_reply_keeps_the_guarantee"),
    (Denying, "a_lost_reply_keeps_the_guarantee"),
    (Forgetful, "a_lost_reply_keeps_the_guarantee"),
    (Leaving, "a_crash_before_the_effect_loses_nothing"),
    (Unguarded, "twins_at_the_same_time_keep_the_guarantee"),
    (Mixing, "other_bytes_under_the_same_id_are_never_mixed"),
    (Modest, "the_declared_guarantee_is_what_repeats_show"),
    (Repeating, "the_declared_guarantee_is_what_repeats_show"),
    (Forgetting, "the_declared_guarantee_is_what_repeats_show"),
    (Boasting, "a_lowered_guarantee_is_said_and_kept"),
    (ByContent, "equal_events_in_two_batches_both_arrive"),
    (Claiming, "other_cuts_of_the_same_ranges_repeat_nothing"),
    (Merging, "another_epoch_repeats_on_purpose"),
    (Forgetful, "was_delivered_is_right"),
    (Adding, "a_replacement_takes_the_place_of_what_it_names"),
    (Adding, "a_replacement_twice_is_once"),
    (Tombstones, "a_replacement_without_events_deletes"),
    (Tombstones, "an_empty_batch_where_nothing_is_adds_nothing"),
    (Greedy, "halves_of_a_replacement_spare_each_other"),
    (Adding, "what_was_replaced_is_not_lacking"),
    (Silent, "an_unreachable_place_means_later"),
    (Later, "a_misconfigured_place_means_a_person"),
    (Silent, "a_refusal_is_said"),
    (Wrong, "a_refusal_is_said"),
    (Counting, "a_refused_event_is_named_or_alone_in_the_way"),
    (HalfTaking, "a_refused_event_is_named_or_alone_in_the_way"),
    (Impatient, "a_wish_for_patience_is_passed_on"),
    (Denying, "a_call_ends_at_its_deadline"),
    (Opening, "a_failed_open_leaves_nothing_behind"),
    (Hasty, "making_a_sink_touches_nothing"),
    (Once, "close_twice_is_harmless"),
    (Lenient, "unknown_options_are_refused"),
    (Unproven, "the_type_declares_itself"),
    (Injectable, "names_that_are_more_than_names_are_refused"),
    (Telling, "secrets_stay_secret"),
    (Logging, "secrets_stay_secret"),
    (Mute, "a_check_tells_steps_and_changes_nothing"),
    (Trying, "a_check_tells_steps_and_changes_nothing"),
    (Hopeful, "a_check_raises_what_a_delivery_would"),
    (Misnaming, "counts_are_well_formed"),
    (Uncounting, "misfits_are_counted_once"),
    (Recounting, "misfits_are_counted_once"),
]


@pytest.mark.parametrize(("kind", "promise"), BROKEN)
def test_each_broken_promise_is_noticed(kind, promise):
    """A sink that breaks a promise fails that test of the kit."""
    assert _breaks(kind, promise)


@pytest.mark.parametrize("kind", [Memory, Recording, Replacing, Bisected])
def test_a_good_sink_keeps_all_promises(kind):
    """Nothing is asked for that a sink cannot keep."""
    assert {promise for promise in PROMISES if _breaks(kind, promise)} == set()


def test_no_promise_is_without_a_sink_that_breaks_it():
    """A promise that nothing can break proves nothing."""
    shared = {"nul_arrives_or_is_refused_by_name", "numbers_arrive", "hostile_field_names_arrive"}  # as unicode_arrives
    assert {promise for _, promise in BROKEN} == PROMISES - shared


def test_ids_follow_content_and_salt():
    """The kit's batches have the ids that the contract promises: equal parts, equal id."""
    assert make_batch(sample_events(2)).id == make_batch(sample_events(2), attempt=2).id
    assert make_batch(sample_events(2)).id != make_batch(sample_events(2), salt="x").id
    assert make_batch(sample_events(2)).events == 2
