"""Appends each batch to an Apache Iceberg table, in one snapshot that is named after the batch."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from eventferry.sink import (
    Batch,
    BatchLimits,
    BatchTooLarge,
    Guarantee,
    Sink,
    SinkError,
    SinkMisconfigured,
    SinkUnavailable,
)
from eventferry.sink.arrow import import_pyarrow, schema_of, table_from
from eventferry.sink.columns import BATCH_ID, EVENT, RESERVED, ColumnOptions, Type, check_table
from eventferry.sink.lake import EVENT_DATE, add_day, clean, count_fit, is_refusal, is_unreached, within
from eventferry.sink.options import Duration
from eventferry.sink.rows import Extractor, Rows
from eventferry.sink.tables import Fit, fit_columns

PROPERTY = "eventferry.batch-id"  # of a snapshot
ICEBERG_TYPES: dict[Type, str] = {
    "text": "string",
    "integer": "long",
    "number": "double",
    "boolean": "boolean",
    "timestamp": "timestamptz",
    "json": "string",
}


def _check_table(name: str) -> str:
    if "." not in name:
        raise ValueError(f"{name!r} has no namespace; expected `namespace.table`")
    return check_table(name)


class IcebergOptions(ColumnOptions):
    """Which table of which catalog, which columns."""

    reserved: ClassVar[tuple[str, ...]] = (*RESERVED, EVENT_DATE)

    catalog: dict[str, SecretStr] = Field(min_length=1)  # properties as pyiceberg names them: type, uri, warehouse …
    table: Annotated[str, AfterValidator(_check_table)]
    create: bool = False
    partition: Literal["none", "day"] = "none"
    timeout: Duration = 30.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.partition == "day" and self.all_columns()["event_time"].type != "timestamp":
            raise ValueError('partition = "day" needs event_time as a timestamp; expected it in columns, or "none"')
        return self


class IcebergSink(Sink[IcebergOptions]):
    """One snapshot a batch, found again by its property; the catalog lets one of two writers of the same state win."""

    Options = IcebergOptions
    guarantee = Guarantee.EFFECTIVELY_ONCE
    proved_against = "a catalog in SQLite, local files, and OpenStack Swift's S3"
    limits = BatchLimits(max_events=250_000, max_bytes=64 * 1024 * 1024)
    needs = {"pyiceberg": "eventferry[iceberg]", "pyarrow": "eventferry[iceberg]"}  # noqa: RUF012 - declared in Sink

    _catalog: Any = None

    def open(self) -> None:
        import_pyarrow("iceberg")
        try:
            from pyiceberg.catalog import load_catalog
        except ImportError as error:
            raise SinkMisconfigured("the library is not installed; run: pip install 'eventferry[iceberg]'") from error
        self._columns = self.options.all_columns()
        self._extractor = Extractor(self._columns)
        seconds = f"{self.options.timeout:g}"
        properties = {"s3.connect-timeout": seconds, "s3.request-timeout": seconds}
        properties |= {name: value.get_secret_value() for name, value in self.options.catalog.items()}
        name = properties.pop("name", "default")  # as pyiceberg itself takes it; SQL catalogs keep tables by it
        try:
            self._catalog = within(self.options.timeout, lambda: load_catalog(name, **properties))
        except Exception as error:
            raise self._meaning(error, untouched=True) from None

    def deliver(self, batch: Batch) -> None:
        fit, rows = within(self.options.timeout, lambda: self._append(batch)) or (None, None)
        if fit is not None and rows is not None:
            count_fit(self, self._columns, fit, rows)

    def was_delivered(self, batch: Batch) -> bool | None:
        return within(self.options.timeout, lambda: self._look_for(batch))

    def check(self) -> Iterator[str]:
        """Load the table and compare its columns; nothing is written, so rights to write show at the first delivery."""
        table = self._load(create=False, may_be_missing=self.options.create)
        yield "the catalog answers"
        if table is None:
            yield f"table {self.options.table} is not there yet; the first delivery makes it"
            return
        fit = self._fit(table)
        more = f"; the first delivery adds {', '.join(fit.added)}" if fit.added else ""
        yield f"table {self.options.table} takes the columns {', '.join([*fit.written, EVENT, BATCH_ID])}{more}"

    def close(self) -> None:
        self._catalog = None

    def _append(self, batch: Batch) -> tuple[Fit, Rows] | None:
        """Append the batch; None where it is there already."""
        table = self._load(create=self.options.create)
        if self._has(table, batch):
            return None
        fit = self._fit(table)
        rows = self._extractor.extract(batch.body)
        data = table_from(batch.body, rows, self._columns, batch.id).drop_columns(list(fit.discarded)).combine_chunks()
        if self.options.partition == "day":
            data = add_day(data)
        # Else pyiceberg would append once more to what another writer left, perhaps this very batch. In memory only.
        table.metadata.properties["commit.retry.num-retries"] = "0"
        try:
            change = table.transaction()
            if fit.added:
                with change.update_schema() as schema:
                    schema.union_by_name(data.schema)
            change.append(data, snapshot_properties={PROPERTY: batch.id})
        except Exception as error:
            raise self._meaning(error, untouched=True) from None
        try:
            change.commit_transaction()
        except Exception as error:
            raise self._meaning(error, untouched=False) from None
        return fit, rows

    def _look_for(self, batch: Batch) -> bool | None:
        table = self._load(create=False, may_be_missing=True)
        if table is None or self._has(table, batch):
            return table is not None
        # Snapshots that were expired since could be this batch's.
        is_whole = table.metadata.last_sequence_number <= len(table.metadata.snapshots)
        return False if is_whole else None

    def _load(self, *, create: bool, may_be_missing: bool = False) -> Any:
        from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

        try:
            return self._catalog.load_table(self.options.table)
        except (NoSuchTableError, NoSuchNamespaceError):
            if may_be_missing:
                return None
            if not create:
                columns = ", ".join(f"{name} {kind}" for name, kind in self._wanted().items())
                raise SinkMisconfigured(
                    f"the catalog has no table {self.options.table}; set create = true, or make it: CREATE TABLE"
                    f" {self.options.table} ({columns}) USING iceberg"
                ) from None
        except Exception as error:
            raise self._meaning(error, untouched=True) from None
        return self._create()

    def _create(self) -> Any:
        import pyarrow as pa
        from pyiceberg.transforms import IdentityTransform

        schema = schema_of(self._columns)
        by_day = self.options.partition == "day"
        if by_day:
            schema = schema.append(pa.field(EVENT_DATE, pa.date32()))
        try:
            self._catalog.create_namespace_if_not_exists(self.options.table.partition(".")[0])
            with self._catalog.create_table_transaction(self.options.table, schema=schema) as change:
                if by_day:
                    with change.update_spec() as spec:
                        spec.add_field(EVENT_DATE, IdentityTransform(), EVENT_DATE)
            return self._catalog.load_table(self.options.table)
        except Exception as error:
            raise self._meaning(error, untouched=True) from None

    def _has(self, table: Any, batch: Batch) -> bool:
        return any(
            each.summary is not None and each.summary.additional_properties.get(PROPERTY) == batch.id
            for each in table.metadata.snapshots
        )

    def _wanted(self) -> dict[str, str]:
        names = {name: ICEBERG_TYPES[column.type] for name, column in self._columns.items()}
        return names | {EVENT: "string", BATCH_ID: "string"}

    def _fit(self, table: Any) -> Fit:
        there = {field.name.casefold(): str(field.field_type) for field in table.schema().fields}
        by_day = EVENT_DATE in there
        if by_day != (self.options.partition == "day"):
            raise SinkMisconfigured(
                f"table {self.options.table} {'has' if by_day else 'has no'} column {EVENT_DATE}; set partition ="
                f' "{"day" if by_day else "none"}", or use another table'
            )
        return fit_columns(
            self._wanted(),
            there,
            self.options.schema_contract,
            f"table {self.options.table}",
            lambda name, type: f"ALTER TABLE {self.options.table} ADD COLUMN {name} {type}",
        )

    def _secrets(self) -> Iterator[str]:
        for value in self.options.catalog.values():
            if len(value.get_secret_value()) >= 4:
                yield value.get_secret_value()

    def _meaning(self, error: Exception, *, untouched: bool) -> SinkError:
        from pyiceberg import exceptions as errors

        if isinstance(error, SinkError):
            return error
        said = f"table {self.options.table}: {type(error).__name__}: {clean(error, self._secrets())}"
        if isinstance(error, errors.CommitFailedException):
            return SinkUnavailable(f"{said}; another writer was faster", untouched=True)
        if isinstance(error, errors.UnauthorizedError | errors.ForbiddenError | errors.OAuthError):
            return SinkMisconfigured(f"{said}; mend what `catalog` says of credentials, or what the catalog allows")
        if isinstance(error, errors.NotInstalledError | errors.BadRequestError):
            return SinkMisconfigured(said)
        if isinstance(error, MemoryError):
            return BatchTooLarge(f"table {self.options.table}: the batch needs more memory than there is")
        if is_unreached(said):
            return SinkUnavailable(said, untouched=True)
        if is_refusal(said) or isinstance(error, ValueError):
            return SinkMisconfigured(f"{said}; mend `catalog`, or what the store allows")
        return SinkUnavailable(said, untouched=untouched)
