"""What Gooee's dialect takes: its forms, and what is wrong with one in the words of its fields."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from eventferry.api.problems import Mistake, Problem

MAX_NAME = 100
MAX_TAG = 50
MAX_NOTES = 5000
MAX_ITEMS = 1000

# Clients send back what they were shown: these are passed over, as Django's serializers do. Others are refused.
READ_ONLY = (
    "id",
    "created",
    "modified",
    "created_by",
    "status",
    "errors",
    "number_of_rows",
    "total_bytes",
    "url",
)
_SAYS = {
    "missing": "This field is required.",
    "extra_forbidden": "This field is not known.",
    "string_type": "Not a valid string.",
    "string_unicode": "Not a valid string.",
    "list_type": "Expected a list of items.",
    "dict_type": "Expected an object.",
    "string_too_short": "This field may not be blank.",
    "string_too_long": "Ensure this field has no more than {max_length} characters.",
    "too_long": "Ensure this field has no more than {max_length} elements.",
}


def _check_null(text: str) -> str:
    if "\0" in text:
        raise ValueError("Null characters are not allowed.")
    return text


_NO_NULL = AfterValidator(_check_null)  # after the constraints: what follows it would judge lists, too

Ref = Annotated[str, StringConstraints(min_length=1, max_length=200), _NO_NULL]
Refs = Annotated[list[Ref], Field(max_length=MAX_ITEMS)]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TAG), _NO_NULL]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_NAME), _NO_NULL]
Notes = Annotated[str, StringConstraints(max_length=MAX_NOTES), _NO_NULL]


class Form(BaseModel):
    """Nothing is converted: 1 is not "1"."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: Name
    notes: Notes = ""
    tags: Annotated[list[Tag], Field(max_length=MAX_ITEMS)] = Field(default_factory=list)


class ExportForm(Form):
    """An export as it is asked for. The scopes are kept and shown; they select nothing."""

    query: Ref = Field(description="The id of a saved query.")
    customer_scopes: Refs = Field(default_factory=list)
    partner_scopes: Refs = Field(default_factory=list)


class QueryForm(Form):
    """A query as it is saved, in the forms of the native API."""

    filter: list[Any] | dict[str, Any] = Field(default_factory=list)
    timeframe: str | dict[str, Any] | None = None
    timezone: Ref | None = None
    fields: Annotated[list[Ref], Field(max_length=MAX_ITEMS)] = Field(default_factory=list)


FormT = TypeVar("FormT", bound=Form)


def read_form(kind: type[FormT], data: object) -> FormT:
    """The form that the body holds. Raises Problem with every field that is wrong."""
    if not isinstance(data, Mapping):
        raise field_problem("non_field_errors", "Invalid data. Expected an object.")
    try:
        return kind.model_validate({name: value for name, value in data.items() if name not in READ_ONLY})
    except ValidationError as error:
        mistakes = [Mistake(_place(each["loc"]), _sentence(each)) for each in error.errors()[:20]]
        raise Problem(400, "invalid", "the body is not valid", mistakes=mistakes) from None


def field_problem(field: str, sentence: str) -> Problem:
    """One field that is wrong."""
    return Problem(400, "invalid", sentence, mistakes=[Mistake(field, sentence)])


def by_field(problem: Problem) -> dict[str, list[str]]:
    """Field → what is wrong with it."""
    found: dict[str, list[str]] = {}
    for each in problem.mistakes:
        place = each.where.removeprefix("body").removeprefix("query.").lstrip(".")
        field, bracket, rest = place.partition("[")
        field, dot, below = field.partition(".")
        inside = f"{bracket}{rest}" if bracket else f"{dot}{below}"
        says = f"{inside}: {each.problem}" if inside else each.problem
        found.setdefault(field or "non_field_errors", []).append(says)
    return found


def _place(steps: tuple[int | str, ...]) -> str:
    return str(steps[0]) + "".join(f"[{step}]" for step in steps[1:] if isinstance(step, int))


def _sentence(detail: Mapping[str, Any]) -> str:
    if detail.get("input") is None and detail["type"] != "missing":
        return "This field may not be null."
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    says = _SAYS.get(detail["type"], str(detail["msg"]))
    return says.format(**detail.get("ctx", {}))
