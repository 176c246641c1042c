"""What can be said about a receiver: where it is, who sends, in which form, and what counts as taken."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from eventferry.sink import SinkOptions
from eventferry.sink.http import basic_auth
from eventferry.sink.options import Duration, File, Url, as_list, check_header_name, check_header_value
from eventferry_sinks.http.signing import check_secret
from eventferry_sinks.http.templates import Envelope

_OURS = ("content-type", "content-encoding", "content-length", "transfer-encoding", "host", "authorization")
HeaderName = Annotated[str, AfterValidator(check_header_name)]


class HttpOptions(SinkOptions):
    """Where to send, how, and what counts as taken."""

    url: Url = Field(repr=False)  # its query may hold a token
    method: Literal["POST", "PUT", "PATCH"] = "POST"
    format: Literal["ndjson", "array", "envelope", "event"] = "ndjson"
    envelope: str | None = None
    compression: Literal["none", "gzip"] = "none"
    headers: dict[HeaderName, SecretStr] = Field(default_factory=dict)
    bearer: SecretStr | None = None
    username: str | None = None
    password: SecretStr | None = None
    sign: Annotated[tuple[SecretStr, ...], BeforeValidator(as_list)] = ()
    signature_prefix: HeaderName = "webhook-"
    idempotency_header: HeaderName = "Idempotency-Key"
    expect: tuple[Annotated[int, Field(ge=200, le=499)], ...] = Field(default=(200, 201, 202, 204), min_length=1)
    timeout: Duration = 30.0
    ca_file: File | None = None

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
        self._check_form()
        return self

    def _check_form(self) -> None:
        if (self.format == "envelope") != (self.envelope is not None):
            raise ValueError('envelope and format = "envelope" belong together; expected both or neither')
        if self.envelope is not None:
            try:
                Envelope(self.envelope)
            except ValueError as error:
                raise ValueError(f"envelope {error}") from None
        for secret in self.sign:
            try:
                check_secret(secret.get_secret_value())
            except ValueError as error:
                raise ValueError(f"sign {error}") from None

    def _check_name(self, name: str) -> None:
        lower = name.lower()
        if lower == "authorization" and (self.bearer or self.username):
            raise ValueError("headers.Authorization and bearer or username exclude each other")
        ours = {self.idempotency_header.lower(), *_OURS} - {"authorization"}
        if self.sign:
            ours |= {self.signature_prefix.lower() + each for each in ("id", "timestamp", "signature")}
        if lower in ours:
            raise ValueError(f"headers.{name} is set by eventferry itself; expected other headers only")
        if sum(one.lower() == lower for one in self.headers) > 1:
            raise ValueError(f"headers.{name} is given twice; names of headers ignore case")

    def authorization(self) -> str | None:
        """The value of the header, if anything is to be sent in it."""
        if self.bearer is not None:
            return f"Bearer {self.bearer.get_secret_value()}"
        if self.username is not None and self.password is not None:
            return basic_auth(self.username, self.password.get_secret_value())
        return None

    def secrets(self) -> Iterator[str]:
        """What a receiver's answer may echo and a message must not show."""
        for secret in (self.bearer, self.password, *self.sign, *self.headers.values()):
            if secret is not None and len(secret.get_secret_value()) >= 4:
                yield secret.get_secret_value()
        if authorization := self.authorization():
            yield authorization.partition(" ")[2]
