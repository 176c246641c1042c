"""The options of sink type `clickhouse`."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from eventferry.sink.columns import ColumnOptions, check_name
from eventferry.sink.http import basic_auth
from eventferry.sink.options import Duration, File, Url
from eventferry_sinks.clickhouse.table import RESERVED

_ENGINE = re.compile(r"(?:Replicated|Shared)?MergeTree(?:\([\w/{}',. -]*\))?")
_SETTING = re.compile(r"[a-z][a-z0-9_]{0,99}")


def _check_url(url: str) -> str:
    if "?" in url or "#" in url:
        raise ValueError("holds a query; expected https://host:8443/ alone, with settings under `settings`")
    return url


def _check_engine(engine: str) -> str:
    if not _ENGINE.fullmatch(engine):
        raise ValueError(
            f"{engine!r} is not an engine that keeps every event; expected MergeTree, ReplicatedMergeTree or"
            " SharedMergeTree, with its parameters in brackets"
        )
    return engine


def _check_setting(name: str) -> str:
    if not _SETTING.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a setting; expected lower-case letters, digits, underscores")
    if name in RESERVED:
        raise ValueError(f"{name!r} is set by eventferry itself; expected other settings only")
    return name


class ClickhouseOptions(ColumnOptions):
    """Which server, which table, which columns, and how an insert goes."""

    url: Annotated[Url, AfterValidator(_check_url)]
    database: Annotated[str, AfterValidator(check_name)] = "default"
    table: Annotated[str, AfterValidator(check_name)] = "events"
    user: str | None = None
    password: SecretStr | None = None
    compression: Literal["none", "gzip", "zstd"] = "none"
    create: bool = False
    engine: Annotated[str, AfterValidator(_check_engine)] = "MergeTree"
    settings: dict[Annotated[str, AfterValidator(_check_setting)], str | int | float] = Field(default_factory=dict)
    timeout: Duration = 30.0
    ca_file: File | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.password is not None and self.user is None:
            raise ValueError("password without user; expected both, or user alone")
        if ":" in (self.user or ""):
            raise ValueError("user holds a colon, which basic authentication cannot carry")
        return self

    def headers(self) -> dict[str, str]:
        """What every request carries."""
        if self.user is None:
            return {}
        return {"Authorization": basic_auth(self.user, self.password.get_secret_value() if self.password else "")}

    def secrets(self) -> list[str]:
        """What an answer may echo and a message must not show."""
        secret = self.password.get_secret_value() if self.password else ""
        return [secret, self.headers()["Authorization"].partition(" ")[2]] if secret else []
