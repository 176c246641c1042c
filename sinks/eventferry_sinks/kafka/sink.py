"""Writes events to a topic of Kafka: one record an event, each acknowledged before the batch counts as taken."""

import contextlib
import importlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from eventferry.sink import Batch, BatchLimits, EventsRejected, Guarantee, Sink, SinkMisconfigured, SinkUnavailable
from eventferry.sink.identity import event_ids
from eventferry.sink.libraries import load
from eventferry.sink.rows import Extractor
from eventferry.sink.timing import Deadline
from eventferry_sinks.kafka.meanings import Meanings
from eventferry_sinks.kafka.options import KafkaOptions

_LOOK = 10.0  # seconds that a look at the cluster may take
_ABORT = 0.5  # seconds for what a failed call leaves to be cleared away
BATCH, POSITION, EVENT = "eventferry-batch", "eventferry-position", "eventferry-event"  # headers


class KafkaSink(Sink[KafkaOptions]):
    """An idempotent producer: nothing is written twice within a call, and nothing of a failed call is written later.

    One instance keeps the order of batches, and is as fast as the brokers: a whole batch is under way at once.
    """

    Options = KafkaOptions
    guarantee = Guarantee.AT_LEAST_ONCE_KEYED
    limits = BatchLimits(max_events=10_000, max_bytes=8 * 1024 * 1024)
    experimental = True
    proved_against = "librdkafka's mock cluster"
    needs = {"confluent_kafka": "eventferry[kafka]"}  # noqa: RUF012 - declared a ClassVar in Sink

    _kafka: Any = None
    _producer: Any = None
    _is_open_transaction = False
    _partitions = 0
    _brokers = 0
    _keys: Extractor | None = None
    _meanings: Meanings

    def open(self) -> None:
        self._kafka = load("confluent_kafka", "eventferry[kafka]")
        if self.options.ca_file is not None and not self.options.ca_file.is_file():
            raise SinkMisconfigured(f"ca_file {self.options.ca_file} is not there or cannot be read")
        column = self.options.key_column()
        self._keys = Extractor({"key": column}) if column is not None else None
        self._meanings = Meanings(f"kafka {self.options.servers[0]}", self.options.secrets())
        self._start()

    def deliver(self, batch: Batch) -> None:
        if self._producer is None:  # an earlier batch failed
            self._start()
        deadline = Deadline(self.options.timeout)
        refused: dict[int, str] = {}
        settled = False
        try:
            if self.options.transactional:
                self._producer.begin_transaction()
                self._is_open_transaction = True
            self._write(batch, refused, deadline)
            if self.options.transactional:
                self._producer.commit_transaction(max(deadline.left, 0.001))
            settled, self._is_open_transaction = True, False
            self._meanings.forget()
        except self._kafka.KafkaException as error:
            raise self._meanings.of([error.args[0]]) from None
        finally:
            if not settled:
                self.close()  # nothing of it is written later
        if refused:
            raise EventsRejected(refused)

    def check(self) -> Iterator[str]:
        servers = ", ".join(self.options.servers)
        yield f"{servers} answers as a cluster of {self._brokers} brokers"
        yield f"topic {self.options.topic} is there, with {self._partitions} partitions"
        if self.options.transactional:
            yield "the transactional id can be used"

    def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is None:
            return
        # Its own close() would wait for brokers that do not answer, without an end.
        with contextlib.suppress(Exception):  # it is let go of anyway
            producer.purge(in_queue=True, in_flight=True, blocking=True)
            producer.flush(0)  # the reports of what was purged
            if self._is_open_transaction:
                self._is_open_transaction = False
                producer.abort_transaction(_ABORT)

    def _start(self) -> None:
        deadline = Deadline(min(_LOOK, self.options.timeout))
        try:
            settings = self.options.producer(self.name or "sink")
            self._producer = self._kafka.Producer(
                {**settings, "error_cb": self._meanings.listen}, logger=_silent_logger()
            )
            self._find_topic(deadline)
            if self.options.transactional:
                self._producer.init_transactions(self.options.timeout)
        except self._kafka.KafkaException as error:
            if self._producer is not None:
                self._producer.poll(0)  # why it could not connect
            problem = self._meanings.of([error.args[0]], untouched=True)
            self.close()
            raise problem from None
        except BaseException:
            self.close()
            raise

    def _find_topic(self, deadline: Deadline) -> None:
        """See whether the topic is there, without making it: to ask for one by its name may do that."""
        options = self.options
        found = self._producer.list_topics(timeout=deadline.left)
        if options.topic not in found.topics:
            if not options.create:
                servers = ",".join(options.servers)
                raise SinkMisconfigured(
                    f"topic {options.topic} is not there, or the user may not see it; set create = true, or make it:"
                    f" kafka-topics.sh --bootstrap-server {servers} --create --topic {options.topic}"
                )
            self._make_topic()
            found = self._producer.list_topics(timeout=self.options.timeout)
        topic = found.topics.get(options.topic)
        if topic is not None and topic.error is not None:
            raise self._meanings.of([topic.error], untouched=True)
        self._partitions, self._brokers = (len(topic.partitions) if topic else 0), len(found.brokers)

    def _make_topic(self) -> None:
        options, admin = self.options, importlib.import_module("confluent_kafka.admin")
        client = admin.AdminClient(options.client(), logger=_silent_logger())
        wanted = admin.NewTopic(options.topic, options.partitions or -1, options.replication_factor or -1)
        try:
            client.create_topics([wanted], operation_timeout=self.options.timeout)[options.topic].result(
                self.options.timeout
            )
        except TimeoutError:
            raise SinkUnavailable(f"topic {options.topic} was not made in time", untouched=True) from None
        except self._kafka.KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":  # another instance was faster
                raise

    def _write(self, batch: Batch, refused: dict[int, str], deadline: Deadline) -> None:
        """Returns once every event is acknowledged but the `refused` ones, of which nothing is sent."""
        failed: list[Any] = []
        taken = 0

        def report(error: Any, _: Any) -> None:
            nonlocal taken
            if error is None:
                taken += 1
            else:
                failed.append(error)

        events = zip(batch.lines(), self._keys_of(batch), event_ids(batch), strict=True)
        for position, (line, key, identity) in enumerate(events):
            headers = [(BATCH, batch.id), (POSITION, str(position)), (EVENT, identity)]
            try:
                self._produce(line, key, headers, report, deadline)
            except self._kafka.KafkaException as error:
                if error.args[0].name() != "MSG_SIZE_TOO_LARGE":
                    raise
                most = self.options.max_message_bytes
                refused[position] = f"{len(line)} bytes with key and headers are more than max_message_bytes = {most}"
        self._producer.flush(deadline.left)
        if failed or taken + len(refused) < batch.events:
            raise self._meanings.of(failed)

    def _produce(self, line: bytes, key: str | None, headers: Any, report: Any, deadline: Deadline) -> None:
        while True:
            try:
                self._producer.produce(self.options.topic, line, key, headers=headers, on_delivery=report)
                return
            except BufferError:  # the library's own memory is full
                if not deadline.left:
                    raise self._meanings.of(()) from None
                self._producer.poll(min(0.1, deadline.left))

    def _keys_of(self, batch: Batch) -> Sequence[str | None]:
        if self._keys is None:
            return [None] * batch.events
        keys: list[str | None] = self._keys.extract(batch.body).values[0]
        return keys


def _silent_logger() -> logging.Logger:
    """The library writes to standard error unless it has a logger; what matters comes as errors."""
    logger = logging.getLogger("eventferry_sinks.kafka.client")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return logger
