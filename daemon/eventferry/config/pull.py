"""The tables `[pull]`, `[api]` and `[exports]`: the pull side, its server, its export jobs."""

import datetime as dt
import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, field_validator, model_validator

from eventferry import clock
from eventferry.config.endpoints import parse_endpoint_rule
from eventferry.config.fields import (
    Count,
    CronText,
    FieldPaths,
    Flag,
    OptionalSlug,
    OptionalText,
    Size,
    Slug,
    Span,
    Table,
    TimeZone,
    nested_problem,
)
from eventferry.config.recipients import MOST_LETTERS, fault_of_address
from eventferry.config.sink import Filter
from eventferry.config.stores import S3Options
from eventferry.query import QueryError
from eventferry.query.timeframe import parse_native

Dialect = Literal["altis", "gooee", "connect", "keen", "ombori"]
DIALECTS: tuple[Dialect, ...] = ("altis", "gooee", "connect", "keen", "ombori")


def _list_of_one(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Texts = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_list_of_one)]


def _exports_place(value: Any) -> Path | str:
    """An absolute path, or `s3://bucket/prefix` without a slash at its end."""
    remedy = 'write an absolute path such as "/srv/exports", or "s3://bucket/prefix"'
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError(f"{value!r} is not a place for exports; {remedy}")
    text = str(value)
    if text.startswith("/"):
        return Path(text)
    if "://" not in text:
        raise ValueError(f"{text!r} is a relative path, and a service has no directory of its own; {remedy}")
    try:
        url = urlsplit(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a URL; {remedy}") from None
    if "@" in url.netloc:
        raise ValueError(f"'{url.scheme}://…' holds credentials; they belong to [exports.s3]; {remedy}")
    if url.scheme != "s3" or not url.netloc or url.query or url.fragment:
        raise ValueError(f"{text!r} is not a place that exports can be put to; {remedy}")
    prefix = url.path.strip("/")
    if not text.isprintable() or (prefix and {"", ".", ".."} & {*prefix.split("/")}):
        raise ValueError(f"{text!r}: the prefix holds an empty step, `.`, `..` or a control character; {remedy}")
    return f"s3://{url.netloc}/{prefix}".rstrip("/")


ExportsPlace = Annotated[Path | str, PlainValidator(_exports_place), PlainSerializer(str)]


class PullConfig(Table):
    """The pull side: without it the daemon makes no exports, and lists no store for their sake."""

    enabled: Flag = False


class ApiConfig(Table):
    """What `eventferry serve` listens on and lets pass."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, strict=True)] = 8460
    public_url: OptionalText = None  # how people reach it; None: http://host:port
    dialects: tuple[Dialect, ...] = DIALECTS
    console: Flag = True
    rate: Count = 600  # requests per key and minute
    max_body: Size = 1024 * 1024
    trusted_proxies: Texts = ("127.0.0.1", "::1")  # addresses and networks; "*" alone: whoever connects

    @field_validator("public_url")
    @classmethod
    def _is_http(cls, text: str | None) -> str | None:
        if text is not None and not re.fullmatch(r"https?://[^/?#\s]+(/[^?#\s]*)?", text):
            raise ValueError(f'{text!r} is not a base URL; write "https://events.example.com"')
        return None if text is None else text.rstrip("/")

    @field_validator("trusted_proxies")
    @classmethod
    def _are_addresses(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        if texts == ("*",):
            return texts
        for text in texts:
            try:
                ipaddress.ip_network(text)
            except ValueError:
                remedy = 'write "127.0.0.1", "10.1.0.0/16" or, alone, "*" for whoever connects'
                raise ValueError(f"{text!r} is not the address or the network of a proxy; {remedy}") from None
        return texts

    @property
    def base_url(self) -> str:
        """What links begin with, without a slash at the end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url or f"http://{host}:{self.port}"


class ScheduleConfig(Table):
    """An export that is made again and again: the nightly file in the inbox."""

    name: Slug
    enabled: Flag = True
    cron: CronText
    timezone: TimeZone = "UTC"
    timeframe: str | dict[str, Any] = "yesterday"
    filter: Filter = Field(default_factory=list)
    tenants: Texts | None = None
    projects: Texts | None = None
    collections: Texts | None = None
    format: Literal["csv", "ndjson", "json", "parquet"] = "csv"
    compression: Literal["none", "gzip", "zstd"] = "none"
    fields: FieldPaths = ()
    formula_guard: Flag = True
    email: Texts = ()
    webhook: OptionalText = Field(default=None, repr=False)

    @model_validator(mode="after")
    def _check_timeframe(self) -> "ScheduleConfig":
        try:
            parse_native(self.timeframe, self.timezone, clock.now())
        except QueryError as error:
            raise nested_problem([(where or ("timeframe",), text) for where, text in error.problems]) from None
        return self

    @model_validator(mode="after")
    def _check_email(self) -> "ScheduleConfig":
        found: list[tuple[tuple[str | int, ...], str]] = []
        for index, address in enumerate(self.email):
            fault = fault_of_address(address)
            if fault:
                found.append((("email", index), fault))
        if len(self.email) > MOST_LETTERS:
            found.append((("email",), f"{len(self.email)} addresses are more than {MOST_LETTERS}"))
        if found:
            raise nested_problem(found)
        return self

    @model_validator(mode="after")
    def _check_compression(self) -> "ScheduleConfig":
        if self.format == "parquet" and self.compression != "none":
            raise nested_problem([(("compression",), 'Parquet is compressed inside (zstd); write "none"')])
        return self


class ExportsConfig(Table):
    """Export jobs: how many, how large, how long."""

    directory: ExportsPlace | None = None  # of finished exports, also s3://bucket/prefix; None: exports in state_dir
    workers: Annotated[Count, Field(le=64)] = 1  # jobs at work at once, each in a process of its own
    running_per_key: Count = 2
    queued_per_key: Count = 20
    retention: Span = dt.timedelta(days=7)
    link_life: Span = dt.timedelta(hours=1)
    part_size: Size = 512 * 1024 * 1024
    max_size: Size = 1024**4  # of one export's files together
    allow_endpoints: Texts = ()  # hosts or networks of one's own that a requester's store or webhook may be at
    mail_through: OptionalSlug = None  # the name of an e-mail channel of [alerts]; None: the first one
    schedules: tuple[ScheduleConfig, ...] = ()
    s3: S3Options = S3Options()  # goes with an s3:// directory

    @model_validator(mode="after")
    def _check_s3(self) -> "ExportsConfig":
        if self.s3 != S3Options() and self.bucket_spec() is None:
            raise nested_problem([(("s3",), "goes with an s3:// directory only; remove it, or write such a directory")])
        return self

    @field_validator("allow_endpoints")
    @classmethod
    def _are_hosts(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            parse_endpoint_rule(text)
        return texts

    def folder(self, state_dir: Path) -> Path:
        """Where exports are made, and where finished ones lie unless they go to a bucket."""
        return self.directory if isinstance(self.directory, Path) else state_dir / "exports"

    def bucket_spec(self) -> tuple[str, dict[str, Any]] | None:
        """The URL of the bucket that finished exports go to, and the options that open it, secrets in clear."""
        if not isinstance(self.directory, str):
            return None
        return self.directory, self.s3.model_dump(exclude_defaults=True)
