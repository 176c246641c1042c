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
        reader = Consumer({**settings, "fetch.wait.max.ms": 5, "log_level": 0}, logger=QUIET)
        try:
            partitions = reader.list_topics(topic, timeout=10).topics[topic].partitions
            places = [TopicPartition(topic, each, 0) for each in partitions]
            wanted = sum(reader.get_watermark_offsets(each, timeout=10)[1] for each in places)
            reader.assign(places)
            found: list[Any] = []
            while len(found) < wanted:
                found += reader.consume(min(wanted - len(found), 10_000), 10)
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


class KafkaProxy:
    """Passes bytes to the cluster and back, in whose answers it puts its own port in the place of the broker's.

    `lose_replies` and `lose_requests` make the connections that are there now deaf in one direction; new ones are well.
    """

    def __init__(self, cluster: Cluster) -> None:
        host, port = cluster.server.split(":")
        self._upstream = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.server = f"127.0.0.1:{self._listener.getsockname()[1]}"
        own = self._listener.getsockname()[1]
        self._theirs, self._ours = (host.encode() + struct.pack(">i", each) for each in (int(port), own))
        self._lines: list[dict[str, Any]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_replies(self) -> None:
        for line in self._lines:
            line["down"] = False

    def lose_requests(self) -> None:
        for line in self._lines:
            line["up"] = False

    def __enter__(self) -> "KafkaProxy":
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for line in self._lines:
            for end in line["ends"]:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._upstream)
            line = {"up": True, "down": True, "ends": (client, server)}
            self._lines.append(line)
            for come, go, way in ((client, server, "up"), (server, client, "down")):
                threading.Thread(target=self._carry, args=(line, come, go, way), daemon=True).start()

    def _carry(self, line: dict[str, Any], come: socket.socket, go: socket.socket, way: str) -> None:
        with contextlib.suppress(OSError):
            while data := come.recv(256 * 1024):
                if line[way]:
                    go.sendall(data.replace(self._theirs, self._ours) if way == "down" else data)
        with contextlib.suppress(OSError):
            go.shutdown(socket.SHUT_RDWR)
        if way == "up":
            come.close()
