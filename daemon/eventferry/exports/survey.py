"""Which properties some events have, of which JSON types, how often: what columns and schemas are made of."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from eventferry.errors import EventferryError
from eventferry.query.expression import Path, join_path

MAX_PROPERTIES = 10_000

# Kinds of values, with the JSON type of each. Numbers are told apart by what holds them without loss.
TYPES = {
    "string": "string",
    "integer": "integer",  # also a double
    "long": "integer",  # within 64 bits
    "huge": "integer",
    "number": "number",
    "vast": "number",  # beyond a double
    "boolean": "boolean",
    "null": "null",
    "array": "array",
    "object": "object",
}


class TooManyProperties(EventferryError):
    """The events have more different properties than a table can have columns."""

    def __init__(self) -> None:
        super().__init__(
            f"the events have more than {MAX_PROPERTIES:,} different properties, which are too many for columns; "
            "name the fields that are wanted, or export NDJSON"
        )


@dataclass(slots=True)
class Property:
    """How often each kind of value occurs at one path, and each kind of element in the arrays there."""

    kinds: Counter[str] = field(default_factory=Counter)
    items: Counter[str] = field(default_factory=Counter)

    @property
    def types(self) -> dict[str, int]:
        """JSON type → number of events with it, the most frequent first."""
        found: Counter[str] = Counter()
        for kind, count in self.kinds.items():
            found[TYPES[kind]] += count
        return dict(sorted(found.items(), key=lambda each: (-each[1], each[0])))

    @property
    def has_values(self) -> bool:
        """Whether something other than objects (which have properties of their own) occurs; null alone counts."""
        return "object" not in self.kinds or bool(self.kinds.keys() - {"object", "null"})


@dataclass(slots=True)
class Survey:
    """What is known of some events: their number and their properties, those of nested objects by their paths."""

    events: int = 0
    properties: dict[Path, Property] = field(default_factory=dict)

    def at(self, path: Path) -> Property:
        """The property at the path, new where none is known. Raises TooManyProperties."""
        found = self.properties.get(path)
        if found is None:
            if len(self.properties) >= MAX_PROPERTIES:
                raise TooManyProperties
            found = self.properties[path] = Property()
        return found

    def merge(self, other: "Survey") -> None:
        """Take in what is known of other events. Raises TooManyProperties."""
        self.events += other.events
        for path, theirs in other.properties.items():
            mine = self.at(path)
            mine.kinds.update(theirs.kinds)
            mine.items.update(theirs.items)

    def columns(self) -> list[Path]:
        """The paths at which values lie, sorted by their text: the columns of a table without types."""
        return sorted((path for path, each in self.properties.items() if each.has_values), key=join_path)

    def rows(self) -> Iterator[tuple[str, dict[str, int]]]:
        """(dotted path, JSON type → events) of each property, sorted."""
        for path in sorted(self.properties, key=join_path):
            yield join_path(path), self.properties[path].types

    def to_data(self) -> dict[str, Any]:
        """For JSON; surveys of the same events give equal data."""
        return {
            "events": self.events,
            "properties": [
                [list(path), dict(sorted(each.kinds.items())), dict(sorted(each.items.items()))]
                for path, each in sorted(self.properties.items())
            ],
        }

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> "Survey":
        """The inverse of to_data."""
        return Survey(
            data["events"],
            {tuple(path): Property(Counter(kinds), Counter(items)) for path, kinds, items in data["properties"]},
        )
