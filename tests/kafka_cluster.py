"""Starts librdkafka's mock cluster, Kafka's protocol in memory, and a proxy in front of it that can fail."""

import contextlib
import logging
import socket
import struct
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

QUIET = logging.getLogger("tests.kafka")
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False


@dataclass
class Cluster:
    """A running mock cluster: `server` is host:port."""

    server: str
    holder: Any = field(repr=False)

    def make_topic(self) -> str:
        """A new topic: this cluster makes what is asked for by its name."""
        name = f"events-{uuid.uuid4().hex[:12]}"
        self.holder.list_topics(name, timeout=10)
        return name

    def read(self, topic: str) -> list[Any]:
        """Every record of a topic, by partition and offset."""
        from confluent_kafka import Consumer, TopicPartition

        settings = {"bootstrap.servers": self.server, "group.id": "test", "enable.auto.commit": False}
        reader = Consumer({**settings, "fetch.wait.max.ms": 5, "enable.partition.eof": True}, logger=QUIET)
        try:
            partitions = reader.list_topics(topic, timeout=10).topics[topic].partitions
            reader.assign([TopicPartition(topic, each, 0) for each in partitions])
            found: list[Any] = []
            ended: set[int] = set()  # a transaction leaves marks that are no records: only the end tells the end
            while len(ended) < len(partitions):
                for each in reader.consume(10_000, 0.05):
                    if each.error() is None:
                        found.append(each)
                    else:
                        ended.add(each.partition())
            return sorted(found, key=lambda each: (each.partition(), each.offset()))
        finally:
            reader.close()


@contextmanager
def kafka_cluster() -> Iterator[Cluster]:
    """A cluster of one broker, gone with the block."""
    from confluent_kafka import Producer

    holder = Producer({"test.mock.num.brokers": 1, "log_level": 0}, logger=QUIET)
    (broker,) = holder.list_topics(timeout=10).brokers.values()
    yield Cluster(f"{broker.host}:{broker.port}", holder)
    holder.close()


PRODUCE, END_TRANSACTION = 0, 26  # kinds of requests


class KafkaProxy:
    """Passes bytes to the cluster and back, in whose answers it puts its own port in the place of the broker's.

    After `lose_replies` no answer passes any more once a request of that kind has gone to the cluster; after
    `lose_requests` nothing passes to it. `heal` ends that for the connections that come then.
    """

    def __init__(self, cluster: Cluster) -> None:
        host, port = cluster.server.split(":")
        self._upstream = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        own = self._listener.getsockname()[1]
        self.server = f"127.0.0.1:{own}"
        self._theirs, self._ours = (host.encode() + struct.pack(">i", each) for each in (int(port), own))
        self._ends: list[socket.socket] = []
        self._state = _State()
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_replies(self, kind: int) -> None:
        self._state.kind = kind

    def lose_requests(self) -> None:
        self._state.up = False

    def heal(self) -> None:
        if not (self._state.up and self._state.down and self._state.kind is None):
            self._state = _State()

    def __enter__(self) -> "KafkaProxy":
        return self

    def __exit__(self, *exc: object) -> None:
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server, state = socket.create_connection(self._upstream), self._state
            self._ends += [client, server]
            for work in (self._upload, self._download):
                threading.Thread(target=work, args=(client, server, state), daemon=True).start()

    def _upload(self, client: socket.socket, server: socket.socket, state: "_State") -> None:
        waiting = b""
        with contextlib.suppress(OSError):
            while data := client.recv(256 * 1024):
                waiting += data
                while len(waiting) >= 6 and len(waiting) >= 4 + (size := int.from_bytes(waiting[:4], "big")):
                    request, waiting = waiting[: 4 + size], waiting[4 + size :]
                    if int.from_bytes(request[4:6], "big") == state.kind:
                        state.down = False
                    if state.up:
                        server.sendall(request)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        client.close()

    def _download(self, client: socket.socket, server: socket.socket, state: "_State") -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(256 * 1024):
                if state.down:
                    client.sendall(data.replace(self._theirs, self._ours))
        server.close()


@dataclass
class _State:
    """What passes on the connections that were made under it."""

    up: bool = True
    down: bool = True
    kind: int | None = None
