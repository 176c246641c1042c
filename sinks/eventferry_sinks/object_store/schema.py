"""The columns that files below a prefix may have, as `_schema.json` there says, and what is done about others."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from eventferry.sink import SinkMisconfigured
from eventferry.sink.columns import Column, Contract
from eventferry.sink.objects import Bucket

SCHEMA = "_schema.json"


@dataclass(frozen=True, slots=True)
class Agreed:
    """The columns that are written, and those that are configured but left out."""

    written: Mapping[str, Column]
    left_out: tuple[str, ...] = ()


def agree(bucket: Bucket, columns: Mapping[str, Column], contract: Contract, *, write: bool = True) -> Agreed:
    """What may be written. `evolve` adds what is new to the schema, and all contracts begin one where there is none.

    With `write=False` nothing is written. Raises SinkMisconfigured where a type differs, or a column is new and frozen.
    """
    configured = {name: column.type for name, column in columns.items()}
    there = _read(bucket)
    if there is None:
        if not write or bucket.put_new(SCHEMA, _text(configured)):
            return Agreed(columns)
        there = _read(bucket) or {}
    place = f"{bucket.root}/{SCHEMA}"
    known = {name.casefold(): (name, type) for name, type in there.items()}
    for name, column in columns.items():
        as_known = known.get(name.casefold(), (name, column.type))
        if as_known != (name, column.type):
            raise SinkMisconfigured(
                f"{place} says that column {as_known[0]!r} is {as_known[1]}, but {name!r} of type {column.type} is"
                " configured; configure another name or type, or another url"
            )
    new = {name: type for name, type in configured.items() if name not in there}
    if new and contract == "freeze":
        raise SinkMisconfigured(
            f"{place} lacks the configured columns {', '.join(new)}; add {json.dumps(new)} to its columns, or set"
            ' schema_contract = "evolve"'
        )
    if new and contract == "discard":
        return Agreed({name: column for name, column in columns.items() if name not in new}, tuple(new))
    if new and write:
        bucket.put(SCHEMA, _text({**there, **new}))
    return Agreed(columns)


def _text(columns: Mapping[str, str]) -> bytes:
    return json.dumps({"columns": columns}, indent=2).encode() + b"\n"


def _read(bucket: Bucket) -> dict[str, str] | None:
    text = bucket.get(SCHEMA)
    if text is None:
        return None
    try:
        return {str(name): str(type) for name, type in json.loads(text)["columns"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SinkMisconfigured(
            f'{bucket.root}/{SCHEMA} is not what eventferry writes there; expected {{"columns": {{"name": "type"}}}},'
            " or remove it"
        ) from None
