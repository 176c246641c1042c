"""The whole configuration as immutable objects; what is not a table of its own elsewhere."""

import datetime as dt
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, field_validator

from eventferry.config.alerts import AlertsConfig, Level
from eventferry.config.fields import AbsolutePath, Flag, OptionalText, Size, Span, Table
from eventferry.config.locate import KeyPath, Locator
from eventferry.config.mistakes import place
from eventferry.config.pull import ApiConfig, ExportsConfig, PullConfig
from eventferry.config.show import as_toml, differences, digest_of, masked
from eventferry.config.sink import SinkConfig
from eventferry.config.source import SourceConfig
from eventferry.config.stores import SCHEMES, table_of


def half_the_cores() -> int:
    """The default number of indexing processes: half the cores this process may use, at least one."""
    return max(1, len(os.sched_getaffinity(0)) // 2)


class LedgerConfig(Table):
    """Where the ledger is and how long it remembers."""

    url: OptionalText = None  # None: ledger.db in state_dir
    retention: Span = dt.timedelta(days=90)
    when_busy: Literal["exit", "wait"] = "exit"

    @field_validator("url")
    @classmethod
    def _is_sqlite(cls, url: str | None) -> str | None:
        if url is None or (url.startswith("sqlite:////") and len(url) > len("sqlite:////")):
            return url
        if url.startswith("sqlite:"):
            raise ValueError(f'{url!r} names no absolute file; write "sqlite:////var/lib/eventferry/ledger.db"')
        scheme = url.partition(":")[0]
        raise ValueError(f"a ledger on {scheme!r} is not supported; write sqlite:////path, or nothing for the default")


class LogConfig(Table):
    """How the log looks and how much it says."""

    format: Literal["auto", "json", "console"] = "auto"
    level: Level = "info"


class ExecutionConfig(Table):
    """How many processes index; 0: none but the daemon itself."""

    processes: Annotated[int, Field(ge=0, le=1024, strict=True)] = Field(default_factory=half_the_cores)


class DeadLettersConfig(Table):
    """How much of what was refused for good is kept."""

    max_size: Size = 1024**3


class ServiceConfig(Table):
    """The long-running process."""

    stop_timeout: Span = dt.timedelta(seconds=60)
    requests_every: Span = dt.timedelta(seconds=1)


class Config(Table):
    """Everything that the configuration says, with its defaults filled in."""

    instance: Annotated[str, Field(min_length=1, max_length=100)] = "eventferry"
    enabled: Flag = True
    state_dir: AbsolutePath = Path("/var/lib/eventferry")
    ledger: LedgerConfig = LedgerConfig()
    log: LogConfig = LogConfig()
    execution: ExecutionConfig = Field(default_factory=ExecutionConfig)
    pull: PullConfig = PullConfig()
    api: ApiConfig = ApiConfig()
    exports: ExportsConfig = ExportsConfig()
    dead_letters: DeadLettersConfig = DeadLettersConfig()
    service: ServiceConfig = ServiceConfig()
    alerts: AlertsConfig = AlertsConfig()
    sources: tuple[SourceConfig, ...] = ()
    sinks: tuple[SinkConfig, ...] = ()

    _secrets: frozenset[KeyPath] = PrivateAttr(default=frozenset())
    _locator: Locator = PrivateAttr(default_factory=lambda: Locator(""))
    _file: str = PrivateAttr(default="config.toml")

    def __eq__(self, other: object) -> bool:
        """Whether every setting is equal, wherever each was written."""
        return isinstance(other, Config) and self._dump() == other._dump()

    __hash__ = None  # type: ignore[assignment]

    @property
    def ledger_url(self) -> str:
        """The SQLAlchemy URL of the ledger."""
        return self.ledger.url or f"sqlite:///{self.state_dir / 'ledger.db'}"

    def source(self, name: str) -> SourceConfig:
        """The source of that name. Raises KeyError."""
        return {each.name: each for each in self.sources}[name]

    def sink(self, name: str) -> SinkConfig:
        """The sink of that name. Raises KeyError."""
        return {each.name: each for each in self.sinks}[name]

    def place(self, *path: str | int) -> str:
        """Where a key stands, to begin a sentence with: `config.toml:12: sources[0].interval`."""
        return place(self._file, self._locator, path)

    def to_toml_dict(self) -> dict[str, Any]:
        """Every setting as TOML would hold it, defaults included, secrets as ***; what is not set is left out."""
        shown: dict[str, Any] = masked(self._dump(), self._secrets)
        return shown

    def show(self) -> str:
        """Every setting as TOML text, secrets as ***."""
        return as_toml(self.to_toml_dict())

    def fingerprint(self) -> str:
        """16 hex digits that change with any setting, secrets included."""
        return digest_of(self._dump())

    @staticmethod
    def diff(old: "Config", new: "Config") -> list[str]:
        """What changed, one sentence each: `sources.events.interval: 10m → 5m`."""
        return differences((old._dump(), old._secrets), (new._dump(), new._secrets))

    def _dump(self) -> dict[str, Any]:
        """The settings in the shape of the file, options merged into their tables, secrets in clear."""
        data = self.model_dump(mode="json", exclude_none=True)
        data["ledger"]["url"] = self.ledger_url
        for source in data["sources"]:
            if "cron" in source:
                del source["interval"]
            for table in SCHEMES.keys() - {table_of(source["url"])}:
                del source[table]
        if self.exports.bucket_spec() is None:
            del data["exports"]["s3"]
        for table in (*data["sinks"], *data["alerts"]["channels"]):
            table |= table.pop("options")
        return data
