"""The tables `[[sources]]`: where raw files lie and how they are looked for."""

import datetime as dt
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from eventferry.config.cron import check_cron
from eventferry.config.fields import (
    Count,
    Cron,
    Duration,
    FieldPaths,
    Flag,
    Globs,
    OptionalFieldPath,
    OptionalSlug,
    OptionalText,
    Share,
    Size,
    Slug,
    Span,
    Start,
    Table,
    TimeZone,
)
from eventferry.config.show import digest_of
from eventferry.config.stores import AzureOptions, GcsOptions, S3Options, check_store_url, table_of

DATE_PATTERN = r"^(?P<date>\d{4}/\d{2}/\d{2}(?:/\d{2})?)/"
_GROUPS = ("date", "tenant", "project", "collection")


class SourceConfig(Table):
    """A configured store with its layout and its rhythm."""

    name: Slug
    enabled: Flag = True
    url: Annotated[str, AfterValidator(check_store_url)]
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
    reads: Annotated[Count, Field(le=256)] = 16  # files of a store over a network that are fetched at once
    s3: S3Options = S3Options()
    gcs: GcsOptions = GcsOptions()
    azure: AzureOptions = AzureOptions()

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
        """The URL and the options that open the store: the keys of its table that are set, secrets in clear."""
        table = table_of(self.url)
        return self.url, {} if table is None else getattr(self, table).model_dump(exclude_defaults=True)

    def fingerprint(self) -> str:
        """16 hex digits that change with any setting of this source."""
        return digest_of(self.model_dump(mode="json"))
