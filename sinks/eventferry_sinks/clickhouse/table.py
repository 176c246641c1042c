"""What stands at the other side: the server's version, the table's columns, and whether the table drops repeats."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from eventferry.sink.columns import BATCH_ID, EVENT, Column, Type
from eventferry_sinks.clickhouse.server import Server

WINDOW = 10_000  # inserts that a table made by eventferry remembers

_ACCEPTED: dict[Type, str] = {
    "text": r"String",
    "json": r"String",
    "integer": r"Int(64|128|256)",
    "number": r"Float64",
    "boolean": r"Bool|U?Int8",
    "timestamp": r"DateTime64\(\d(, '[^']*')?\)|DateTime(\('[^']*'\))?",
}
_WRAPPED = re.compile(r"(?:Nullable|LowCardinality)\((.*)\)")
# What an insert is sent with, where the server knows it. Whatever a profile says: an insert is one block, under one
# token, done when the answer comes, and no event is passed over in silence.
_SETTINGS: dict[str, object] = {
    "async_insert": 0,
    "insert_deduplicate": 1,
    "deduplicate_insert": "enable",
    "date_time_input_format": "best_effort",
    "input_format_allow_errors_num": 0,
    "input_format_allow_errors_ratio": 0,
    "min_insert_block_size_bytes": 0,
    "max_insert_block_size_bytes": 0,
    "insert_distributed_sync": 1,
    "distributed_foreground_insert": 1,
}
_BLOCK = ("max_insert_block_size", "min_insert_block_size_rows")
TOKEN = "insert_deduplication_token"  # noqa: S105 - the name of a setting
RESERVED = frozenset({*_SETTINGS, *_BLOCK, TOKEN, "query_id", "query", "wait_end_of_query", "database", "user"})


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a server can do."""

    version: str
    settings: frozenset[str]  # of those that an insert would like to have, the known ones

    @property
    def number(self) -> tuple[int, ...]:
        return tuple(int(step) for step in re.findall(r"\d+", self.version)[:2])

    def types(self) -> dict[Type, str]:
        """The type that a new column gets."""
        return {
            "text": "Nullable(String)",
            "json": "Nullable(String)",
            "integer": "Nullable(Int64)",
            "number": "Nullable(Float64)",
            "boolean": "Nullable(Bool)" if self.number >= (22, 1) else "Nullable(UInt8)",
            "timestamp": "Nullable(DateTime64(6, 'UTC'))" if self.number >= (20, 5) else "Nullable(DateTime('UTC'))",
        }

    def columns(self, columns: Mapping[str, Column]) -> dict[str, str]:
        """Every column that the table should have, with the type of a new one."""
        types = self.types()
        return {name: types[column.type] for name, column in columns.items()} | {EVENT: "String", BATCH_ID: "String"}

    def insert_settings(self, batch_id: str, events: int) -> dict[str, object]:
        """The settings of an insert of so many events: one block, whatever their number."""
        block = max(events, 1_048_576)
        wanted = _SETTINGS | dict.fromkeys(_BLOCK, block) | {TOKEN: batch_id}
        return {name: value for name, value in wanted.items() if name in self.settings}


@dataclass(frozen=True, slots=True)
class Table:
    """A table that is there."""

    columns: Mapping[str, str]  # name → type
    engine: str
    window: int  # inserts among which it drops a repeat; 0: none

    @property
    def is_replicated(self) -> bool:
        return self.engine.startswith(("Replicated", "Shared"))

    @property
    def is_alone(self) -> bool:
        """Whether what it lacks is nowhere else: no replica, no shard, nothing that passes events on."""
        return self.engine.endswith("MergeTree") and not self.is_replicated


def abilities_of(server: Server) -> Abilities:
    """Raises SinkErrors, also where this is no ClickHouse."""
    ((version,),) = server.select("SELECT version()")
    names = ", ".join(f"'{name}'" for name in [*_SETTINGS, *_BLOCK, TOKEN])
    known = server.select(f"SELECT name FROM system.settings WHERE name IN ({names})")  # noqa: S608 - constants
    return Abilities(str(version), frozenset(name for (name,) in known))


def table_of(server: Server, database: str, table: str, abilities: Abilities) -> Table | None:
    """The table as it stands; None where it is not there, or not for this user."""
    # The names are letters, digits and underscores: nothing in them ends a text.
    place = f"database = '{database}' AND {{}} = '{table}'"
    found = server.select(f"SELECT engine, engine_full FROM system.tables WHERE {place.format('name')}")  # noqa: S608
    if not found:
        return None
    columns = server.select(f"SELECT name, type FROM system.columns WHERE {place.format('table')}")  # noqa: S608
    engine, full = found[0]
    window = _window(server, engine, full) if TOKEN in abilities.settings else 0
    return Table(dict(map(tuple, columns)), engine, window)


def _window(server: Server, engine: str, full: str) -> int:
    if not engine.endswith("MergeTree"):
        return 0
    kind = "replicated" if engine.startswith(("Replicated", "Shared")) else "non_replicated"
    name = f"{kind}_deduplication_window"
    own = re.search(rf"(?<!\w){name} = (\d+)", full.rpartition(" SETTINGS ")[2])
    if own:
        return int(own[1])
    rows = server.select_if_allowed(f"SELECT value FROM system.merge_tree_settings WHERE name = '{name}'")  # noqa: S608
    if rows is None:  # not for this user: what ClickHouse is shipped with, at the least
        return 100 if kind == "replicated" else 0
    return int(rows[0][0]) if rows else 0


def bare(type: str) -> str:
    """`LowCardinality(Nullable(String))` without what stands around `String`."""
    while found := _WRAPPED.fullmatch(type):
        type = found[1]
    return type


def takes(type: str, wanted: Type) -> bool:
    """Whether a column of `type` holds every value of a configured one, but for moments beyond its span."""
    return re.fullmatch(_ACCEPTED[wanted], bare(type)) is not None


def quoted(name: str) -> str:
    """`name` as an identifier."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def create_statement(place: str, columns: Mapping[str, str], engine: str, abilities: Abilities) -> str:
    """Makes the table: sorted by event_time, with an index on batch_id, and a window where the engine needs one."""
    lines = [f"{quoted(name)} {type}" for name, type in columns.items()]
    if abilities.number < (20, 5):
        return f"CREATE TABLE IF NOT EXISTS {place} ({', '.join(lines)}) ENGINE = {engine} ORDER BY tuple()"
    lines.append(f"INDEX by_batch_id {quoted(BATCH_ID)} TYPE bloom_filter GRANULARITY 1")
    settings = ["allow_nullable_key = 1"]
    if engine.startswith("MergeTree") and TOKEN in abilities.settings:
        settings.append(f"non_replicated_deduplication_window = {WINDOW}")
    return (
        f"CREATE TABLE IF NOT EXISTS {place} ({', '.join(lines)})"
        f" ENGINE = {engine} ORDER BY {quoted('event_time')} SETTINGS {', '.join(settings)}"
    )


def add_statement(place: str, added: Mapping[str, str], abilities: Abilities) -> str:
    """Adds columns to the table."""
    # Another instance may have been faster; old servers lack the words, and refuse the second one.
    step = "ADD COLUMN IF NOT EXISTS" if abilities.number >= (20, 5) else "ADD COLUMN"
    return f"ALTER TABLE {place} " + ", ".join(f"{step} {quoted(name)} {type}" for name, type in added.items())
