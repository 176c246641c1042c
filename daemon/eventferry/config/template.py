"""The configuration files that the product ships: the initial one, and the example with every option."""

from importlib import resources
from pathlib import Path


def initial_text() -> str:
    """The working file that `eventferry init` writes."""
    return resources.files("eventferry.config").joinpath("initial.toml").read_text(encoding="utf-8")


def example_text() -> str:
    """Every option with its default; begins with the initial file. In a checkout it lies at the top."""
    packaged = resources.files("eventferry.config").joinpath("example.toml")
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    return Path(__file__).parents[3].joinpath("config.example.toml").read_text(encoding="utf-8")
