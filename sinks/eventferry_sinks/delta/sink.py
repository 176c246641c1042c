"""Appends each batch to a Delta Lake table, in one commit that remembers the batch."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, SecretStr

from eventferry.sink import (
    Batch,
    BatchTooLarge,
    Guarantee,
    SinkError,
    SinkMisconfigured,
    SinkUnavailable,
)
from eventferry.sink.arrow import schema_of
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
)
from eventferry.sink.libraries import load
from eventferry.sink.safe import safe_url
from eventferry.sink.tables import Fit, fit_columns

# A batch is repeated within minutes or days; its id need not be remembered for ever.
REMEMBERED = "interval 90 days"
_SQL = {
    "string": "STRING",
    "int64": "BIGINT",
    "double": "DOUBLE",
    "bool": "BOOLEAN",
    "timestamp[us, tz=UTC]": "TIMESTAMP",
}
_SCHEMES = ("s3://", "s3a://", "gs://", "az://", "abfs://", "abfss://", "file:///", "/")


def _check_url(url: str) -> str:
    if not url.startswith(_SCHEMES):
        raise ValueError("is not a place for a table; expected s3://…, gs://…, az://…, abfss://… or an absolute path")
    if "@" in url.partition("://")[2].partition("/")[0] and not url.startswith("abfs"):
        raise ValueError("holds credentials; expected them in the table `storage`")
    return url


class DeltaOptions(LakeOptions):
    """Which table, how its store is reached, which columns."""

    url: Annotated[str, AfterValidator(_check_url)]
    storage: dict[str, SecretStr] = Field(default_factory=dict)  # as the library deltalake names them


class DeltaSink(LakeSink[DeltaOptions]):
    """One commit a batch. It names the batch as an application transaction, by which a repeat finds it; of two writers
    of the same batch one fails at its commit."""

    Options = DeltaOptions
    guarantee = Guarantee.EFFECTIVELY_ONCE
    proved_against = "local tables, and OpenStack Swift's S3"
    needs = {"deltalake": "eventferry[delta]", "pyarrow": "eventferry[delta]"}  # noqa: RUF012 - declared in Sink

    _lake: Any = None

    def open(self) -> None:
        super().open()
        self._lake = load("deltalake", "eventferry[delta]")

    def check(self) -> Iterator[str]:
        """Load the table and compare its columns; nothing stays written.

        Rights to write to a bucket show at the first delivery.
        """
        folder = _folder_of(self.options.url)
        if folder and (self.options.create or os.access(folder, os.F_OK)):
            _prove_writable(folder)
        try:
            table = self._load(create=False)
        except SinkMisconfigured as error:
            if not (self.options.create and isinstance(error.__cause__, self._lake.exceptions.TableNotFoundError)):
                raise
            yield f"{self.options.url} is not there yet; the first delivery makes it"
            return
        yield f"{self.options.url} can be read, version {table.version()}"
        yield describe_fit(self._fit(table), "the table")

    def close(self) -> None:
        self._lake = None

    def _commit(self, table: Any, data: Any, fit: Fit, batch: Batch) -> None:
        commit = self._lake.CommitProperties(
            app_transactions=[self._lake.Transaction(app_id=batch.id, version=1)],
            # A commit that meets another one is tried again by the daemon, which looks for the batch first.
            max_commit_retries=0,
        )
        try:
            self._lake.write_deltalake(
                table, data, mode="append", schema_mode="merge" if fit.added else None, commit_properties=commit
            )
        except Exception as error:
            raise self._meaning(error, reads=False) from None

    def _look_for(self, batch: Batch) -> bool | None:
        try:
            return self._has(self._load(create=False), batch)
        except SinkMisconfigured as error:
            if isinstance(error.__cause__, self._lake.exceptions.TableNotFoundError):
                return False
            raise

    def _load(self, *, create: bool) -> Any:
        missing = self._lake.exceptions.TableNotFoundError
        try:
            return self._lake.DeltaTable(self.options.url, storage_options=self._storage())
        except missing as error:
            if not create:
                raise SinkMisconfigured(
                    f"{self.options.url} is no Delta table; set create = true, or make one with {self._names()}"
                ) from error
        except Exception as error:
            raise self._meaning(error, reads=True) from None
        return self._create()

    def _create(self) -> Any:
        try:
            return self._lake.DeltaTable.create(
                self.options.url,
                self.options.new_schema(),
                mode="ignore",
                partition_by=[EVENT_DATE] if self.options.partition == "day" else None,
                configuration={"delta.setTransactionRetentionDuration": REMEMBERED},
                storage_options=self._storage(),
            )
        except Exception as error:
            raise self._meaning(error, reads=False) from None

    def _has(self, table: Any, batch: Batch) -> bool:
        return table.transaction_version(batch.id) is not None

    def _fit(self, table: Any) -> Fit:
        import pyarrow as pa

        there = {field.name.casefold(): str(field.type) for field in pa.schema(table.schema())}
        wanted = {field.name: str(field.type) for field in schema_of(self._columns)}
        self.options.check_day(there, self.options.url)
        return fit_columns(
            wanted,
            there,
            self.options.schema_contract,
            f"the table {self.options.url}",
            lambda added: f"ALTER TABLE delta.`{self.options.url}` ADD COLUMNS ({_listed(added)})",
        )

    def _names(self) -> str:
        return ", ".join(f"{field.name} ({field.type})" for field in schema_of(self._columns))

    def _storage(self) -> dict[str, str]:
        seconds = f"{self.options.timeout:g}s"
        ours = {"timeout": seconds, "connect_timeout": seconds, "max_retries": "0", "retry_timeout": seconds}
        if self.options.url.startswith("s3"):
            # Two commits of one version: the second must fail, which a plain put would not.
            ours["aws_conditional_put"] = "etag"
        return ours | {name: value.get_secret_value() for name, value in self.options.storage.items()}

    def _meaning(self, error: Exception, *, reads: bool) -> SinkError:
        errors, url = self._lake.exceptions, self.options.url
        if isinstance(error, SinkError):
            return error
        words = clean(error, secrets_in(self.options.storage)).replace(url, "the table")  # a place has any name
        said = f"{url}: {shorten(words)}"
        if isinstance(error, errors.CommitFailedError):
            return SinkUnavailable(f"{said}; another writer was faster", untouched=True)
        if isinstance(error, errors.DeltaProtocolError | errors.SchemaMismatchError):
            return SinkMisconfigured(f"{said}; use a table that this version of deltalake can write")
        if isinstance(error, MemoryError):
            return BatchTooLarge(f"{url}: the batch needs more memory than there is")
        if "URL scheme is not allowed" in words:
            return SinkMisconfigured(
                f"{url}: {self._endpoint()} is plain HTTP; give an https endpoint, or allow it in `storage`:"
                ' AWS_ALLOW_HTTP = "true"'
            )
        if "169.254.169.254" in words or "metadata.google" in words:
            said = f"{url}: `storage` has no credentials, and the machine has no identity that answers; set them there"
            return SinkMisconfigured(said) if is_refusal(words) else SinkUnavailable(said, untouched=reads)
        if is_refusal(words):
            return SinkMisconfigured(f"{said}; mend `url` or `storage`, or what the store allows")
        untouched = reads or is_unreached(words)
        if cause := why_unreached(words):
            return SinkUnavailable(
                f"{url}: {self._endpoint()} cannot be reached ({cause}); check `storage`, DNS and the network",
                untouched=untouched,
            )
        return SinkUnavailable(said, untouched=untouched)

    def _endpoint(self) -> str:
        found = [value for name, value in self.options.storage.items() if "endpoint" in name.lower()]
        return f"the endpoint {safe_url(found[0].get_secret_value())}" if found else "the store"


def _folder_of(url: str) -> str:
    """The folder of a table on this machine; "" for one elsewhere."""
    return url if url.startswith("/") else unquote(urlsplit(url).path) if url.startswith("file:") else ""


def _prove_writable(folder: str) -> None:
    """Raise SinkMisconfigured where neither the folder nor what it would be made in takes a file; leaves none."""
    there = Path(folder)
    while not os.access(there, os.F_OK) and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise SinkMisconfigured(
            f"{folder}: cannot write to {there} ({error.strerror}); give the service's user the right to, or mend `url`"
        ) from None


def _listed(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {_SQL.get(type, type)}" for name, type in columns.items())
