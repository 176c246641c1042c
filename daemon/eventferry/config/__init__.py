"""The configuration: read once, checked whole, immutable. Nothing is imported before it is asked for."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eventferry.config.alerts import AlertsConfig, ChannelConfig
    from eventferry.config.loading import load, load_text
    from eventferry.config.mistakes import ConfigMistakes, Mistake
    from eventferry.config.model import (
        Config,
        DeadLettersConfig,
        ExecutionConfig,
        LedgerConfig,
        LogConfig,
        ServiceConfig,
    )
    from eventferry.config.pull import ApiConfig, ExportsConfig, PullConfig, ScheduleConfig
    from eventferry.config.secrets import Redactor, redactor
    from eventferry.config.sink import BatchConfig, RetryConfig, SinkConfig
    from eventferry.config.source import SourceConfig
    from eventferry.config.stores import AzureOptions, GcsOptions, S3Options
    from eventferry.config.template import example_text, initial_text

_HOMES = {
    "alerts": ("AlertsConfig", "ChannelConfig"),
    "loading": ("load", "load_text"),
    "mistakes": ("ConfigMistakes", "Mistake"),
    "model": (
        "Config",
        "DeadLettersConfig",
        "ExecutionConfig",
        "LedgerConfig",
        "LogConfig",
        "ServiceConfig",
    ),
    "pull": ("ApiConfig", "ExportsConfig", "PullConfig", "ScheduleConfig"),
    "secrets": ("Redactor", "redactor"),
    "sink": ("BatchConfig", "RetryConfig", "SinkConfig"),
    "source": ("SourceConfig",),
    "stores": ("AzureOptions", "GcsOptions", "S3Options"),
    "template": ("example_text", "initial_text"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AlertsConfig",
    "ApiConfig",
    "AzureOptions",
    "BatchConfig",
    "ChannelConfig",
    "Config",
    "ConfigMistakes",
    "DeadLettersConfig",
    "ExecutionConfig",
    "ExportsConfig",
    "GcsOptions",
    "LedgerConfig",
    "LogConfig",
    "Mistake",
    "PullConfig",
    "Redactor",
    "RetryConfig",
    "S3Options",
    "ScheduleConfig",
    "ServiceConfig",
    "SinkConfig",
    "SourceConfig",
    "example_text",
    "initial_text",
    "load",
    "load_text",
    "redactor",
]


def __getattr__(name: str) -> Any:
    """Imports the module of a name on first use, so that secrets can be redacted without pydantic."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
