"""Makes pyiceberg's catalog from the sink's own options alone; pyiceberg would mix its file and its environment in."""

import importlib
from collections.abc import Mapping
from typing import Any

from eventferry.sink import SinkMisconfigured
from eventferry.sink.libraries import load

_WITH_URI = ("rest", "hive", "sql")


def open_catalog(properties: Mapping[str, str], seconds: float) -> Any:
    """The catalog of these properties, whose REST requests wait `seconds` at most for a byte.

    Raises SinkMisconfigured without a known type, class or address, and what the catalog raises.
    """
    catalogs: Any = load("pyiceberg.catalog", "eventferry[iceberg]")
    given = dict(properties)
    name = given.pop("name", "default")  # as pyiceberg itself takes it; SQL catalogs keep tables by it
    if own := given.get("py-catalog-impl"):
        return _class_of(own, given)(name, **given)
    kind = _kind_of(catalogs, name, given)
    if kind.value == "rest":
        from eventferry_sinks.iceberg.rest import SECONDS, BoundedCatalog

        return BoundedCatalog(name, **given, **{SECONDS: f"{seconds:g}"})
    return catalogs.AVAILABLE_CATALOGS[kind](name, given)


def _kind_of(catalogs: Any, name: str, given: dict[str, str]) -> Any:
    """The catalog's type: as written, else as pyiceberg infers it from the address."""
    known = [each.value for each in catalogs.CatalogType]
    type = given.get("type", "").lower()
    if "type" in given and type not in known:
        raise SinkMisconfigured(f"`catalog` has the type {given['type']!r}; expected one of {', '.join(known)}")
    if (not type or type in _WITH_URI) and not given.get("uri"):
        raise SinkMisconfigured("`catalog` has no uri; set where the catalog is")
    try:
        return catalogs.CatalogType(type) if type else catalogs.infer_catalog_type(name, given)
    except ValueError:  # its text quotes the uri, which may hold a password
        raise SinkMisconfigured(f"`catalog` has a uri of no known kind; set type: {', '.join(known)}") from None


def _class_of(path: str, given: Mapping[str, str]) -> Any:
    """The class of somebody else's catalog."""
    if "type" in given:
        raise SinkMisconfigured("`catalog` has both type and py-catalog-impl; expected one of them")
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise SinkMisconfigured(
            f"`catalog` has py-catalog-impl {path!r}, which cannot be imported; expected module.Class of a package"
            " that is installed here"
        ) from None
