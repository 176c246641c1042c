"""What may be configured: where the objects go, in which form, in which folders."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, model_validator

from eventferry.sink.columns import ColumnOptions
from eventferry.sink.objects import Access, AzureAccess, GcsAccess, S3Access, place_of
from eventferry.sink.options import Duration
from eventferry_sinks.object_store.partitions import check_partition, uses_time

TIME = "event_time"  # the column that partitions go by


def _check_url(text: str) -> str:
    place_of(text)
    return text


class ObjectStoreOptions(ColumnOptions):
    """Where the objects go, in which form, in which folders."""

    url: Annotated[str, AfterValidator(_check_url)]
    format: Literal["ndjson", "csv", "parquet"] = "ndjson"
    compression: Literal["none", "gzip", "zstd", "snappy"] = "zstd"
    partition: Annotated[str, AfterValidator(check_partition)] = "date={date}"
    create: bool = False
    timeout: Duration = 30.0
    s3: S3Access | None = None
    gcs: GcsAccess | None = None
    azure: AzureAccess | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.compression == "snappy" and self.format != "parquet":
            raise ValueError('compression "snappy" is for Parquet; expected "none", "gzip" or "zstd"')
        if self.format == "ndjson" and (more := sorted(set(self.columns) - {TIME})):
            raise ValueError(f"NDJSON has no columns, but columns.{more[0]} is given; expected format csv or parquet")
        if uses_time(self.partition) and self.all_columns()[TIME].type != "timestamp":
            raise ValueError(f"partition goes by the column {TIME}, which has to be of type timestamp")
        kind = place_of(self.url).kind
        for name, table in (("s3", self.s3), ("gcs", self.gcs), ("azure", self.azure)):
            if table is not None and table.scheme != kind:
                raise ValueError(f"the table {name} is for {table.scheme}:// URLs; remove it, or mend url")
        return self

    def access(self) -> Access | None:
        return self.s3 or self.gcs or self.azure
