"""The documented systems whose HTTP surface is spoken here; each module has a `SURFACE`."""

from collections.abc import Iterable
from importlib import import_module

from eventferry.api.surface import Surface

# [api] dialects switches them; a module is loaded only when its dialect is on.
DIALECTS = {name: f"eventferry.api.dialects.{name}" for name in ("altis", "gooee", "connect", "keen", "ombori")}


def load_surfaces(names: Iterable[str]) -> list[Surface]:
    """The surfaces of these dialects."""
    return [import_module(DIALECTS[name]).SURFACE for name in names]
