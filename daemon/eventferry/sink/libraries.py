"""Loads the client libraries of sink types when a sink is opened, and says what installs them."""

import importlib
from typing import Any

from eventferry.installing import command
from eventferry.sink.errors import SinkMisconfigured


def load(module: str, requirement: str) -> Any:
    """The module. Raises SinkMisconfigured with the command that installs it: `requirement` is what pip takes."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SinkMisconfigured(f"the library is not installed; run: {command(requirement)}") from error
