"""The elasticsearch sink keeps the contract, against a stub of `_bulk` that behaves as the documentation says."""

import base64
import gzip
import json
from contextlib import contextmanager
from dataclasses import replace
from typing import ClassVar
from urllib.parse import urlsplit

import pytest
from tests.builders import HOUR, Ferry, event, numbers, wait_until
from tests.contract.receiver import dripping, nobody
from tests.elasticsearch_stub import elasticsearch

from eventferry.errors import ConfigError
from eventferry.sink import BatchTooLarge, EventsRejected, Guarantee, SinkMisconfigured, SinkUnavailable
from eventferry.sink.kit import SinkPromises, Target, cut_batch, make_batch, sample_events
from eventferry.sink.kit.batches import FIELD_NAMES
from eventferry.sink.kit.proxy import CuttingProxy
from eventferry.sink.registry import make_sink
from eventferry_sinks.elasticsearch.sink import ElasticsearchSink

KEY = base64.b64encode(b"id-4711:api-key-secret").decode()


def target(stub, url=None, index="events", **options):
    made = {"url": url or stub.url, "index": index, **options}
    return Target(lambda: make_sink("elasticsearch", "search", made), stub.sources if stub else list)


def opened(stub, **options):
    return target(stub, **options).sink()


class TestElasticsearch(SinkPromises):
    sink_type = ElasticsearchSink
    counterpart = "a stub of _bulk"
    options: ClassVar = {"url": "https://search.example.org", "index": "events"}
    table_option = ""  # the names of indexes have rules of their own: see below
    secrets = (KEY, "api-key-secret")
    deadline = 0.3
    poison = b'{"event_type":"poison","n":"many"}'

    @contextmanager
    def healthy(self):
        with elasticsearch() as stub:
            yield target(stub, create=True)

    @contextmanager
    def poisoned(self):
        with elasticsearch() as stub:
            stub.add("events", fields={"n": "long"})
            yield target(stub)

    @contextmanager
    def unreachable(self):
        with nobody() as url:
            yield target(None, url, api_key=KEY)

    @contextmanager
    def refusing(self):
        with elasticsearch() as stub:
            stub.add("events", dynamic="strict")
            yield target(stub)

    @contextmanager
    def misconfigured(self):
        with elasticsearch() as stub:
            stub.authorization = "ApiKey another"
            yield target(stub, api_key=KEY)

    @contextmanager
    def throttling(self):
        with elasticsearch() as stub:
            stub.add("events")
            stub.fail = lambda request: (429, {"Retry-After": "7"}, b"") if "_bulk" in request.path else None
            yield target(stub)

    @contextmanager
    def hanging(self):
        with dripping(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"a") as url:
            yield target(None, url, index="events-%Y", timeout=self.deadline)

    @contextmanager
    def _behind_proxy(self, arm):
        with elasticsearch() as stub, CuttingProxy("127.0.0.1", urlsplit(stub.url).port) as proxy:
            stub.add("events")
            plain = target(stub, proxy.url)
            yield Target(plain.sink, plain.arrived, None, lambda: arm(proxy))

    def losing_reply(self):
        return self._behind_proxy(lambda proxy: proxy.cut_after(b"_bulk"))

    def crashing_before(self):
        return self._behind_proxy(lambda proxy: proxy.cut_before(b"POST"))

    @contextmanager
    def lowering(self):
        with elasticsearch() as stub:
            stub.roll_over("events")
            yield target(stub, data_stream=True)

    def test_a_lowered_guarantee_is_said_and_kept(self):
        """A data stream that rolled over takes a repeat once more: the sink says so beforehand."""
        with elasticsearch() as stub:
            stub.roll_over("events")
            with opened(stub, data_stream=True) as sink:
                assert sink.guarantee is Guarantee.AT_LEAST_ONCE_KEYED
                sink.deliver(make_batch(sample_events(2)))
                sink.deliver(make_batch(sample_events(2)))
                assert len(stub.sources()) == 2
                stub.roll_over("events")
                sink.deliver(make_batch(sample_events(2)))
                assert len(stub.sources()) == 4

    def test_hostile_field_names_arrive(self):
        """Names that the server takes for none are refused for their event alone; all others arrive as they were."""
        refused = {position for position, line in enumerate(FIELD_NAMES) if b'"":1' in line or b"nor" in line}
        with self.healthy() as place, place.sink() as sink:
            with pytest.raises(EventsRejected) as caught:
                sink.deliver(make_batch(FIELD_NAMES))
            assert set(caught.value.reasons) == refused
            assert place.arrived() == [line for position, line in enumerate(FIELD_NAMES) if position not in refused]

    def test_counts_are_well_formed(self):
        """What was sent is counted in bytes."""
        with self.healthy() as place, place.sink() as sink:
            sink.deliver(make_batch(sample_events(3)))
            assert sink.counts["bytes.sent", ""] > 50

    def test_other_bytes_under_the_same_id_are_never_mixed(self):
        """Other bytes at the same places change nothing: what is there under an event's id stays."""
        first, other = sample_events(5), [line.replace(b"pageView", b"pageSeen") for line in sample_events(5)]
        with self.healthy() as place:
            for events in (first, other):
                with place.sink() as sink:
                    sink.deliver(make_batch(events) if events is first else _at_the_places_of(first, other))
            assert place.arrived() == first


class TestOpenSearchDated(TestElasticsearch):
    """Indexes by day, uncompressed, with basic authentication."""

    @contextmanager
    def healthy(self):
        with elasticsearch() as stub:
            stub.authorization = "Basic " + base64.b64encode(b"ferry:pass-4711").decode()
            user = {"username": "ferry", "password": "pass-4711"}
            yield target(stub, index="events-%Y.%m.%d", create=True, compression="none", **user)


def _at_the_places_of(first, other):
    batch = make_batch(first)
    body = b"".join(line + b"\n" for line in other)
    return replace(batch, body=body)


def test_the_bulk_body_has_an_action_and_the_event_as_it_came():
    """Ids stand for the place in the file; the event's bytes pass through; the whole is gzipped."""
    with elasticsearch() as stub:
        stub.add("events")
        with opened(stub, pipeline="geo") as sink:
            sink.deliver(make_batch([b'{"a" : 1.50}', b'{"a":2}']))
        (request,) = stub.bulks
        assert "&pipeline=geo" in request.path
        lines = gzip.decompress(request.raw).split(b"\n")
        assert lines[1::2] == [b'{"a" : 1.50}', b'{"a":2}']
        ids = [json.loads(each)["create"]["_id"] for each in lines[:-1:2]]
        assert [each.rpartition("-")[2] for each in ids] == ["0", "13"]


def test_other_cuts_of_the_same_files_index_each_event_once():
    """A restored ledger that cuts its batches elsewhere, or a replay, adds only what is not there."""
    files = [sample_events(10), sample_events(7, 10), sample_events(13, 17)]
    with elasticsearch() as stub:
        stub.add("events")
        with opened(stub) as sink:
            for first, last, epoch in (
                (0, 4, "a"),
                (8, 20, "a"),
                (0, 3, "b"),
                (3, 9, "b"),
                (9, 18, "b"),
                (18, 30, "b"),
            ):
                sink.deliver(cut_batch(files, first, last, epoch))
        assert sorted(json.loads(each)["n"] for each in stub.sources()) == list(range(30))


def test_with_action_index_a_repeat_writes_the_document_anew():
    """The same id, another version: what a changed transform sends replaces what was there."""
    with elasticsearch() as stub:
        index = stub.add("events")
        with opened(stub, action="index") as sink:
            batch = make_batch([b'{"a":1}'])
            sink.deliver(batch)
            sink.deliver(_at_the_places_of([b'{"a":1}'], [b'{"a":2}']))
        assert list(index.documents.values()) == [(2, b'{"a":2}')]


def test_events_go_to_the_index_of_their_day():
    """The day is the event's own, in UTC; one without a usable time has a place that is always the same."""
    lines = [b'{"timestamp":"2024-02-29T23:59:59.9Z"}', b'{"event_timestamp":1709251200000}', b'{"t":"soon"}']
    with elasticsearch() as stub:
        with opened(stub, index="events-%Y.%m.%d") as sink:
            sink.deliver(make_batch(lines))
        found = {name: stub.sources(name) for name in stub.indexes}
    names = ("events-2024.02.29", "events-2024.03.01", "events-1970.01.01")
    assert found == {name: [line] for name, line in zip(names, lines, strict=True)}


def test_a_data_stream_gets_the_time_that_it_demands():
    """`@timestamp` is put in front of an event that has a time and lacks it; one without any is refused by name."""
    lines = [b'{"timestamp":"2024-03-01T00:00:00Z","a":1.50}', b'{"@timestamp":5,"event_timestamp":7}', b'{"a":1}']
    with elasticsearch() as stub, opened(stub, data_stream=True, create=True) as sink:
        with pytest.raises(EventsRejected) as caught:
            sink.deliver(make_batch(lines))
        assert list(caught.value.reasons) == [2]
        assert "[@timestamp] is missing" in caught.value.reasons[2]
        expected = [b'{"@timestamp":1709251200000,"timestamp":"2024-03-01T00:00:00Z","a":1.50}', lines[1]]
        assert stub.sources() == expected
        assert sink.guarantee is Guarantee.AT_LEAST_ONCE_KEYED


@pytest.mark.parametrize("stream", [False, True])
def test_where_the_user_may_not_look_nothing_is_claimed(stream):
    """An index that cannot be looked at may be an alias, and a data stream rolls over: the claim is lowered."""
    with elasticsearch() as stub:
        if stream:
            stub.roll_over("events")
        else:
            stub.add("events")
        forbidden = {"error": {"type": "security_exception", "reason": "indices:admin/get is unauthorized"}}
        stub.fail = lambda request: (
            (403, {}, json.dumps(forbidden).encode()) if request.path.startswith("/events?") else None
        )
        with opened(stub, data_stream=stream) as sink:
            assert sink.guarantee is Guarantee.AT_LEAST_ONCE_KEYED


# What the server says about single events


def test_a_misfit_is_refused_in_the_servers_words_without_its_value():
    """The exact position, the field and its type; the value that the server quotes is not repeated."""
    with elasticsearch() as stub:
        stub.add("events", fields={"n": "long"})
        with opened(stub) as sink:
            for _ in range(2):
                with pytest.raises(EventsRejected) as caught:
                    sink.deliver(make_batch([*sample_events(3), b'{"n":"s3cret-value"}', *sample_events(2, 3)]))
                ((position, reason),) = caught.value.reasons.items()
                assert position == 3
                assert "failed to parse field [n] of type [long]" in reason
                assert "s3cret" not in reason
        assert len(stub.sources()) == 5


@pytest.mark.parametrize(
    ("status", "kind", "reason", "expected"),
    [
        (429, "es_rejected_execution_exception", "rejected execution", SinkUnavailable),
        (429, "cluster_block_exception", "disk usage exceeded flood-stage watermark", SinkUnavailable),
        (503, "unavailable_shards_exception", "primary shard is not active", SinkUnavailable),
        (404, "index_not_found_exception", "no such index [events]", SinkMisconfigured),
        (403, "security_exception", "action [indices:data/write/bulk] is unauthorized", SinkMisconfigured),
        (403, "cluster_block_exception", "blocked by: [FORBIDDEN/8/index write (api)]", SinkMisconfigured),
        (400, "index_closed_exception", "closed", SinkMisconfigured),
        (400, "illegal_argument_exception", "pipeline with id [geo] does not exist", SinkMisconfigured),
        (400, "validation_exception", "Validation Failed: 1: this action would add [2] shards, but this cluster"
         " currently has [1000]/[1000] maximum shards open;", SinkMisconfigured),
        (400, "illegal_argument_exception", "only write ops with an op_type of create are allowed in data streams",
         SinkMisconfigured),
        (400, "illegal_argument_exception", "Document contains at least one immense term", EventsRejected),
        (400, "strict_dynamic_mapping_exception", "dynamic introduction of [x] is not allowed", EventsRejected),
        (400, "mapper_parsing_exception", "failed to parse", EventsRejected),
    ],
)  # fmt: skip
def test_an_items_error_has_its_meaning_for_the_batch(status, kind, reason, expected):
    """Overload means later for all, what a person must mend holds the sink, content is refused by position."""
    failed = {"status": status, "error": {"type": kind, "reason": reason}}
    with elasticsearch() as stub:
        stub.add("events")
        stub.fail_item = lambda identity, source: failed if b'"n":2' in source else None
        with opened(stub) as sink:
            with pytest.raises(expected, match=kind) as caught:
                sink.deliver(make_batch(sample_events(4)))
            assert not getattr(caught.value, "untouched", False)
            if expected is EventsRejected:
                assert set(caught.value.reasons) == {2}
            stub.fail_item = lambda identity, source: None
            sink.deliver(make_batch(sample_events(4)))
        assert sorted(stub.sources()) == sample_events(4), "what was taken at first is not there twice"


def test_a_body_beyond_the_servers_limit_is_halved():
    """413 is about the size of the request."""
    with elasticsearch() as stub:
        stub.add("events")
        stub.largest = 1000
        with opened(stub) as sink, pytest.raises(BatchTooLarge):
            sink.deliver(make_batch(sample_events(50)))


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"errors":false,"items":[]}', b'{"errors":false}'])
def test_an_answer_that_does_not_tell_of_every_event_is_no_proof(body):
    """A proxy's page with status 200 proves nothing: all of it comes again."""
    with elasticsearch() as stub:
        stub.add("events")
        stub.fail = lambda request: (200, {}, body) if "_bulk" in request.path else None
        with opened(stub) as sink, pytest.raises(SinkUnavailable, match="4 were sent") as caught:
            sink.deliver(make_batch(sample_events(4)))
        assert not caught.value.untouched


# The index


def test_a_missing_index_is_said_with_what_makes_it():
    """Without `create` a person makes the index; the message holds the request."""
    with elasticsearch() as stub:
        with pytest.raises(SinkMisconfigured, match=r"set create = true.*PUT /events \{"), opened(stub):
            pass
        assert not stub.indexes


@pytest.mark.parametrize(("contract", "dynamic"), [("evolve", True), ("freeze", "strict"), ("discard", False)])
def test_an_index_is_made_by_the_schema_contract(contract, dynamic):
    """New fields are mapped, refused, or left unindexed; ill-fitting values stay in the event."""
    with elasticsearch() as stub:
        more = {"settings": {"number_of_replicas": 0}, "mapping": {"properties": {"n": {"type": "long"}}}}
        with opened(stub, create=True, schema_contract=contract, **more) as sink:
            index = stub.indexes["events"]
            assert (index.dynamic, index.ignore_malformed, index.fields) == (dynamic, True, {"n": "long"})
            sink.deliver(make_batch([b'{"n":"many"}']))
        with opened(stub, create=True) as sink:
            sink.deliver(make_batch([b'{"n":5}']))
        assert len(stub.sources()) == 2


def test_a_template_makes_the_indexes_of_days():
    """With `create` and a dated name the server makes each day's index from a template that is put there once."""
    with elasticsearch() as stub:
        for _ in range(2):
            with opened(stub, index="events-%Y.%m", create=True, schema_contract="discard") as sink:
                sink.deliver(make_batch(sample_events(1)))
        assert list(stub.templates) == ["eventferry-events-x.x"]
        assert stub.indexes["events-2024.05"].dynamic is False


def test_what_is_a_data_stream_must_be_called_one():
    """Without `data_stream` a data stream would refuse every event for its missing time."""
    with elasticsearch() as stub:
        stub.roll_over("events")
        with pytest.raises(SinkMisconfigured, match="set data_stream = true"), opened(stub):
            pass


def test_the_steps_of_a_check():
    """Server, index and privilege, in this order."""
    with elasticsearch() as stub:
        stub.add("events")
        with opened(stub) as sink:
            steps = list(sink.check())
        assert steps[0].endswith("is Elasticsearch 8.19.2")
        assert steps[1:] == ["index events is there", "the user may add documents to events"]


@pytest.mark.parametrize(
    "options",
    [
        {"username": "u"},
        {"api_key": KEY, "username": "u", "password": "p"},
        {"data_stream": True, "action": "index"},
        {"data_stream": True, "index": "events-%Y"},
        {"mapping": {"properties": {}}},
        {"index": "Events"},
        {"index": "events-%H"},
        *(
            {"index": name}
            for name in ("_all", "a,b", "a b", "a'b", 'a"b', "a;b", "a/b", "a\x00", "", "..", "*", "x" * 201)
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused(options):
    """What could not work is said when the configuration is read."""
    with pytest.raises(ConfigError):
        make_sink("elasticsearch", "s", {"url": "https://x", "index": "events", **options})


def test_one_event_that_clashes_with_the_mapping_among_a_hundred_thousand(tmp_path):
    """99,999 arrive in a few requests; one dead letter with the server's words, file and line."""
    lines = [event(n, **({"n": "many"} if n == 61_803 else {})) for n in range(100_000)]
    with elasticsearch() as stub, Ferry(tmp_path) as ferry:
        stub.add("events")
        ferry.sinks = {
            "out": {
                "type": "elasticsearch",
                "url": stub.url,
                "index": "events",
                "batch": {"max_wait": "0s", "max_events": 1_000_000, "max_bytes": "64MiB"},
            }
        }
        ferry.put(f"{HOUR}/a.ndjson", b"".join(lines))
        ferry.open()
        ferry.index()
        ferry.deliver(seconds=60)
        assert numbers(stub.sources()) == [n for n in range(100_000) if n != 61_803]
        assert len(stub.bulks) == 1
        (letter,) = ferry.letters()
        assert letter.place == f"{HOUR}/a.ndjson:61804"
        assert "failed to parse field [n] of type [long]" in letter.reason
        assert letter.body == lines[61_803]
        assert (ferry.book().delivered, ferry.book().dead) == (99_999, 1)


def test_an_index_that_refuses_everything_holds_the_sink_without_dead_letters(tmp_path):
    """A wholly wrong mapping is a fault of the sink: it is held, nothing is buried, and once mended all arrives."""
    with elasticsearch() as stub, Ferry(tmp_path) as ferry:
        index = stub.add("events", dynamic="strict")
        ferry.sinks = {
            "out": {
                "type": "elasticsearch",
                "url": stub.url,
                "index": "events",
                "probe": "30ms",
                "retry": {"first": "1ms", "max": "10ms"},
                "batch": {"max_wait": "0s"},
            }
        }
        ferry.put(f"{HOUR}/a.ndjson", b"".join(event(n) for n in range(500)))
        ferry.open()
        ferry.index()
        with ferry.working():
            wait_until(lambda: ferry.sink().state == "held")
            assert "strict_dynamic_mapping_exception" in ferry.conditions()["sink.held:out"].detail
            assert len(stub.bulks) <= 30
            assert ferry.letters() == []
            index.dynamic = True
            wait_until(lambda: ferry.is_settled("out"))
        assert sorted(numbers(stub.sources())) == list(range(500))
        assert ferry.letters() == []
