"""Compares the columns that are configured with those of the table that is there, and counts what became of them."""

import operator
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from eventferry.sink.base import Sink
from eventferry.sink.columns import EVENT, RESERVED, Contract
from eventferry.sink.errors import SinkMisconfigured
from eventferry.sink.rows import Rows


@dataclass(frozen=True, slots=True)
class Fit:
    """How a table takes the configured columns; each by its name, with its type there."""

    added: Mapping[str, str]  # to be added before the first event
    written: tuple[str, ...]  # of the configured ones, in their order
    discarded: tuple[str, ...]  # left out


def fit_columns(
    wanted: Mapping[str, str],
    there: Mapping[str, str],
    contract: Contract,
    place: str,
    statement: Callable[[Mapping[str, str]], str],
    *,
    needed: Iterable[str] = (),
    is_fit: Callable[[str, str], bool] = operator.eq,
    event_as: Mapping[str, str] | None = None,
) -> Fit:
    """How the table at `place` with the columns `there` (folded name → type) takes those that are `wanted`.

    `statement(columns)` is the SQL that adds columns; `needed` are columns that are never left out, beside the raw
    event and the batch's id; `is_fit(present, wanted)` says whether a type will do; `event_as` gives the option of that
    name for a type that the event's column has, without what stands in brackets. Raises SinkMisconfigured where a type
    does not fit, where the contract is `freeze` and a column is missing, and where one that is needed has no place.
    """
    lacking: dict[str, str] = {}
    for name, kind in wanted.items():
        present = there.get(name.casefold())
        if present is None:
            lacking[name] = kind
        elif not is_fit(present, kind):
            raise _other_type(name, present, kind, place, event_as or {})
    if contract == "evolve":
        return Fit(lacking, tuple(name for name in wanted if name not in RESERVED), ())
    kept = {*RESERVED, *needed}
    if refused := {name: kind for name, kind in lacking.items() if contract == "freeze" or name in kept}:
        listed = ("the column " if len(refused) == 1 else "the columns ") + ", ".join(map(repr, refused))
        raise SinkMisconfigured(
            f'{place} lacks {listed}, and schema_contract is {contract!r}; set schema_contract = "evolve", or run:'
            f" {statement(refused)}"
        )
    return Fit({}, tuple(name for name in wanted if name not in (*lacking, *RESERVED)), tuple(lacking))


def _other_type(name: str, present: str, wanted: str, place: str, event_as: Mapping[str, str]) -> SinkMisconfigured:
    other = event_as.get(present.partition("(")[0]) if name == EVENT else None
    remedy = f'set event_as = "{other}"' if other else "configure another name or type for it"
    return SinkMisconfigured(
        f"column {name!r} of {place} is {present}, but {wanted} is configured; {remedy}, or another table"
    )


def no_table(table: str, statement: str) -> SinkMisconfigured:
    """The error where the table is missing and may not be created; `statement` is the SQL that does it."""
    return SinkMisconfigured(f"there is no table {table}; set create = true, or run: {statement}")


def count_columns(
    sink: Sink[Any],
    misfitted: Mapping[str, int],
    discarded: Mapping[str, int] | None = None,
    added: Iterable[str] = (),
) -> None:
    """Count what a delivery that was taken has found not to fit, left out, or added; each by its column."""
    for what, numbers in (
        ("values.misfitted", misfitted),
        ("values.discarded", discarded or {}),
        ("columns.added", dict.fromkeys(added, 1)),
    ):
        for name, number in numbers.items():
            if number:
                sink.count(what, name, number)


def values_in(rows: Rows, columns: Iterable[str], some: Collection[str]) -> Counter[str]:
    """How many values `rows` of `columns` have in each of `some` of them."""
    pairs = zip(columns, rows.values, strict=True)
    return Counter({name: len(values) - values.count(None) for name, values in pairs if name in some})
