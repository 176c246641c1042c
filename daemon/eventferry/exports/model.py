"""What an export is made of: which events, and in which form."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from eventferry.query.expression import And, During, Expression, Path, as_data, from_data
from eventferry.query.scope import ALL, Scope

Format = Literal["csv", "ndjson", "json", "parquet"]
Compression = Literal["none", "gzip", "zstd"]

STATES = ("queued", "running", "complete", "failed", "cancelled", "expired")
ENDED = ("complete", "failed", "cancelled", "expired")

PART_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events: whose, satisfying what, from when (inclusive) to when (exclusive), epoch ms.

    Without start and end events without a usable time are selected, too.
    """

    scope: Scope = ALL
    filter: Expression | None = None
    start_ms: int | None = None
    end_ms: int | None = None

    @property
    def expression(self) -> Expression | None:
        """Filter and time range as one expression; None where every event satisfies it."""
        terms: list[Expression] = [] if self.filter is None else [self.filter]
        if self.start_ms is not None or self.end_ms is not None:
            terms.append(During(self.start_ms, self.end_ms))
        if not terms:
            return None
        return terms[0] if len(terms) == 1 else And(tuple(terms))

    def to_data(self) -> dict[str, Any]:
        """For JSON; equal selections give equal data."""
        return {
            "scope": self.scope.to_data(),
            "filter": None if self.filter is None else as_data(self.filter),
            "start_ms": self.start_ms,
            "end_ms": self.end_ms,
        }

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> "Selection":
        """The inverse of to_data."""
        filter_ = data["filter"]
        return Selection(
            Scope.from_data(data["scope"]),
            None if filter_ is None else from_data(filter_),
            data["start_ms"],
            data["end_ms"],
        )


@dataclass(frozen=True, slots=True)
class Output:
    """In which form. `part_bytes` bounds each file before compression; None: one file, whatever its size."""

    format: Format = "ndjson"
    compression: Compression = "none"
    part_bytes: int | None = PART_BYTES
    formula_guard: bool = False  # CSV: cells that a spreadsheet would run as formulas get a leading '
    fields: tuple[Path, ...] = ()  # only these, in this order; empty: all that occur
    latest: int | None = None  # only the newest N by time, newest last
    max_events: int | None = None  # an export that meets more fails and says so

    def to_data(self) -> dict[str, Any]:
        """For JSON; the inverse of from_data."""
        return {**asdict(self), "fields": [list(path) for path in self.fields]}

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> "Output":
        """The inverse of to_data."""
        return Output(**{**data, "fields": tuple(tuple(path) for path in data["fields"])})
