"""What requests to the native API may say, checked at the edge."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=1, max_length=200)]
Names = Annotated[list[Name], Field(min_length=1, max_length=1000)]
Tags = Annotated[list[Annotated[str, Field(min_length=1, max_length=50)]], Field(max_length=20)]
FilterForm = Annotated[
    list[Any] | dict[str, Any],
    Field(description='Conditions that all must hold: [{"field": "event_type", "eq": "pageView"}]; see docs/api.md.'),
]
TimeframeForm = Annotated[
    str | dict[str, Any] | None,
    Field(description='"yesterday", "last_7_days", a day, or {"start": …, "end": …}; none: all time.'),
]
Fields = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=1000)]],
    Field(max_length=1000, description="Only these fields, as dotted paths, in this order; empty: all that occur."),
]


class Body(BaseModel):
    """Unknown keys are refused, and nothing is converted: "1" is not 1."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class QueryForm(Body):
    """Which events, as it is written."""

    filter: FilterForm = Field(default_factory=list)
    timeframe: TimeframeForm = None
    timezone: Name | None = None
    tenants: Names | None = None
    projects: Names | None = None
    collections: Names | None = None


class OutputForm(Body):
    """In which form."""

    format: Literal["csv", "ndjson", "json", "parquet"] = "ndjson"
    compression: Literal["none", "gzip", "zstd"] = "none"
    part_bytes: Annotated[int, Field(ge=1024 * 1024, le=1024**4)] | None = Field(
        default=None, description="Most bytes of one file before compression; none: as the server is configured."
    )
    single_file: bool = Field(default=False, description="One file, however large, instead of parts.")
    formula_guard: bool = Field(default=False, description="CSV: disarm cells that a spreadsheet would run.")
    fields: Fields = Field(default_factory=list)
    latest: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="Only the newest events by time."
    )
    max_events: Annotated[int, Field(ge=1, le=10**12)] | None = Field(
        default=None, description="Fail where more are selected."
    )


class ManagedForm(Body):
    """The files stay here and are downloaded."""

    kind: Literal["managed"] = "managed"


class S3Form(Body):
    """The files go to a store of the requester's, with the requester's credentials."""

    kind: Literal["s3"]
    url: Annotated[str, Field(pattern=r"^(s3|https?)://[^/\s]+(/\S*)?$", max_length=1000)]
    access_key: Name
    secret_key: Annotated[str, Field(min_length=1, max_length=1000, repr=False)]
    session_token: Annotated[str, Field(min_length=1, max_length=10_000)] | None = Field(default=None, repr=False)
    endpoint: Annotated[str, Field(pattern=r"^https?://[^/\s]+", max_length=500)] | None = None
    region: Name | None = None


class NotifyForm(Body):
    """Who is told when the export has ended."""

    email: Annotated[list[Annotated[str, Field(min_length=3, max_length=320)]], Field(max_length=10)] = Field(
        default_factory=list
    )
    webhook: Annotated[str, Field(pattern=r"^https?://[^/\s]+", max_length=2000)] | None = Field(
        default=None, repr=False
    )


class ExportForm(QueryForm):
    """An export as it is asked for."""

    query: Name | None = Field(
        default=None,
        description="The id of a saved query, in place of filter; timeframe, timezone and fields given here go first.",
    )
    name: Annotated[str, Field(max_length=200)] = ""
    notes: Annotated[str, Field(max_length=5000)] = ""
    tags: Tags = Field(default_factory=list)
    output: OutputForm = Field(default_factory=OutputForm)
    destination: Annotated[ManagedForm | S3Form, Field(discriminator="kind")] = Field(default_factory=ManagedForm)
    notify: NotifyForm = Field(default_factory=NotifyForm)


class SavedQueryForm(QueryForm):
    """A query to be kept under a name."""

    name: Name
    notes: Annotated[str, Field(max_length=5000)] = ""
    tags: Tags = Field(default_factory=list)
    fields: Fields = Field(default_factory=list)
