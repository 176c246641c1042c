"""The columns of the events table: what may be configured, and the SQL that fills one from an event's JSON."""

import re
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Type = Literal["VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN", "TIMESTAMP"]

RESERVED = ("event", "batch_id")
LONGEST_NAME = 63  # bytes; longer names are cut silently by databases to which the table may move

# Years 1 to 9999, in milliseconds.
_FIRST_MS, _LAST_MS = -62135596800000, 253402300799999


def check_name(name: str) -> str:
    """`name`, if it is fit for a table or a column. Raises ValueError."""
    if not re.fullmatch(r"[^\W\d]\w*", name) or len(name.encode()) > LONGEST_NAME:
        raise ValueError(
            f"{name!r} is not a usable name; expected letters, digits and underscores, up to {LONGEST_NAME} bytes"
        )
    return name


def _check_path(path: str) -> str:
    if not path or (any(not step for step in path.split(".")) and not path.startswith("/")):
        raise ValueError(f"{path!r} is not a path; expected `attributes.url`, or `/a.b/c` for keys with dots")
    if "\x00" in path:
        raise ValueError("the path holds a NUL character")
    return path


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Path = Annotated[str, AfterValidator(_check_path)]


class Column(BaseModel):
    """Where a column's value stands in an event; of several paths the first that has a fitting value wins."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Annotated[tuple[Path, ...], BeforeValidator(_as_list), Field(min_length=1)]
    type: Type = "VARCHAR"


def as_column(value: object) -> object:
    """`"attributes.url"` as the short form of `{path = "attributes.url"}`."""
    return {"path": value} if isinstance(value, str) else value


DEFAULT_COLUMNS = {
    "event_time": Column(path=("event_timestamp", "timestamp", "keen.timestamp"), type="TIMESTAMP"),
    "event_type": Column(path=("event_type",)),
}


def check_names(names: Iterable[str]) -> None:
    """Raise ValueError where two names differ in case only, or one is taken by the table itself."""
    seen: dict[str, str] = {one: one for one in RESERVED}
    for name in names:
        folded = check_name(name).casefold()
        if folded in seen:
            twin = seen[folded]
            why = "is a column that every table has" if twin in RESERVED else f"differs from {twin!r} in case only"
            raise ValueError(f"{name!r} {why}; expected another name")
        seen[folded] = name


def quoted(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def pointer(path: str) -> str:
    """A dotted path as a JSON pointer; one that starts with `/` is a pointer already."""
    if path.startswith("/"):
        return path
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in path.split("."))


def typed(text: str, type: Type) -> str:
    """SQL for the value of SQL expression `text` (JSON taken out as text) as `type`, NULL where it does not fit."""
    if type == "BIGINT":  # a bare cast would round 1.5 to 2
        return f"CASE WHEN regexp_full_match({text}, '-?[0-9]+') THEN TRY_CAST({text} AS BIGINT) END"
    if type == "DOUBLE":  # a bare cast would take 'nan' and 'inf'
        return f"CASE WHEN isfinite(TRY_CAST({text} AS DOUBLE)) THEN TRY_CAST({text} AS DOUBLE) END"
    if type == "BOOLEAN":  # a bare cast would take 't', 'yes', '1'
        return f"CASE {text} WHEN 'true' THEN true WHEN 'false' THEN false END"
    if type == "TIMESTAMP":
        return _timestamp(text)
    return text


def _timestamp(text: str) -> str:
    """Epoch milliseconds or ISO 8601, as UTC. A bare cast to TIMESTAMP would ignore the offset."""
    number = f"TRY_CAST({text} AS BIGINT)"
    return (
        f"CASE WHEN regexp_full_match({text}, '-?[0-9]+') THEN"
        f" CASE WHEN {number} BETWEEN {_FIRST_MS} AND {_LAST_MS} THEN epoch_ms({number}) END"
        f" WHEN regexp_matches({text}, '^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}')"
        f" THEN make_timestamp(epoch_us(TRY_CAST({text} AS TIMESTAMPTZ))) END"
    )


def insert_statement(table: str, columns: dict[str, Column]) -> str:
    """SQL that splits its 2nd parameter, NDJSON without the last newline, into rows of batch id (1st parameter)."""
    paths = list(dict.fromkeys(pointer(path) for column in columns.values() for path in column.path))
    place = {path: f"x[{number}]" for number, path in enumerate(paths, 1)}
    values = [
        "COALESCE(" + ", ".join(typed(place[pointer(path)], column.type) for path in column.path) + ")"
        for column in columns.values()
    ]
    wanted = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
    names = ", ".join([*map(quoted, columns), "event", "batch_id"])
    # One call takes all values out, so that an event is parsed once.
    source = "SELECT unnest(string_split(?, chr(10))) AS line"
    return (
        f"WITH batch AS (SELECT ? AS id) INSERT INTO {quoted(table)} ({names})"  # noqa: S608 - names are checked, paths quoted
        f" SELECT {', '.join([*values, 'line::JSON', '(SELECT id FROM batch)'])}"
        f" FROM (SELECT line, json_extract_string(line, [{wanted}]) AS x FROM ({source}))"
    )
