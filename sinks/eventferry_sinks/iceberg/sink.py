"""Appends each batch to an Apache Iceberg table, in one snapshot that is named after the batch."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SecretStr

from eventferry.sink import (
    Batch,
    BatchTooLarge,
    Guarantee,
    SinkError,
    SinkMisconfigured,
    SinkUnavailable,
)
from eventferry.sink.columns import BATCH_ID, EVENT, Type, check_table
from eventferry.sink.lake import (
    EVENT_DATE,
    LakeOptions,
    LakeSink,
    clean,
    describe_fit,
    is_refusal,
    is_unreached,
    secrets_in,
    shorten,
    why_unreached,
    within,
)
from eventferry.sink.libraries import load
from eventferry.sink.safe import safe_url
from eventferry.sink.tables import Fit, fit_columns, no_table
from eventferry_sinks.iceberg.catalogs import open_catalog

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


class IcebergOptions(LakeOptions):
    """Which table of which catalog, which columns."""

    catalog: dict[str, SecretStr] = Field(min_length=1)  # properties as pyiceberg names them: type, uri, warehouse …
    table: Annotated[str, AfterValidator(_check_table)]


class IcebergSink(LakeSink[IcebergOptions]):
    """One snapshot a batch, found again by its property; the catalog lets one of two writers of the same state win."""

    Options = IcebergOptions
    guarantee = Guarantee.EFFECTIVELY_ONCE
    proved_against = "a catalog in SQLite, local files, and OpenStack Swift's S3"
    needs = {"pyiceberg": "eventferry[iceberg]", "pyarrow": "eventferry[iceberg]"}  # noqa: RUF012 - declared in Sink

    _catalog: Any = None

    def open(self) -> None:
        super().open()
        load("pyiceberg.catalog", "eventferry[iceberg]")  # before the clock runs
        seconds = f"{self.options.timeout:g}"
        properties = {"s3.connect-timeout": seconds, "s3.request-timeout": seconds}
        properties |= {name: value.get_secret_value() for name, value in self.options.catalog.items()}
        try:
            self._catalog = within(self.options.timeout, lambda: open_catalog(properties, self.options.timeout))
        except Exception as error:
            raise self._meaning(error, untouched=True) from None

    def check(self) -> Iterator[str]:
        """Load the table and compare its columns; nothing is written, so rights to write show at the first delivery."""
        table = self._load(create=False, may_be_missing=self.options.create)
        yield "the catalog answers"
        if table is None:
            yield f"table {self.options.table} is not there yet; the first delivery makes it"
            return
        yield describe_fit(self._fit(table), f"table {self.options.table}")

    def close(self) -> None:
        self._catalog = None

    def _commit(self, table: Any, data: Any, fit: Fit, batch: Batch) -> None:
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

    def _look_for(self, batch: Batch) -> bool | None:
        table = self._load(create=False, may_be_missing=True)
        if table is None or _names(table, batch):
            return table is not None
        if _is_whole(table):
            return False
        return True if self._holds(table, batch) else None

    def _load(self, *, create: bool, may_be_missing: bool = False) -> Any:
        from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

        try:
            return self._catalog.load_table(self.options.table)
        except (NoSuchTableError, NoSuchNamespaceError):
            if may_be_missing:
                return None
            if not create:
                body = f"CREATE TABLE {self.options.table} ({_listed(self._wanted())}) USING iceberg"
                raise no_table(f"{self.options.table} in the catalog", body) from None
        except Exception as error:
            raise self._meaning(error, untouched=True) from None
        return self._create()

    def _create(self) -> Any:
        from pyiceberg.transforms import IdentityTransform

        try:
            self._catalog.create_namespace_if_not_exists(self.options.table.partition(".")[0])
            with self._catalog.create_table_transaction(self.options.table, schema=self.options.new_schema()) as change:
                if self.options.partition == "day":
                    with change.update_spec() as spec:
                        spec.add_field(EVENT_DATE, IdentityTransform(), EVENT_DATE)
            return self._catalog.load_table(self.options.table)
        except Exception as error:
            raise self._meaning(error, untouched=True) from None

    def _has(self, table: Any, batch: Batch) -> bool:
        # A sink may have been held for longer than snapshots are kept.
        return _names(table, batch) or (batch.attempt > 1 and not _is_whole(table) and self._holds(table, batch))

    def _holds(self, table: Any, batch: Batch) -> bool:
        """Whether events of the batch stand in the table. The statistics of its files leave few of them to be read."""
        from pyiceberg.expressions import EqualTo

        equal: Any = EqualTo
        try:
            found = table.scan(equal(BATCH_ID, batch.id), selected_fields=(BATCH_ID,), limit=1).to_arrow()
        except Exception as error:
            raise self._meaning(error, untouched=True) from None
        return bool(found.num_rows)

    def _wanted(self) -> dict[str, str]:
        names = {name: ICEBERG_TYPES[column.type] for name, column in self._columns.items()}
        return names | {EVENT: "string", BATCH_ID: "string"}

    def _fit(self, table: Any) -> Fit:
        there = {field.name.casefold(): str(field.field_type) for field in table.schema().fields}
        self.options.check_day(there, f"table {self.options.table}")
        return fit_columns(
            self._wanted(),
            there,
            self.options.schema_contract,
            f"table {self.options.table}",
            lambda added: f"ALTER TABLE {self.options.table} ADD COLUMNS ({_listed(added)})",
        )

    def _meaning(self, error: Exception, *, untouched: bool) -> SinkError:
        from pyiceberg import exceptions as errors

        if isinstance(error, SinkError):
            return error
        words = f"{type(error).__name__}: {clean(error, secrets_in(self.options.catalog))}"
        table = f"table {self.options.table}"
        said = f"{table}: {shorten(words)}"
        if isinstance(error, errors.CommitStateUnknownException):
            return SinkUnavailable(f"{said}; what it took is unknown")
        if isinstance(error, errors.CommitFailedException):
            return SinkUnavailable(f"{said}; another writer was faster", untouched=True)
        if isinstance(error, errors.UnauthorizedError | errors.ForbiddenError | errors.OAuthError):
            return SinkMisconfigured(f"{said}; mend what `catalog` says of credentials, or what the catalog allows")
        if isinstance(error, errors.NotInstalledError | errors.BadRequestError):
            return SinkMisconfigured(f"{said}; mend `catalog`")
        if isinstance(error, MemoryError):
            return BatchTooLarge(f"table {self.options.table}: the batch needs more memory than there is")
        if cause := why_unreached(words):
            return SinkUnavailable(
                f"{table}: {self._place(words)} cannot be reached ({cause}); check `catalog`, DNS and the network",
                untouched=untouched or is_unreached(words),
            )
        if is_refusal(words) or isinstance(error, ValueError):
            return SinkMisconfigured(f"{said}; mend `catalog`, or what the store allows")
        return SinkUnavailable(said, untouched=untouched)

    def _place(self, words: str) -> str:
        """What the words are about: the store where the table's files lie, or the catalog."""
        what, key = ("the store", "s3.endpoint") if "AWS Error" in words else ("the catalog", "uri")
        value = self.options.catalog.get(key)
        return f"{what} {safe_url(value.get_secret_value())}" if value is not None else what


def _listed(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {type}" for name, type in columns.items())


def _names(table: Any, batch: Batch) -> bool:
    """Whether a snapshot of the table is named after the batch."""
    return any(
        each.summary is not None and each.summary.additional_properties.get(PROPERTY) == batch.id
        for each in table.metadata.snapshots
    )


def _is_whole(table: Any) -> bool:
    """Whether every snapshot that was ever made is remembered; format version 1 does not count them."""
    known = table.metadata
    return bool(known.format_version > 1 and known.last_sequence_number <= len(known.snapshots))
