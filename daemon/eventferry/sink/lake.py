"""What sinks that append Arrow tables to a lake share: options, a delivery, the day column, clean texts of errors."""

import re
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

from pydantic import SecretStr, model_validator

from eventferry.sink import timing
from eventferry.sink.arrow import schema_of, table_from
from eventferry.sink.base import BatchLimits, Sink
from eventferry.sink.batch import Batch
from eventferry.sink.columns import BATCH_ID, EVENT, RESERVED, ColumnOptions
from eventferry.sink.errors import SinkMisconfigured, SinkUnavailable
from eventferry.sink.libraries import load
from eventferry.sink.options import Duration
from eventferry.sink.rows import Extractor, Rows
from eventferry.sink.safe import safe_text
from eventferry.sink.tables import Fit, count_columns, values_in

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

EVENT_DATE = "event_date"  # the UTC day of event_time, by which tables are partitioned
_DECORATION = re.compile(r"\x1b\[[0-9;]*m|[↳│]")
_REFUSED = re.compile(
    r"AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|Forbidden|Unauthorized|Unauthenticated|NoSuchBucket"
    r"|\b40[134]\b(?!\.\d)|credential|Permission denied|PermissionDenied|Read-only file system|Unable to initialize"
    r"|specify a region|Can't load plugin|unable to open database file",
    re.I,
)
_UNREACHED = re.compile(
    r"tcp connect error|dns error|Connection refused|error trying to connect|Failed to establish a new connection", re.I
)
# What a library says of how it went about it; the place is named once already.
_HOW = re.compile(
    r"Kernel error(?: ->|:)? ?|Generic \w+ error:? |Error performing (?:token request ?|\w+ \S+ in \S+ (?:- )?)"
    r"|\((?:\w+\.)+\w+\) |\(Background on this error at: .*|Is the server running on .*",
    re.I,
)
_CAUSES = {
    "connection refused": r"Connection refused|Could not connect to server",
    "its name cannot be resolved": r"dns error|Failed to resolve|Name or service not known|Could not resolve host",
    "no connection was made": _UNREACHED.pattern + r"|curlCode: 28|Connection timed out|No route to host",
}
_SECRET = re.compile(
    r"secret|key|token|password|passwd|\bpwd|credential|(^|[._-])sas([._-]|$)|connection.?string|^header\.", re.I
)
_LONGEST = 300  # characters of a library's words
_SHOWN = 160  # of those, for people


class LakeOptions(ColumnOptions):
    """The options of every type that appends to a table of a lake."""

    reserved: ClassVar[tuple[str, ...]] = (*RESERVED, EVENT_DATE)

    create: bool = False
    partition: Literal["none", "day"] = "none"
    timeout: Duration = 30.0

    @model_validator(mode="after")
    def _check_partition(self) -> Self:
        if self.partition == "day" and self.all_columns()["event_time"].type != "timestamp":
            raise ValueError('partition = "day" needs event_time as a timestamp; expected it in columns, or "none"')
        return self

    def new_schema(self) -> "pa.Schema":
        """The fields of a new table."""
        import pyarrow as pa

        schema = schema_of(self.all_columns())
        return schema.append(pa.field(EVENT_DATE, pa.date32())) if self.partition == "day" else schema

    def check_day(self, there: Collection[str], place: str) -> None:
        """Raise SinkMisconfigured where the table at `place` is not partitioned as configured."""
        by_day = EVENT_DATE in there
        if by_day != (self.partition == "day"):
            raise SinkMisconfigured(
                f"{place} {'has' if by_day else 'has no'} column {EVENT_DATE}; set partition ="
                f' "{"day" if by_day else "none"}", or use another table'
            )


LakeOptionsT = TypeVar("LakeOptionsT", bound=LakeOptions)


class LakeSink(Sink[LakeOptionsT]):
    """Appends each batch in one commit, in which a repeat finds it; a type says how its library does that."""

    limits = BatchLimits(max_events=250_000, max_bytes=64 * 1024 * 1024)

    def open(self) -> None:
        load("pyarrow", self.needs["pyarrow"])
        self._columns = self.options.all_columns()
        self._extractor = Extractor(self._columns)

    def deliver(self, batch: Batch) -> None:
        if taken := within(self.options.timeout, lambda: self._append(batch)):
            fit, rows = taken
            misfits = {name: number for name, number in rows.misfits.items() if name not in fit.discarded}
            count_columns(self, misfits, values_in(rows, self._columns, fit.discarded), fit.added)

    def was_delivered(self, batch: Batch) -> bool | None:
        return within(self.options.timeout, lambda: self._look_for(batch))

    def _append(self, batch: Batch) -> tuple[Fit, Rows] | None:
        """Append the batch; None where it is there already."""
        table = self._load(create=self.options.create)
        if self._has(table, batch):
            return None
        fit = self._fit(table)
        rows = self._extractor.extract(batch.body)
        # Only the columns that the table has, in one piece.
        data = table_from(batch.body, rows, self._columns, batch.id).drop_columns(list(fit.discarded)).combine_chunks()
        self._commit(table, _add_day(data) if self.options.partition == "day" else data, fit, batch)
        return fit, rows

    @abstractmethod
    def _look_for(self, batch: Batch) -> bool | None:
        """What `was_delivered` says."""

    @abstractmethod
    def _load(self, *, create: bool) -> Any:
        """The table. Raises SinkMisconfigured where it is missing and is not to be created."""

    @abstractmethod
    def _has(self, table: Any, batch: Batch) -> bool:
        """Whether an earlier attempt of the batch took effect, as far as a repeat has to know."""

    @abstractmethod
    def _fit(self, table: Any) -> Fit:
        """How the table takes the configured columns."""

    @abstractmethod
    def _commit(self, table: Any, data: "pa.Table", fit: Fit, batch: Batch) -> None:
        """Add what `fit` says and append the data, in one commit that remembers the batch. Raises SinkErrors."""


def within(seconds: float, call: Callable[[], T]) -> T:
    """What `call` returns or raises, unless it takes longer: then it is left to itself.

    These libraries bound single requests only. What is left behind may still commit; so a repeat must be able to meet
    it, as one commit of two. Raises SinkUnavailable at the deadline.
    """
    return timing.within(seconds, call, SinkUnavailable(f"no answer within {seconds:g} s; what was taken is unknown"))


def describe_fit(fit: Fit, place: str) -> str:
    """A step of `check`: which columns the table takes."""
    more = f"; the first delivery adds {', '.join(fit.added)}" if fit.added else ""
    return f"{place} takes the columns {', '.join([*fit.written, EVENT, BATCH_ID])}{more}"


def secrets_in(values: Mapping[str, SecretStr]) -> Iterator[str]:
    """What a library's words may hold and a message must not show: values whose key says so, passwords inside of URLs.

    Shorter ones would mask the words themselves.
    """
    for name, value in values.items():
        text = value.get_secret_value()
        login, at, _ = text.partition("://")[2].rpartition("@")
        found = text if _SECRET.search(name) else login.partition(":")[2] if at else ""
        if len(found) >= 4:
            yield found


def _add_day(table: "pa.Table") -> "pa.Table":
    """The table with `event_date` after its other columns: the day of `event_time`, NULL without one."""
    import pyarrow as pa

    return table.append_column(EVENT_DATE, table.column("event_time").cast(pa.timestamp("us")).cast(pa.date32()))


def clean(error: BaseException, secrets: Iterator[str]) -> str:
    """A library's words on one line, without its colours, its retries or a secret."""
    return safe_text(_DECORATION.sub(" ", str(error)), _LONGEST, secrets)


def shorten(said: str) -> str:
    """What people need of a library's cleaned words."""
    return safe_text(_HOW.sub("", said).strip(" -;:"), _SHOWN)


def why_unreached(said: str) -> str:
    """Why a place cannot be reached, as a library's words say it; "" where they speak of something else."""
    return next((cause for cause, words in _CAUSES.items() if re.search(words, said, re.I)), "")


def is_refusal(said: str) -> bool:
    """Whether a library's words say that a person has to act: these libraries have one class for every error."""
    return bool(_REFUSED.search(said))


def is_unreached(said: str) -> bool:
    """Whether they say that no connection was made."""
    return bool(_UNREACHED.search(said))
