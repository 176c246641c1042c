"""The columns of a table of events: what may be configured, and which names are fit for it."""

import re
from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from eventferry.sink.base import SinkOptions
from eventferry.sink.options import as_list

Type = Literal["text", "integer", "number", "boolean", "timestamp", "json"]
Contract = Literal["evolve", "freeze", "discard"]

EVENT = "event"  # the whole event, as JSON
BATCH_ID = "batch_id"
RESERVED = (EVENT, BATCH_ID)
LONGEST_NAME = 63  # bytes; PostgreSQL cuts longer names silently, others refuse them


def check_name(name: str) -> str:
    """`name`, if it is fit for a table or a column everywhere. Raises ValueError."""
    if not re.fullmatch(r"[^\W\d]\w*", name) or len(name.encode()) > LONGEST_NAME:
        raise ValueError(
            f"{name!r} is not a usable name; expected letters, digits and underscores, no digit first, up to"
            f" {LONGEST_NAME} bytes"
        )
    return name


def check_table(name: str) -> str:
    """`name`, if it is `table` or `schema.table`, of usable names. Raises ValueError."""
    steps = name.split(".")
    if len(steps) > 2:
        raise ValueError(f"{name!r} is not a table; expected `table` or `schema.table`")
    for step in steps:
        check_name(step)
    return name


def _check_path(path: str) -> str:
    if not path or (any(not step for step in path.split(".")) and not path.startswith("/")):
        raise ValueError(f"{path!r} is not a path; expected `attributes.url`, or `/a.b/c` for keys with dots")
    if "\x00" in path:
        raise ValueError("the path holds a NUL character")
    return path


Path = Annotated[str, AfterValidator(_check_path)]


class Column(BaseModel):
    """Where a column's value stands in an event; of several paths the first that has a fitting value wins."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Annotated[tuple[Path, ...], BeforeValidator(as_list), Field(min_length=1)]
    type: Type = "text"


def _as_column(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


DEFAULT_COLUMNS = {
    "event_time": Column(path=("event_timestamp", "timestamp", "keen.timestamp"), type="timestamp"),
    "event_type": Column(path=("event_type",)),
}


class ColumnOptions(SinkOptions):
    """The options of every type that writes a table: the columns beside the raw event, and what may be done to a table
    that lacks one of them.

    `evolve` adds it, `freeze` holds the sink, `discard` leaves it out. A value that does not fit its column is NULL
    there, kept in the raw event, and counted.
    """

    reserved: ClassVar[tuple[str, ...]] = RESERVED

    columns: dict[str, Annotated[Column, BeforeValidator(_as_column)]] = Field(default_factory=dict)
    schema_contract: Contract = "evolve"

    @model_validator(mode="after")
    def _check_columns(self) -> Self:
        check_names(self.columns, self.reserved)
        return self

    def all_columns(self) -> dict[str, Column]:
        """The configured columns after the default ones, which may be redefined by name."""
        mine = {name.casefold() for name in self.columns}
        return {name: column for name, column in DEFAULT_COLUMNS.items() if name not in mine} | self.columns


def check_names(names: Iterable[str], reserved: Iterable[str] = RESERVED) -> None:
    """Raise ValueError where two names differ in case only, or one is taken by the table itself."""
    seen: dict[str, str] = {one: one for one in reserved}
    kept = set(seen)
    for name in names:
        folded = check_name(name).casefold()
        if folded in seen:
            twin = seen[folded]
            why = "is a column that every table has" if folded in kept else f"differs from {twin!r} in case only"
            raise ValueError(f"{name!r} {why}; expected another name")
        seen[folded] = name


def steps_of(path: str) -> tuple[str, ...]:
    """The keys of a dotted path, or of a JSON pointer, which begins with `/`."""
    if path.startswith("/"):
        return tuple(step.replace("~1", "/").replace("~0", "~") for step in path[1:].split("/"))
    return tuple(path.split("."))
