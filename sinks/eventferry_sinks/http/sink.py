"""Posts each batch to a URL, as NDJSON or as one JSON array."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from isal import isal_zlib
from pydantic import AfterValidator, Field, SecretStr, model_validator

from eventferry.sink import Batch, BatchLimits, Guarantee, Sink, SinkOptions
from eventferry.sink.http import HttpClient, basic_auth
from eventferry.sink.options import Duration, Url, check_header_name, check_header_value

_GZIP = 31  # window bits which ask zlib for a gzip header; its time is 0, so equal bodies stay equal
_OURS = ("content-type", "content-encoding", "content-length", "transfer-encoding", "host", "authorization")


class HttpOptions(SinkOptions):
    """Where to send, how, and what counts as taken."""

    url: Url = Field(repr=False)  # its query may hold a token
    method: Literal["POST", "PUT", "PATCH"] = "POST"
    format: Literal["ndjson", "array"] = "ndjson"
    compression: Literal["none", "gzip"] = "none"
    headers: dict[Annotated[str, AfterValidator(check_header_name)], SecretStr] = Field(default_factory=dict)
    bearer: SecretStr | None = None
    username: str | None = None
    password: SecretStr | None = None
    idempotency_header: Annotated[str, AfterValidator(check_header_name)] = "Idempotency-Key"
    expect: tuple[Annotated[int, Field(ge=200, le=499)], ...] = Field(default=(200, 201, 202, 204), min_length=1)
    timeout: Duration = 30.0
    ca_file: Path | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together; expected both or neither")
        if self.bearer is not None and self.username is not None:
            raise ValueError("bearer and username exclude each other; expected one of them")
        if ":" in (self.username or ""):
            raise ValueError("username holds a colon, which basic authentication cannot carry")
        for secret in filter(None, (self.bearer, *self.headers.values())):
            check_header_value(secret.get_secret_value())
        for name in self.headers:
            self._check_name(name)
        return self

    def _check_name(self, name: str) -> None:
        lower = name.lower()
        if lower == "authorization" and (self.bearer or self.username):
            raise ValueError("headers.Authorization and bearer or username exclude each other")
        if lower == self.idempotency_header.lower() or (lower in _OURS and lower != "authorization"):
            raise ValueError(f"headers.{name} is set by eventferry itself; expected other headers only")
        if sum(one.lower() == lower for one in self.headers) > 1:
            raise ValueError(f"headers.{name} is given twice; names of headers ignore case")

    def authorization(self) -> str | None:
        if self.bearer is not None:
            return f"Bearer {self.bearer.get_secret_value()}"
        if self.username is not None and self.password is not None:
            return basic_auth(self.username, self.password.get_secret_value())
        return None

    def secrets(self) -> Iterator[str]:
        """What a receiver's answer may echo and a message must not show."""
        for secret in (self.bearer, self.password, *self.headers.values()):
            if secret is not None and len(secret.get_secret_value()) >= 4:
                yield secret.get_secret_value()
        if authorization := self.authorization():
            yield authorization.partition(" ")[2]


class HttpSink(Sink[HttpOptions]):
    """One request a batch, with the batch's id as idempotency key: a receiver that honours it takes each batch once."""

    Options = HttpOptions
    guarantee = Guarantee.AT_LEAST_ONCE_KEYED
    max_concurrency = 8
    limits = BatchLimits(max_events=1_000, max_bytes=1024 * 1024)

    _client: HttpClient | None = None

    def open(self) -> None:
        options = self.options
        headers = {name: value.get_secret_value() for name, value in options.headers.items()}
        headers["Content-Type"] = "application/x-ndjson" if options.format == "ndjson" else "application/json"
        if options.compression == "gzip":
            headers["Content-Encoding"] = "gzip"
        if authorization := options.authorization():
            headers["Authorization"] = authorization
        self._client = HttpClient(
            timeout=options.timeout, ca_file=options.ca_file, headers=headers, secrets=options.secrets()
        )

    def deliver(self, batch: Batch) -> None:
        if self._client is None:
            raise RuntimeError("deliver before open")
        self._client.send(
            self.options.method,
            self.options.url,
            self._body(batch.body),
            {self.options.idempotency_header: batch.id},
            self.options.expect,
        )

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _body(self, body: bytes) -> bytes:
        if self.options.format == "array":
            # Every newline of a body ends an event: inside JSON strings they are escaped.
            body = b"[" + body[:-1].replace(b"\n", b",") + b"]"
        if self.options.compression == "gzip":
            return isal_zlib.compress(body, 1, _GZIP)
        return body
