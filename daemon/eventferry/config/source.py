"""The tables `[[sources]]`: where raw files lie and how they are looked for."""

import datetime as dt
import re
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from eventferry.config.cron import check_cron
from eventferry.config.fields import (
    Count,
    Cron,
    Duration,
    FieldPaths,
    Flag,
    Globs,
    OptionalFieldPath,
    OptionalPath,
    OptionalSlug,
    OptionalText,
    Share,
    Size,
    Slug,
    Span,
    Start,
    Table,
    TimeZone,
    nested_problem,
)
from eventferry.config.show import digest_of

DATE_PATTERN = r"^(?P<date>\d{4}/\d{2}/\d{2}(?:/\d{2})?)/"
_GROUPS = ("date", "tenant", "project", "collection")


def _check_url(text: str) -> str:
    remedy = "write an absolute path, file:///path or s3://bucket/prefix"
    try:
        url = urlsplit(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a URL; {remedy}") from None
    if text.startswith("/"):
        return text
    if url.scheme == "file" and url.netloc in ("", "localhost") and unquote(url.path).startswith("/"):
        return text
    if url.scheme == "s3" and url.netloc and "@" not in url.netloc:
        return text
    if "://" not in text:
        raise ValueError(f"{text!r} is a relative path, and a service has no directory of its own; {remedy}")
    shown = f"{url.scheme}://…" if "@" in url.netloc else text
    raise ValueError(f"{shown!r} is not a place that eventferry can read; {remedy}")


class S3Options(Table):
    """How to reach an S3-compatible store; what is not set is found as the AWS tools find it."""

    endpoint: OptionalText = None
    region: OptionalText = None
    access_key: OptionalText = Field(default=None, repr=False)
    secret_key: OptionalText = Field(default=None, repr=False)
    session_token: OptionalText = Field(default=None, repr=False)
    profile: OptionalText = None
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

    @field_validator("endpoint")
    @classmethod
    def _is_http(cls, text: str | None) -> str | None:
        if text is not None and not re.match(r"https?://[^/]", text):
            raise ValueError(f'{text!r} is not an endpoint; write "https://s3.example.com"')
        return text


class SourceConfig(Table):
    """A configured store with its layout and its rhythm."""

    name: Slug
    enabled: Flag = True
    url: Annotated[str, AfterValidator(_check_url)]
    interval: Span = dt.timedelta(minutes=10)
    cron: Cron = None  # instead of interval
    timezone: TimeZone = "UTC"
    jitter: Duration = dt.timedelta(0)
    max_files: Annotated[Count, Field(le=100_000)] = 100
    catch_up: Flag = False
    look_back: Duration = dt.timedelta(hours=48)
    relist: Span = dt.timedelta(hours=24)
    settle: Duration = dt.timedelta(seconds=60)
    marker: OptionalText = None
    start: Start = "earliest"
    include: Globs = ("**",)
    exclude: Globs = ("**/_*", "**/_*/**", "**/.*", "**/.*/**", "**/*.tmp", "**/*.partial")
    key_pattern: str = DATE_PATTERN
    time_field: FieldPaths = ("event_timestamp", "timestamp", "keen.timestamp")
    tenant_field: OptionalFieldPath = None  # whose an event is, where the key's groups do not say it
    project_field: OptionalFieldPath = None
    collection_field: OptionalFieldPath = None
    on_change: Literal["hold", "deliver"] = "hold"
    max_line: Size = 1024 * 1024
    max_size: Size = 64 * 1024**3
    max_ratio: Count = 1000
    bad_share: Share = 0.5
    concatenated: Flag = False
    gone_after: Duration = dt.timedelta(hours=24)
    unreadable_after: Duration = dt.timedelta(hours=1)
    renamed_from: OptionalSlug = None
    moved_from: OptionalText = None
    s3: S3Options = S3Options()

    @field_validator("key_pattern")
    @classmethod
    def _is_pattern(cls, text: str) -> str:
        try:
            groups = re.compile(text).groupindex
        except re.error as error:
            raise ValueError(f"{text!r} is not a regular expression: {error}") from None
        if unknown := sorted(set(groups) - set(_GROUPS)):
            raise ValueError(f"{text!r} names the unknown group {unknown[0]!r}; groups are {', '.join(_GROUPS)}")
        return text

    @field_validator("marker")
    @classmethod
    def _is_name(cls, text: str | None) -> str | None:
        if text is not None and text.startswith("/"):
            raise ValueError(f'{text!r} is not the end of a key; write "_SUCCESS"')
        return text

    @property
    def says_start(self) -> bool:
        """Whether the configuration names a start itself, which a new name on a used ledger must."""
        return "start" in self.model_fields_set

    @property
    def scheduler_cron(self) -> str | None:
        """The cron expression in APScheduler's spelling; None where the source has an interval."""
        return None if self.cron is None else check_cron(self.cron)

    def store_spec(self) -> tuple[str, dict[str, Any]]:
        """The URL and the options that open the store: the keys of `s3` that are set, secrets in clear."""
        return self.url, self.s3.model_dump(exclude_defaults=True)

    def fingerprint(self) -> str:
        """16 hex digits that change with any setting of this source."""
        return digest_of(self.model_dump(mode="json"))
