"""The kafka sink keeps the contract, against librdkafka's mock cluster: Kafka's protocol in memory, no real broker."""

import json
from contextlib import contextmanager
from typing import ClassVar

import pytest
from tests.contract.receiver import dripping, nobody
from tests.kafka_cluster import END_TRANSACTION, PRODUCE, KafkaProxy, kafka_cluster

from eventferry.errors import ConfigError
from eventferry.sink import BatchRejected, BatchTooLarge, EventsRejected, SinkMisconfigured, SinkUnavailable
from eventferry.sink.identity import event_ids
from eventferry.sink.kit import SinkPromises, Target, make_batch, sample_events
from eventferry.sink.registry import make_sink
from eventferry_sinks.kafka.meanings import Meanings
from eventferry_sinks.kafka.sink import KafkaSink

pytest.importorskip("confluent_kafka")
PASSWORD = "pass-4711-secret"
ONE_PARTITION = {"properties": {"partitioner": "consistent"}}  # events without a key lie in one partition, in order


@pytest.fixture(scope="module")
def cluster():
    with kafka_cluster() as running:
        yield running


class TestKafka(SinkPromises):
    sink_type = KafkaSink
    counterpart = "librdkafka's mock cluster"
    options: ClassVar = {"servers": "kafka-1.example.org:9092", "topic": "events"}
    table_option = ""  # the names of topics have rules of their own: see below
    secrets = (PASSWORD,)
    deadline = 1.0
    poison = b'{"event_type":"poison","pad":"' + b"x" * 5000 + b'"}'
    form: ClassVar = ONE_PARTITION
    last = PRODUCE  # the request whose effect is a batch that is there

    @pytest.fixture(autouse=True)
    def _give_cluster(self, cluster):
        self.cluster = cluster

    def target(self, server="", topic="", **options):
        topic = topic or self.cluster.make_topic()
        made = {"servers": server or self.cluster.server, "topic": topic, "timeout": 10, **self.form, **options}
        return Target(
            lambda: make_sink("kafka", "stream", made),
            lambda: [each.value() for each in self.cluster.read(topic)],
            lambda: [dict(each.headers())["eventferry-batch"].decode() for each in self.cluster.read(topic)],
        )

    @contextmanager
    def healthy(self):
        yield self.target()

    @contextmanager
    def poisoned(self):
        yield self.target(max_message_bytes=2000)

    @contextmanager
    def unreachable(self):
        login = {"username": "ferry", "password": PASSWORD, "sasl_mechanism": "PLAIN"}
        with nobody() as url:
            server = url.split("/")[2]
            yield self.target(server, timeout=0.2, security_protocol="sasl_plaintext", **login)

    @contextmanager
    def misconfigured(self):
        yield Target(self.target(topic="no-such-topic").sink)

    @contextmanager
    def _behind_proxy(self, seconds, arm):
        with KafkaProxy(self.cluster) as proxy:
            place = self.target(proxy.server, timeout=seconds)

            def sink():
                proxy.heal()
                return place.sink()

            yield Target(sink, place.arrived, place.keys, lambda: arm(proxy))

    def hanging(self):
        return self._behind_proxy(self.deadline, lambda proxy: proxy.lose_replies(PRODUCE))

    def losing_reply(self):
        return self._behind_proxy(2, lambda proxy: proxy.lose_replies(self.last))

    def crashing_before(self):
        return self._behind_proxy(2, lambda proxy: proxy.lose_requests())


class TestKafkaTransactional(TestKafka):
    """A batch is one transaction."""

    form: ClassVar = {**ONE_PARTITION, "transactional": True, "compression": "zstd"}
    last = END_TRANSACTION


def opened(cluster, **options):
    return make_sink("kafka", "stream", {"servers": cluster.server, "timeout": 10, **options})


def test_an_event_is_a_record_with_its_key_and_ids(cluster):
    """The value is the event as it came; headers say batch, position and event; equal keys lie together."""
    topic = cluster.make_topic()
    batch = make_batch([b'{"user":{"id":"u%d"},"n":%d}' % (n % 7, n) for n in range(70)] + [b'{"n":70}'])
    with opened(cluster, topic=topic, key="user.id") as sink:
        sink.deliver(batch)
    found = {json.loads(each.value())["n"]: each for each in cluster.read(topic)}
    assert [found[n].value() for n in range(71)] == list(batch.lines())
    assert [found[n].key() for n in (0, 8, 70)] == [b"u0", b"u1", None]
    headers = [{name: value.decode() for name, value in found[n].headers()} for n in range(71)]
    assert headers == [
        {"eventferry-batch": batch.id, "eventferry-position": str(n), "eventferry-event": identity}
        for n, identity in enumerate(event_ids(batch))
    ]
    places = {(each.key(), each.partition()) for each in found.values() if each.key()}
    assert len(places) == 7, "a key has one partition"


def test_a_batch_after_a_failed_one_is_written_by_a_new_producer(cluster):
    """A refusal does not end the instance: what comes next arrives, and nothing of the failed call is written later."""
    topic = cluster.make_topic()
    with KafkaProxy(cluster) as proxy, opened(cluster, topic=topic, servers=proxy.server, timeout=2) as sink:
        proxy.lose_requests()
        with pytest.raises(SinkUnavailable):
            sink.deliver(make_batch(sample_events(5)))
        proxy.heal()
        sink.deliver(make_batch(sample_events(5, 5)))
    assert sorted(json.loads(each.value())["n"] for each in cluster.read(topic)) == [5, 6, 7, 8, 9]


def test_an_old_trouble_does_not_explain_a_new_one(cluster):
    """What was hinted at before a batch was taken is over: a timeout hours later means later, and holds no sink."""
    from confluent_kafka import KafkaError

    with opened(cluster, topic=cluster.make_topic()) as sink:
        sink._meanings.listen(KafkaError(KafkaError._AUTHENTICATION, "one broker was restarting"))
        sink.deliver(make_batch(sample_events(2)))
        assert isinstance(sink._meanings.of([KafkaError(KafkaError._TIMED_OUT)]), SinkUnavailable)


def test_events_that_are_too_large_are_refused_before_anything_of_them_is_sent(cluster):
    """Size is a matter of the event alone: a resend refuses the same positions, and takes the others."""
    topic, large = cluster.make_topic(), b'{"pad":"%b"}' % (b"x" * 3000)
    with opened(cluster, topic=topic, max_message_bytes=2000) as sink:
        for _ in range(2):
            with pytest.raises(EventsRejected) as caught:
                sink.deliver(make_batch([large, *sample_events(3), large]))
            assert list(caught.value.reasons) == [0, 4]
            assert "max_message_bytes = 2000" in caught.value.reasons[0]
    assert len(cluster.read(topic)) == 6


def test_a_missing_topic_is_made_on_request(cluster, monkeypatch):
    """Without `create` the message has the command; with it the topic is asked for, as large as configured.

    The mock cluster cannot make topics by request, so that one call is answered in its place.
    """
    from concurrent.futures import Future

    from confluent_kafka import admin

    asked = []

    class Admin:
        def __init__(self, settings, **more):
            assert settings["bootstrap.servers"] == cluster.server

        def create_topics(self, topics, **more):
            (topic,) = topics
            asked.append((topic.topic, topic.num_partitions, topic.replication_factor))
            cluster.holder.list_topics(topic.topic, timeout=10)
            done = Future()
            done.set_result(None)
            return {topic.topic: done}

    monkeypatch.setattr(admin, "AdminClient", Admin)
    with pytest.raises(SinkMisconfigured, match=r"set create = true.*--create --topic made-on-request"):
        opened(cluster, topic="made-on-request").open()
    with opened(cluster, topic="made-on-request", create=True, partitions=4) as sink:
        assert list(sink.check())[1] == "topic made-on-request is there, with 4 partitions"
    assert asked == [("made-on-request", 4, -1)]


def test_a_cluster_that_never_answers_does_not_hold_up_the_opening():
    """What takes connections and says nothing is left in time, and nothing was sent to it."""
    with dripping(b"", b"") as url:
        sink = make_sink("kafka", "s", {"servers": url.split("/")[2], "topic": "events", "timeout": 0.3})
        with pytest.raises(SinkUnavailable) as caught:
            sink.open()
    assert caught.value.untouched


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("UNKNOWN_TOPIC_OR_PART", SinkMisconfigured),
        ("TOPIC_AUTHORIZATION_FAILED", SinkMisconfigured),
        ("CLUSTER_AUTHORIZATION_FAILED", SinkMisconfigured),
        ("SASL_AUTHENTICATION_FAILED", SinkMisconfigured),
        ("_AUTHENTICATION", SinkMisconfigured),
        ("_FENCED", SinkMisconfigured),
        ("TOPIC_EXCEPTION", SinkMisconfigured),
        ("MSG_SIZE_TOO_LARGE", BatchTooLarge),
        ("INVALID_RECORD", BatchRejected),
        ("NOT_ENOUGH_REPLICAS", SinkUnavailable),
        ("_MSG_TIMED_OUT", SinkUnavailable),
        ("_TRANSPORT", SinkUnavailable),
        ("_FATAL", SinkUnavailable),
    ],
)
def test_an_error_has_its_meaning_for_the_batch(code, expected):
    """What a person must mend holds the sink, size halves, content is searched for, all else comes again."""
    from confluent_kafka import KafkaError

    error = Meanings("kafka k:9092", ()).of([KafkaError(getattr(KafkaError, code))])
    assert type(error) is expected
    assert str(error).startswith("kafka k:9092: ")
    assert not getattr(error, "untouched", False)


def test_what_the_library_learned_in_the_background_explains_a_timeout():
    """A refused login shows as a timeout of the call: the reason counts."""
    from confluent_kafka import KafkaError

    meanings = Meanings("kafka k:9092", ["hush"])
    meanings.listen(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    meanings.listen(KafkaError(KafkaError._AUTHENTICATION, "login of hush failed"))
    error = meanings.of([KafkaError(KafkaError._TIMED_OUT)])
    assert isinstance(error, SinkMisconfigured)
    assert "login of *** failed" in str(error)


@pytest.mark.parametrize(
    "options",
    [
        {"servers": "kafka-1"},
        {"servers": []},
        {"servers": "https://kafka:9092"},
        {"username": "u", "password": "p"},
        {"security_protocol": "sasl_ssl"},
        {"security_protocol": "sasl_ssl", "username": "u", "password": "p"},
        {"transactional_id": "x"},
        {"partitions": 3},
        {"properties": {"acks": "0"}},
        {"key": "a..b"},
        *({"topic": name} for name in ("", "..", "a b", "a/b", 'a"b', "a;b", "ä", "x" * 250, "a\x00")),
    ],
)
def test_options_that_cannot_work_are_refused(options):
    """What could not work, or would weaken a promise, is said when the configuration is read."""
    with pytest.raises(ConfigError):
        make_sink("kafka", "s", {"servers": "k:9092", "topic": "events", **options})


def test_an_unknown_property_is_named_at_opening():
    """A mistake in `properties` holds the sink with the library's words, and without the value."""
    more = {"properties": {"no.such.property": "s3cret-value"}}
    with pytest.raises(SinkMisconfigured, match=r"no\.such\.property") as caught:
        make_sink("kafka", "s", {"servers": "k:9092", "topic": "events", **more}).open()
    assert "s3cret" not in str(caught.value)
