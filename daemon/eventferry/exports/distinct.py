"""The unique values of a property over some events."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from eventferry.exports.exact import Number, as_json
from eventferry.exports.shape import Shape
from eventferry.query.expression import Path

_MAX_BYTES = 64 * 1024 * 1024
_ORDER = {bool: 0, int: 1, float: 1, str: 2}


@dataclass(frozen=True, slots=True)
class Distinct:
    """Unique values as JSON texts: booleans, then numbers, then strings, each sorted."""

    values: tuple[str, ...]
    is_complete: bool  # False: there are more than were asked for

    def as_json(self) -> bytes:
        """The values as a JSON array."""
        return f"[{','.join(self.values)}]".encode()


def distinct(bodies: Iterable[bytes], path: Path, limit: int) -> Distinct:
    """The unique values at the path in canonical NDJSON, at most `limit`, those that were met first.

    Types are strict: 1, "1" and true are three values, while 1 and 1.0 are one, in the spelling met first. Of an array
    each scalar element is a value; null, objects and what is missing are none.
    """
    found: dict[tuple[int, Any], str] = {}
    shape, size = Shape([path]), 0
    for body in bodies:
        for _, (column,) in shape.batches(body):
            for value in column:
                for each in value if type(value) is list else (value,):
                    if each is None or type(each) in (dict, list):
                        continue
                    key = _key(each)
                    if key in found:
                        continue
                    size += 64 + (len(each) if isinstance(each, str) else 0)
                    if len(found) >= limit or size > _MAX_BYTES:
                        return _sorted(found, is_complete=False)
                    found[key] = as_json(each)
    return _sorted(found, is_complete=True)


def _key(value: Any) -> tuple[int, Any]:
    if type(value) is Number:
        value = float(value)
    return _ORDER[type(value)], value


def _sorted(found: dict[tuple[int, Any], str], *, is_complete: bool) -> Distinct:
    return Distinct(tuple(found[key] for key in sorted(found)), is_complete)
