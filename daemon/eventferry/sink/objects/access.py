"""Options that say how a store is reached and as whom: the tables `s3`, `gcs` and `azure` of a sink."""

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from eventferry.clients.azure import AzureOptions
from eventferry.clients.gcs import GcsOptions
from eventferry.clients.s3 import S3Options
from eventferry.sink.options import File


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


def _check_endpoint(text: str) -> str:
    if not re.match(r"https?://[^/@]+(/|$)", text):
        raise ValueError('is not an endpoint; expected "https://s3.example.com"')
    return text


Text = Annotated[str | None, BeforeValidator(_none_if_empty)]
Secret = Annotated[SecretStr | None, BeforeValidator(_none_if_empty), Field(repr=False)]
Endpoint = Annotated[Annotated[str, AfterValidator(_check_endpoint)] | None, BeforeValidator(_none_if_empty)]
OwnFile = Annotated[File | None, BeforeValidator(_none_if_empty)]


class _Access(BaseModel):
    """A table of access; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def _values(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {
            name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in values.items()
        }


class S3Access(_Access):
    """How to reach S3 and what speaks it; what is not set is found as the AWS tools find it."""

    scheme: ClassVar[str] = "s3"

    endpoint: Endpoint = None
    region: Text = None
    access_key: Secret = None
    secret_key: Secret = None
    session_token: Secret = None
    profile: Text = None
    role_arn: Text = None
    external_id: Secret = None
    role_session: Text = None
    sts_endpoint: Endpoint = None
    requester_pays: bool = False
    anonymous: bool = False
    addressing_style: Literal["auto", "virtual", "path"] | None = None
    ca_file: OwnFile = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        keys = bool(self.access_key or self.secret_key or self.session_token)
        if keys and not (self.access_key and self.secret_key):
            missing = "secret_key" if self.access_key else "access_key"
            raise ValueError(f"{missing} is missing; access_key and secret_key go together")
        if sum((keys, bool(self.profile), self.anonymous)) > 1:
            raise ValueError("says twice who asks; give keys, or profile, or anonymous = true")
        if self.anonymous and self.role_arn:
            raise ValueError("nobody assumes a role anonymously; remove anonymous or role_arn")
        return self

    def client_options(self, seconds: float) -> S3Options:
        """For a client that tries once and waits `seconds` at most for a byte."""
        return S3Options(**self._values(), attempts=1, connect_timeout=seconds, read_timeout=seconds)


class GcsAccess(_Access):
    """How to reach Google Cloud Storage; without credentials Google's default ones are looked for."""

    scheme: ClassVar[str] = "gs"

    project: Text = None
    credentials_file: OwnFile = None
    user_project: Text = None
    anonymous: bool = False
    endpoint: Endpoint = None
    ca_file: OwnFile = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.anonymous and self.credentials_file:
            raise ValueError("says twice who asks; give credentials_file or anonymous = true")
        return self

    def client_options(self, seconds: float) -> GcsOptions:
        """For a client that waits `seconds` at most for a byte."""
        return GcsOptions(**self._values(), connect_timeout=seconds, read_timeout=seconds, patience=seconds)


class AzureAccess(_Access):
    """How to reach Azure Blob Storage; without a key, a token or a connection string an identity is looked for."""

    scheme: ClassVar[str] = "azure"

    account_url: Endpoint = None
    connection_string: Secret = None
    account_key: Secret = None
    sas_token: Secret = None
    client_id: Text = None
    anonymous: bool = False
    ca_file: OwnFile = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.account_url and self.connection_string:
            raise ValueError("account_url and connection_string exclude each other; remove one")
        if sum(map(bool, (self.connection_string, self.account_key, self.sas_token, self.anonymous))) > 1:
            raise ValueError("says twice who asks; give connection_string, account_key, sas_token or anonymous = true")
        return self

    def client_options(self, seconds: float) -> AzureOptions:
        """For a client that tries once and waits `seconds` at most for a byte."""
        return AzureOptions(**self._values(), attempts=1, connect_timeout=seconds, read_timeout=seconds)


Access = S3Access | GcsAccess | AzureAccess
