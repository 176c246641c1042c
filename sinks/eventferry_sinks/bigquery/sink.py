"""Loads batches into a BigQuery table by load jobs whose ids are made of the batches' ids."""

import threading
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from eventferry.sink import (
    Batch,
    BatchLimits,
    EventsRejected,
    Guarantee,
    Sink,
    SinkError,
    SinkMisconfigured,
    SinkUnavailable,
)
from eventferry.sink.columns import Column, ColumnOptions, check_name
from eventferry.sink.options import Duration, File, Url
from eventferry.sink.tables import count_columns, no_table
from eventferry.sink.wrapped import count_values, pack
from eventferry_sinks.bigquery.api import Api, JobHidden
from eventferry_sinks.bigquery.meaning import meaning_of_job, meaning_of_rows
from eventferry_sinks.bigquery.streaming import requests_of
from eventferry_sinks.bigquery.table import describe, extended, fit, spell_out, statement, wanted_types

_TAKEN = ("_table_", "_file_", "_partition", "_row_timestamp", "__root__", "_colidentifier")  # BigQuery's own names
_FIRST_LOOK, _LAST_LOOK = 0.1, 2.0  # seconds between two looks at a job, growing
_RIGHTS = ("bigquery.tables.get", "bigquery.tables.updateData")


class BigqueryOptions(ColumnOptions):
    """Which table, which columns, as whom, and how."""

    project: str = Field(pattern=r"^[a-z][a-z0-9.:-]{2,62}$")
    dataset: Annotated[str, AfterValidator(check_name)]
    table: Annotated[str, AfterValidator(check_name)] = "events"
    location: str | None = Field(default=None, pattern=r"^[A-Za-z0-9-]{2,40}$")
    create: bool = False
    event_as: Literal["string", "json"] = "string"
    method: Literal["load", "insert_all"] = "load"
    credentials_file: File | None = None
    impersonate: str | None = Field(default=None, pattern=r"^[^@\s]+@[^@\s]+$")
    endpoint: Url | None = None
    timeout: Duration = 30.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in self.columns:
            if not name.isascii() or name.casefold().startswith(_TAKEN):
                taken = ", ".join(_TAKEN)
                raise ValueError(f"{name!r} is not a column's name in BigQuery; expected ASCII, not beginning {taken}")
        texts = self.event_as == "string" and all(column.type != "json" for column in self.columns.values())
        if self.method == "insert_all" and not texts:
            raise ValueError('method = "insert_all" sends texts; expected event_as = "string" and no json columns')
        return self

    def full_name(self) -> str:
        """`project.dataset.table`."""
        return f"{self.project}.{self.dataset}.{self.table}"


class BigquerySink(Sink[BigqueryOptions]):
    """One load job a batch: BigQuery runs a job of one id once, and a job takes all or nothing."""

    Options = BigqueryOptions
    guarantee = Guarantee.EFFECTIVELY_ONCE
    max_concurrency = 2
    limits = BatchLimits(max_events=250_000, max_bytes=64 * 1024 * 1024)
    experimental = True
    proved_against = "a stub of the REST API"
    needs: ClassVar[Mapping[str, str]] = {"google.cloud.bigquery": "eventferry[bigquery]"}

    _api: Api | None = None
    _location: str | None = None
    _sent = False  # some requests of the batch went well, and what they began may have taken effect
    _columns: Mapping[str, Column]
    _left_out: Mapping[str, Column]

    def open(self) -> None:
        options = self.options
        if options.method == "insert_all":  # its ids are remembered for about a minute, as well as may be
            self.guarantee = Guarantee.AT_LEAST_ONCE_KEYED
        api = Api(
            options.project,
            options.full_name(),
            endpoint=options.endpoint,
            credentials_file=options.credentials_file,
            impersonate=options.impersonate,
        )
        try:
            with api.within(options.timeout):
                api.connect()
                self._prepare(api)
        except BaseException:
            api.close()
            raise
        self._api = api

    def deliver(self, batch: Batch) -> None:
        api = self._opened()
        self._sent = False
        try:
            with api.within(self.options.timeout):
                if self.options.method == "insert_all":
                    self._stream(api, batch)
                else:
                    self._load(api, batch)
        except SinkUnavailable as error:
            error.untouched = error.untouched and not self._sent
            raise

    def was_delivered(self, batch: Batch) -> bool | None:
        if self.options.method == "insert_all":
            return None
        api = self._opened()
        try:
            with api.within(self.options.timeout):
                number, job = self._last_job(api, batch)
        except JobHidden:
            return None
        if job is not None and job.state != "DONE":  # it may still end well: who waits will know
            raise SinkUnavailable(f"{api.who}: load job {_job_id(batch, number)} still runs")
        return job is not None and not job.error_result

    def check(self) -> Iterator[str]:
        api, table = self._opened(), self.options.full_name()
        yield f"{api.who} takes {api.account or 'the credentials'}"
        yield f"table {table} in {self._location} has all {len(self._columns) + 2} columns"
        with api.within(self.options.timeout):
            if missing := api.missing_rights(_RIGHTS):
                raise SinkMisconfigured(
                    f"table {table}: no {', '.join(missing)}; grant roles/bigquery.dataEditor on the dataset"
                )
        yield f"table {table} may be written"
        if self.options.method == "load":
            with api.within(self.options.timeout):
                api.find_job("eventferry_check", self._location)
            yield "load jobs can be looked up"

    def close(self) -> None:
        api, self._api = self._api, None
        if api is not None:
            api.close()

    # -- the table ----------------------------------------------------------------------------------------------------

    def _prepare(self, api: Api) -> None:
        """Find or make the table and its columns; what may not be added is left out."""
        options, name = self.options, self.options.full_name()
        columns = options.all_columns()
        wanted = wanted_types(columns, options.event_as)
        table = api.find_table()
        if table is None:
            if not options.create:
                raise no_table(name, statement(name, wanted))
            api.create_table(describe(api.table, wanted))
            table = api.find_table()  # somebody else may have made it otherwise
        found = fit(name, table.schema, wanted, options.schema_contract)
        if found.added:
            table.schema = extended(table.schema, found.added)
            table = api.change_schema(table)
            count_columns(self, {}, added=found.added)
        self._location = options.location or table.location
        self._columns = {name: columns[name] for name in found.written}
        self._left_out = {name: columns[name] for name in found.discarded}

    # -- load jobs ----------------------------------------------------------------------------------------------------

    def _load(self, api: Api, batch: Batch) -> None:
        number, job = self._last_job(api, batch)
        if job is None or (job.state == "DONE" and job.error_result):  # terminally failed: its id is used up
            number += 1
            # Packed only now: a batch that is known to be there costs one question.
            packed = self._pack(batch)
            job = api.start_load(_job_id(batch, number), self._location, packed)
            self.count("bytes.sent", number=len(packed))
        self._await(api, batch, number, job)

    def _await(self, api: Api, batch: Batch, number: int, job: Any) -> None:
        """Look at the job until it is done. Raises what its failure means."""
        job_id, pause = _job_id(batch, number), _FIRST_LOOK
        waiting = threading.Event()
        self._sent = True  # whatever goes wrong with a look, the job runs on
        while job is None or job.state != "DONE":
            waiting.wait(min(pause, api.remaining()))
            pause = min(pause * 1.5, _LAST_LOOK)
            try:
                job = api.find_job(job_id, self._location)
            except SinkMisconfigured as error:  # a person must act, but the job runs: what it does is unknown till then
                raise SinkUnavailable(f"{error}; it was started, and what it did is unknown") from None
            if job is None:  # it was said to be there, and is not shown yet
                raise SinkUnavailable(f"{api.who}: job {job_id} was started, but is not shown yet")
        self._sent = False
        if job.error_result:
            raise meaning_of_job(f"{api.who}, job {job_id}", job.error_result, job.errors or ())

    def _last_job(self, api: Api, batch: Batch) -> tuple[int, Any]:
        """The number of the batch's last job, with it; (0, None) without one. There is none without the one before."""

        def look(number: int) -> Any:
            return api.find_job(_job_id(batch, number), self._location)

        low, job = 1, look(1)
        if job is None:
            return 0, None
        while (later := look(2 * low)) is not None:
            low, job = 2 * low, later
        high = 2 * low
        while high - low > 1:
            middle = (low + high) // 2
            found = look(middle)
            if found is None:
                high = middle
            else:
                low, job = middle, found
        return low, job

    def _pack(self, batch: Batch) -> bytes:
        packed, misfits = pack(
            batch.body,
            self._columns,
            batch.id,
            as_text=self.options.event_as == "string",
            adjust=lambda rows: spell_out(rows, self._columns),
        )
        count_columns(self, misfits, count_values(batch.body, self._left_out))
        return packed

    # -- streaming ----------------------------------------------------------------------------------------------------

    def _stream(self, api: Api, batch: Batch) -> None:
        refused: dict[int, str] = {}
        for request in requests_of(batch, self._columns):
            found = meaning_of_rows(api.who, api.insert(request.values, request.ids), len(request.values))
            if isinstance(found, SinkError):
                raise found
            self._sent = True
            refused |= {request.first + position: reason for position, reason in found.items()}
            count_columns(self, request.misfits)
        count_columns(self, {}, count_values(batch.body, self._left_out))
        if refused:
            raise EventsRejected(refused)

    def _opened(self) -> Api:
        if self._api is None:
            raise RuntimeError("used before open")
        return self._api


def _job_id(batch: Batch, number: int) -> str:
    return f"eventferry_{batch.id}" + (f"_{number}" if number > 1 else "")
