"""Imports the part of smart_open that reads from one provider, without the client libraries of the others.

By itself smart_open imports the library of every provider that is installed: half a second and 35 MB in every process.
"""

import importlib
import sys
import threading
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from typing import Any

from eventferry.clients.once import made_once

_LIBRARIES = {"s3": "boto3", "gcs": "google", "azure": "azure", "ssh": "paramiko"}


@made_once
def transport(name: str) -> Any:
    """The module `smart_open.<name>`, for who holds a client of that provider already."""
    others = _Hidden(frozenset(library for each, library in _LIBRARIES.items() if each != name))
    sys.meta_path.insert(0, others)
    try:
        module = importlib.import_module(f"smart_open.{name}")
        if hasattr(module, "MISSING_DEPS"):  # it was imported, with its library hidden, when another one was asked for
            del sys.modules[module.__name__]
            module = importlib.import_module(module.__name__)
    finally:
        sys.meta_path.remove(others)
    return module


class _Hidden(MetaPathFinder):
    """Says to the thread that made it, and to no other, that some libraries are not installed."""

    def __init__(self, libraries: frozenset[str]) -> None:
        self._libraries = libraries
        self._thread = threading.get_ident()

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> None:
        """None, so that the next finder looks. Raises ModuleNotFoundError for what is hidden."""
        if threading.get_ident() == self._thread and name.partition(".")[0] in self._libraries:
            raise ModuleNotFoundError(f"{name} is not needed here", name=name)
