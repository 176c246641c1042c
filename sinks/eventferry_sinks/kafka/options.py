"""What can be said about a topic: where its cluster is, who writes, and how events become its records."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from eventferry.sink import SinkOptions
from eventferry.sink.columns import Column
from eventferry.sink.options import Duration, File

_SERVER = re.compile(r"[^\s,:/]+:[0-9]{1,5}|\[[0-9a-fA-F:]+\]:[0-9]{1,5}")
# What eventferry sets itself: its promises rest on these.
_OURS = (
    "bootstrap.servers",
    "enable.idempotence",
    "acks",
    "request.required.acks",
    "transactional.id",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "message.max.bytes",
    "compression.type",
    "compression.codec",
    "security.protocol",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.username",
    "sasl.password",
    "ssl.ca.location",
    "log_level",
)


def _check_server(server: str) -> str:
    if not _SERVER.fullmatch(server):
        raise ValueError(f"{server!r} is not a server; expected host:port, such as kafka-1.example.org:9092")
    return server


def _check_topic(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", name) or name in (".", ".."):
        raise ValueError(f"{name!r} is not the name of a topic; expected letters, digits, dots, dashes and underscores")
    return name


def _as_list(value: object) -> object:
    return value.replace(" ", "").split(",") if isinstance(value, str) else value


class KafkaOptions(SinkOptions):
    """Which topic of which cluster, and how to write to it."""

    servers: Annotated[tuple[Annotated[str, AfterValidator(_check_server)], ...], BeforeValidator(_as_list)] = Field(
        min_length=1
    )
    topic: Annotated[str, AfterValidator(_check_topic)]
    key: str | None = None
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "lz4"
    max_message_bytes: int = Field(default=1_000_000, ge=1000, le=1_000_000_000)
    transactional: bool = False
    transactional_id: str | None = Field(default=None, min_length=1)
    security_protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    username: str | None = None
    password: SecretStr | None = None
    ca_file: File | None = None
    create: bool = False
    partitions: int | None = Field(default=None, ge=1)
    replication_factor: int | None = Field(default=None, ge=1)
    properties: dict[str, SecretStr] = Field(default_factory=dict)
    timeout: Duration = 30.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together; expected both or neither")
        if self.security_protocol.startswith("sasl") != (self.username is not None):
            raise ValueError("username and password belong to security_protocol sasl_ssl or sasl_plaintext")
        if (self.sasl_mechanism is None) != (self.username is None):
            raise ValueError("sasl_mechanism and username belong together; expected both or neither")
        if self.transactional_id is not None and not self.transactional:
            raise ValueError("transactional_id belongs to transactional = true")
        if (self.partitions or self.replication_factor) and not self.create:
            raise ValueError("partitions and replication_factor say how a topic is made; expected create = true")
        for name in self.properties:
            if name in _OURS:
                raise ValueError(f"properties.{name} is set by eventferry itself; expected other properties only")
        self.key_column()
        return self

    def key_column(self) -> Column | None:
        """Where an event's key is."""
        return None if self.key is None else Column(path=(self.key,))

    def client(self) -> dict[str, Any]:
        """How to reach the cluster, as librdkafka wants it."""
        found: dict[str, Any] = {
            "bootstrap.servers": ",".join(self.servers),
            "client.id": "eventferry",
            "security.protocol": self.security_protocol,
            "log_level": 0,  # what it has to say comes as errors
            "socket.timeout.ms": max(10, int(self.timeout * 1000)),
            **{name: value.get_secret_value() for name, value in self.properties.items()},
        }
        if self.username is not None and self.password is not None:
            found["sasl.mechanism"] = self.sasl_mechanism
            found["sasl.username"] = self.username
            found["sasl.password"] = self.password.get_secret_value()
        if self.ca_file is not None:
            found["ssl.ca.location"] = str(self.ca_file)
        return found

    def producer(self, name: str) -> dict[str, Any]:
        """The same for writing: nothing twice within a call, everything acknowledged by all replicas in sync."""
        milliseconds = max(100, int(self.timeout * 1000))
        found = {
            "partitioner": "murmur2_random",  # a key goes where Java's producers put it
            "linger.ms": 5,
            **self.client(),
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": self.compression,
            "message.max.bytes": self.max_message_bytes,
            "message.timeout.ms": milliseconds,
            "queue.buffering.max.messages": 0,  # the batch bounds it
        }
        if self.transactional:
            found["transactional.id"] = self.transactional_id or f"eventferry-{name}"
            found["transaction.timeout.ms"] = max(1000, milliseconds)
        return found

    def secrets(self) -> Iterator[str]:
        """What a library's words may hold and a message must not show."""
        for secret in (self.password, *self.properties.values()):
            if secret is not None and len(secret.get_secret_value()) >= 4:
                yield secret.get_secret_value()
