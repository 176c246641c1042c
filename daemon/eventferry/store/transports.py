"""Imports the part of smart_open that reads from one provider, without the client libraries of the others.

By itself smart_open imports the library of every provider that is installed: half a second and 35 MB in every process.
"""

import importlib
import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

_SCHEMES = {"azure": ("azure",), "gcs": ("gcs", "gs"), "s3": ("s3", "s3n", "s3a"), "ssh": ("ssh", "scp", "sftp")}
_lock = threading.Lock()  # two parts imported by two threads at the same moment would wait for each other


def transport(name: str) -> Any:
    """The module `smart_open.<name>`. Raises ImportError where the provider's library is missing."""
    with _lock:
        if "smart_open" not in sys.modules:
            _import_alone()
        importlib.import_module("smart_open")  # somebody else may be at it: their import ends first
        module = importlib.import_module(f"smart_open.{name}")
    if getattr(module, "MISSING_DEPS", False):
        raise ImportError(f"smart_open.{name} needs the client library of its provider")
    return module


def _import_alone() -> None:
    """smart_open itself; for the providers stand-ins are registered, which import theirs when they are used."""
    hidden = [f"smart_open.{name}" for name in _SCHEMES]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: an import of it fails
    try:
        from smart_open.transport import register_transport
    finally:
        for name in hidden:
            del sys.modules[name]
    for name in _SCHEMES:
        register_transport(_stand_in(name))


def _stand_in(name: str) -> Any:
    def late(function: str) -> Callable[..., Any]:
        return lambda *given, **named: getattr(transport(name), function)(*given, **named)

    functions = {each: late(each) for each in ("open", "open_uri", "parse_uri")}
    return SimpleNamespace(__name__=name, SCHEMES=_SCHEMES[name], **functions)
