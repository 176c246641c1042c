"""Compares the columns that are configured with those of the table that is there: what is added, written, left out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from eventferry.sink.columns import BATCH_ID, EVENT, Contract
from eventferry.sink.errors import SinkMisconfigured


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
    statement: Callable[[str, str], str],
) -> Fit:
    """How the table at `place` with the columns `there` (folded name → type) takes those that are `wanted`.

    `statement(name, type)` is the SQL that adds a column. Raises SinkMisconfigured where a type differs, where the
    contract is `freeze` and a column is missing, and where the raw event or the batch's id has no place.
    """
    added, discarded = {}, []
    for name, kind in wanted.items():
        present = there.get(name.casefold())
        if present is not None and present != kind:
            raise SinkMisconfigured(
                f"column {name!r} of {place} is {present}, but {kind} is configured; configure another name, or another"
                " table"
            )
        if present is not None:
            continue
        if contract == "evolve":
            added[name] = kind
        elif contract == "discard" and name not in (EVENT, BATCH_ID):
            discarded.append(name)
        else:
            raise SinkMisconfigured(
                f'{place} has no column {name!r}; add it, or set schema_contract = "evolve": {statement(name, kind)}'
            )
    written = tuple(name for name in wanted if name not in discarded and name not in (EVENT, BATCH_ID))
    return Fit(added, written, tuple(discarded))
