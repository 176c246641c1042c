"""What an error of an object store means, said once for whoever reads from it or writes to it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, TypeVar

from eventferry.errors import ConfigError, StoreError


class Kind(StrEnum):
    """What to do next."""

    UNREACHABLE = "unreachable"  # later; no connection was made, so nothing can have been taken
    LATER = "later"  # the same call may succeed; whether it took effect is not known
    PERSON = "person"  # credentials, rights, a name, a setting: somebody mends it
    GONE = "gone"  # the object is not there; its bucket is
    CONFLICT = "conflict"  # a condition on the object's version did not hold


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """An error in the operator's words: the action, the store's code, the remedy; none of the server's own text."""

    kind: Kind
    text: str

    def error(self) -> StoreError:
        """As stores raise it."""
        return StoreError(self.text)


Remedies = Mapping[str, str]  # by the store's code or the error's class
OptionsT = TypeVar("OptionsT")


def read_options(cls: type[OptionsT], what: str, options: tuple[tuple[str, object], ...]) -> OptionsT:
    """The options dataclass of these pairs; their types were checked where the configuration is read.

    Raises ConfigError for a key that `cls` does not know; `what` names it: "an s3 store".
    """
    known = {option.name for option in fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(name for name, _ in options if name not in known)
    if unknown:
        raise ConfigError(f"unknown options of {what}: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    values: dict[str, Any] = dict(options)
    return cls(**values)


def remedy_of_class(error: BaseException, remedies: Remedies) -> tuple[str, str] | None:
    """The name of the nearest class of the error, or of what caused it, that has a remedy, and the remedy."""
    seen: BaseException | None = error
    while seen is not None:
        for name in (cls.__name__ for cls in type(seen).__mro__):
            if name in remedies:
                return name, remedies[name]
        seen = seen.__cause__ or seen.__context__
    return None
