"""The columns of a table of events, and what each can hold without loss."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eventferry.exports.model import Output
from eventferry.exports.survey import Property, Survey
from eventferry.query.expression import Path, join_path

WHOLE_EVENT: Path = ()  # the column of an event that has no properties


@dataclass(frozen=True, slots=True)
class Column:
    """One column: the values at a path.

    The type is string, int64, double, bool, a list<…> of one of them, or json: text that parses back to the value.
    """

    path: Path
    type: str = "string"

    @property
    def name(self) -> str:
        """The dotted path; `event` for the whole event."""
        return join_path(self.path) if self.path else "event"

    def to_data(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": self.name, "type": self.type}


def needs_survey(output: Output) -> bool:
    """Whether the columns are known only after a look at all selected events."""
    return output.format == "parquet" or (output.format == "csv" and not output.fields)


def columns_of(output: Output, survey: Survey | None = None) -> tuple[Column, ...]:
    """The columns of the output's files; none for formats without. `survey` is of all selected events."""
    fields = tuple(dict.fromkeys(output.fields))
    if output.format == "csv":
        found = tuple(map(Column, fields or (survey.columns() if survey else ())))
        is_bare = not found and survey is not None and survey.events > 0  # a row without a cell is none to most readers
        return (Column(WHOLE_EVENT, "json"),) if is_bare else found
    if output.format != "parquet":
        return ()
    survey = survey or Survey()
    if fields:
        return tuple(Column(path, _type_of(survey.properties.get(path, Property()))) for path in fields)
    return tuple(_typed(survey)) or (Column(WHOLE_EVENT, "json"),)


def _typed(survey: Survey) -> Sequence[Column]:
    """A column for each property; what lies below one with values of several types is part of its JSON text."""
    mixed = {path for path, each in survey.properties.items() if each.has_values and "object" in each.kinds}
    return [
        Column(path, _type_of(survey.properties[path]))
        for path in survey.columns()
        if not any(path[:length] in mixed for length in range(len(path)))
    ]


def _type_of(found: Property) -> str:
    kinds = found.kinds.keys() - {"null"}
    if kinds == {"array"}:
        inner = _scalar_type(found.items)
        return "json" if inner == "json" else f"list<{inner}>"
    return _scalar_type(found.kinds)


def _scalar_type(kinds: Counter[str]) -> str:
    """What holds all of these without loss; a double takes the numbers with a fraction, as JSON's readers do."""
    some = kinds.keys() - {"null"}
    if some <= {"string"}:
        return "string"
    if some <= {"boolean"}:
        return "bool"
    if some <= {"integer", "long"}:
        return "int64"
    return "double" if some <= {"integer", "number"} else "json"
