"""What sinks that append Arrow tables to a lake share: the day column, what fits and what does not, clean texts."""

import re
from collections.abc import Callable, Iterator, Mapping
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from eventferry.sink.base import Sink
from eventferry.sink.columns import Column
from eventferry.sink.errors import SinkUnavailable
from eventferry.sink.rows import Rows
from eventferry.sink.safe import safe_text
from eventferry.sink.tables import Fit

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

EVENT_DATE = "event_date"  # the UTC day of event_time, by which tables are partitioned
_DECORATION = re.compile(r"\x1b\[[0-9;]*m|[↳│]")
_REFUSED = re.compile(
    r"AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|Forbidden|Unauthorized|Unauthenticated|NoSuchBucket"
    r"|\b40[134]\b|credential|Permission denied|PermissionDenied|Read-only file system|Unable to initialize",
    re.I,
)
_UNREACHED = re.compile(
    r"tcp connect error|dns error|Connection refused|error trying to connect|Failed to establish a new connection", re.I
)
_LONGEST = 300  # characters of a library's words


def within(seconds: float, call: Callable[[], T]) -> T:
    """What `call` returns or raises, unless it takes longer: then it is left to itself, on its own thread.

    These libraries bound single requests only, and nothing interrupts them. What is left behind may still commit; so
    a repeat must be able to meet it, as one commit of two. Raises SinkUnavailable at the deadline.
    """
    ending: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            ending.append(call())
        except BaseException as error:
            failed.append(error)

    thread = Thread(target=run, name="lake", daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not ending:
        raise SinkUnavailable(f"no answer within {seconds:g} s; what was taken is unknown")
    return ending[0]


def add_day(table: "pa.Table") -> "pa.Table":
    """The table with `event_date` after its other columns: the day of `event_time`, NULL without one."""
    import pyarrow as pa

    return table.append_column(EVENT_DATE, table.column("event_time").cast(pa.timestamp("us")).cast(pa.date32()))


def count_fit(sink: Sink[Any], columns: Mapping[str, Column], fit: Fit, rows: Rows) -> None:
    """Count what a delivery that was taken has added, left out, or found not to fit."""
    for name, number in rows.misfits.items():
        if name not in fit.discarded:
            sink.count("values.misfitted", name, number)
    for name in fit.added:
        sink.count("columns.added", name)
    for name, values in zip(columns, rows.values, strict=True):
        if name in fit.discarded and (number := len(values) - values.count(None)):
            sink.count("values.discarded", name, number)


def clean(error: BaseException, secrets: Iterator[str]) -> str:
    """A library's words on one line, without its colours, its retries or a secret."""
    return safe_text(_DECORATION.sub(" ", str(error)), _LONGEST, secrets)


def is_refusal(said: str) -> bool:
    """Whether a library's words say that a person has to act: these libraries have one class for every error."""
    return bool(_REFUSED.search(said))


def is_unreached(said: str) -> bool:
    """Whether they say that no connection was made."""
    return bool(_UNREACHED.search(said))
