"""Where stores lie and as whom they are reached: URLs, and the tables `s3`, `gcs` and `azure`."""

import re
from typing import Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import Field, field_validator, model_validator

from eventferry.config.fields import Flag, OptionalPath, OptionalText, Table, nested_problem

SCHEMES = {"s3": "s3", "gcs": "gs", "azure": "azure"}  # by table
REMEDY = "write an absolute path, file:///path, s3://bucket/prefix, gs://bucket/prefix or azure://container/prefix"
_OTHER_NAMES = {
    **dict.fromkeys(("s3a", "s3n"), "s3://bucket/prefix"),
    "gcs": "gs://bucket/prefix",
    **dict.fromkeys(
        ("az", "abfs", "abfss", "wasb", "wasbs"), "azure://container/prefix, with account_url in [sources.azure]"
    ),
}


def table_of(url: str) -> str | None:
    """The table that goes with a store's URL; None for a directory."""
    scheme = url.partition("://")[0] if "://" in url else ""
    return next((table for table, each in SCHEMES.items() if each == scheme), None)


def check_store_url(text: str) -> str:
    """The text, if it names a store. Raises ValueError with the remedy; credentials in it are not repeated."""
    try:
        url = urlsplit(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a URL; {REMEDY}") from None
    if text.startswith("/"):
        return text
    if url.scheme == "file" and url.netloc in ("", "localhost") and unquote(url.path).startswith("/"):
        return text
    if url.scheme in SCHEMES.values() and url.netloc and "@" not in url.netloc:
        return text
    if "://" not in text:
        raise ValueError(f"{text!r} is a relative path, and a service has no directory of its own; {REMEDY}")
    shown = f"{url.scheme}://…" if "@" in url.netloc else text
    if other := _other_name(url.scheme, url.hostname or ""):
        raise ValueError(f"{shown!r} is written otherwise here; write {other}")
    raise ValueError(f"{shown!r} is not a place that eventferry can read; {REMEDY}")


def _other_name(scheme: str, host: str) -> str | None:
    """How a store is named here that other tools name so."""
    if scheme == "https" and ".blob." in host:
        return _OTHER_NAMES["az"]
    return _OTHER_NAMES.get(scheme)


def _check_endpoint(text: str | None, example: str) -> str | None:
    if text is not None and not re.match(r"https?://[^/@]+(/|$)", text):
        shown = text if "@" not in text else f"{text.partition('://')[0]}://…"
        raise ValueError(f'{shown!r} is not an endpoint; write "{example}"')
    return text


class S3Options(Table):
    """How to reach an S3-compatible store; what is not set is found as the AWS tools find it."""

    endpoint: OptionalText = None
    region: OptionalText = None
    access_key: OptionalText = Field(default=None, repr=False)
    secret_key: OptionalText = Field(default=None, repr=False)
    session_token: OptionalText = Field(default=None, repr=False)
    profile: OptionalText = None
    role_arn: OptionalText = None
    external_id: OptionalText = Field(default=None, repr=False)
    role_session: OptionalText = None
    sts_endpoint: OptionalText = None
    requester_pays: Flag = False
    anonymous: Flag = False
    addressing_style: Literal["auto", "virtual", "path"] = "auto"
    ca_file: OptionalPath = None

    @model_validator(mode="after")
    def _one_identity(self) -> Self:
        keys = bool(self.access_key or self.secret_key or self.session_token)
        if keys and not (self.access_key and self.secret_key):
            missing = "secret_key" if self.access_key else "access_key"
            raise nested_problem([((missing,), "is missing; access_key and secret_key go together")])
        if sum((keys, bool(self.profile), self.anonymous)) > 1:
            raise nested_problem([((), "says twice who asks; give keys, or profile, or anonymous = true")])
        return self

    @model_validator(mode="after")
    def _role_of_somebody(self) -> Self:
        if self.role_arn and self.anonymous:
            raise nested_problem([(("role_arn",), "nobody assumes a role anonymously; remove role_arn or anonymous")])
        for key in ("external_id", "role_session", "sts_endpoint"):
            if getattr(self, key) and not self.role_arn:
                raise nested_problem([((key,), "goes with role_arn only; write role_arn, or remove it")])
        return self

    @field_validator("role_arn")
    @classmethod
    def _is_arn(cls, text: str | None) -> str | None:
        if text is not None and not re.fullmatch(r"arn:[\w-]+:iam::\w*:role/.+", text):
            raise ValueError(f'{text!r} is not the name of a role; write "arn:aws:iam::123456789012:role/name"')
        return text

    @field_validator("endpoint", "sts_endpoint")
    @classmethod
    def _is_http(cls, text: str | None) -> str | None:
        return _check_endpoint(text, "https://s3.example.com")


class GcsOptions(Table):
    """How to reach Google Cloud Storage; what is not set is found as Google's tools find it."""

    credentials_file: OptionalPath = None
    user_project: OptionalText = None
    anonymous: Flag = False
    endpoint: OptionalText = None
    ca_file: OptionalPath = None

    @model_validator(mode="after")
    def _one_identity(self) -> Self:
        if self.credentials_file and self.anonymous:
            raise nested_problem([((), "says twice who asks; give credentials_file, or anonymous = true")])
        return self

    @field_validator("endpoint")
    @classmethod
    def _is_http(cls, text: str | None) -> str | None:
        return _check_endpoint(text, "https://storage.example.com")


class AzureOptions(Table):
    """How to reach Azure Blob Storage; what is not set is found as Azure's tools find it."""

    account_url: OptionalText = None
    connection_string: OptionalText = Field(default=None, repr=False)
    account_key: OptionalText = Field(default=None, repr=False)
    sas_token: OptionalText = Field(default=None, repr=False)
    client_id: OptionalText = None
    anonymous: Flag = False
    ca_file: OptionalPath = None

    @model_validator(mode="after")
    def _one_identity(self) -> Self:
        given = (self.connection_string, self.account_key, self.sas_token, self.client_id, self.anonymous)
        if sum(map(bool, given)) > 1:
            text = "says twice who asks; give connection_string, account_key, sas_token, client_id or anonymous = true"
            raise nested_problem([((), text)])
        if self.account_url and self.connection_string:
            raise nested_problem([(("account_url",), "is in the connection_string, too; remove one of them")])
        return self

    @field_validator("account_url")
    @classmethod
    def _is_http(cls, text: str | None) -> str | None:
        if text is not None and "?" in text:
            raise ValueError("holds a query, perhaps a token; put that into sas_token, and end the url before it")
        return _check_endpoint(text, "https://ACCOUNT.blob.core.windows.net")
