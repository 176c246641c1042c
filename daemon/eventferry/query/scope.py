"""Whose events: tenants, projects and collections, as keys are limited to and requests ask for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Names = tuple[str, ...] | None  # None: all of them

DEFAULT = "default"  # the tenant and the project of events whose source knows none


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose one event is. Its collection is the source's name where nothing else says it."""

    tenant: str
    project: str
    collection: str


@dataclass(frozen=True, slots=True)
class Scope:
    """A selection of owners: those whose tenant, project and collection are each among the names, or unlimited."""

    tenants: Names = None
    projects: Names = None
    collections: Names = None

    def takes(self, owner: Owner) -> bool:
        """Whether events of this owner belong to the scope."""
        return (
            (self.tenants is None or owner.tenant in self.tenants)
            and (self.projects is None or owner.project in self.projects)
            and (self.collections is None or owner.collection in self.collections)
        )

    def narrowed(self, other: "Scope") -> "Scope":
        """What both take; a name list may become empty, which takes nothing."""
        return Scope(
            _both(self.tenants, other.tenants),
            _both(self.projects, other.projects),
            _both(self.collections, other.collections),
        )

    def covers(self, other: "Scope") -> bool:
        """Whether everything that `other` takes is taken here."""
        return self.narrowed(other) == other

    @property
    def is_all(self) -> bool:
        """Whether it limits nothing."""
        return self == ALL

    def to_data(self) -> dict[str, Any]:
        """For JSON; the inverse of from_data."""
        return {"tenants": self.tenants, "projects": self.projects, "collections": self.collections}

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> "Scope":
        """The inverse of to_data."""
        return Scope(*(None if (names := data[key]) is None else tuple(names) for key in _KEYS))


ALL = Scope()

_KEYS = ("tenants", "projects", "collections")


def _both(one: Names, other: Names) -> Names:
    if one is None or other is None:
        return other if one is None else one
    return tuple(sorted(set(one) & set(other)))
