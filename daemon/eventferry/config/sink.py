"""The tables `[[sinks]]`: which events go where, and how patiently."""

import datetime as dt
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from eventferry.config.fields import (
    Count,
    Duration,
    FieldPaths,
    Flag,
    OptionalSize,
    OptionalSlug,
    Size,
    Slug,
    Span,
    StartPerSource,
    StartValue,
    Table,
    nested_problem,
)
from eventferry.config.options import set_options_apart
from eventferry.config.show import digest_of
from eventferry.query import QueryError, Transform, parse_filter, parse_transform


class RetryConfig(Table):
    """How long a sink that did not answer is left alone: doubling from `first` to `max`, with jitter."""

    first: Span = dt.timedelta(seconds=1)
    max: Span = dt.timedelta(minutes=10)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.first > self.max:
            raise nested_problem([(("first",), "is longer than retry.max; make it shorter")])
        return self


class BatchConfig(Table):
    """How large a batch grows before it is sent; None: as the sink type wants it."""

    max_events: Annotated[Count | None, BeforeValidator(lambda value: None if value == "" else value)] = None
    max_bytes: OptionalSize = None
    max_read: Size = 64 * 1024**2
    max_wait: Duration = dt.timedelta(seconds=5)


def _check_filter(value: Any) -> Any:
    try:
        parse_filter(value)
    except QueryError as error:
        raise nested_problem(list(error.problems)) from None
    return value


def _check_redact(value: Any) -> Any:
    try:
        parse_transform(redact=value)
    except QueryError as error:
        raise nested_problem([(where[1:], text) for where, text in error.problems]) from None
    return value


Filter = Annotated[Any, AfterValidator(_check_filter)]


class SinkConfig(Table):
    """A configured sink; what is not a key of every sink is kept in `options`, for the sink type to check."""

    name: Slug
    type: Annotated[str, Field(min_length=1)]
    enabled: Flag = True
    sources: tuple[Slug, ...] | None = None  # None: all
    start: StartPerSource = "earliest"
    concurrency: Annotated[Count, Field(le=64)] = 1
    timeout: Span = dt.timedelta(seconds=60)
    probe: Span = dt.timedelta(minutes=10)
    retry: RetryConfig = RetryConfig()
    pinned_for: Duration = dt.timedelta(days=30)
    batch: BatchConfig = BatchConfig()
    filter: Filter = Field(default_factory=list)
    fields: FieldPaths = ()
    drop: FieldPaths = ()
    redact: Annotated[Any, AfterValidator(_check_redact)] = Field(default_factory=dict)
    redact_salt: str = Field(default="", repr=False)
    renamed_from: OptionalSlug = None
    options: dict[str, Any] = Field(default_factory=dict, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _set_options_apart(cls, data: Any) -> Any:
        return set_options_apart(cls, data)

    @property
    def says_start(self) -> bool:
        """Whether the configuration names a start itself, which a new name on a used ledger must."""
        return "start" in self.model_fields_set

    def takes(self, source: str) -> bool:
        """Whether this sink wants the events of the source."""
        return self.sources is None or source in self.sources

    def start_of(self, source: str) -> StartValue:
        """Where in the source's events this sink begins."""
        return self.start.get(source, "earliest") if isinstance(self.start, dict) else self.start

    def transform(self) -> Transform:
        """What this sink wants of each event."""
        return parse_transform(self.filter, self.fields, self.drop, self.redact, self.redact_salt)

    def fingerprint(self) -> str:
        """16 hex digits that change with any setting of this sink, its type's own included."""
        return digest_of(self.model_dump(mode="json"))
