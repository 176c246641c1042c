"""The table `[alerts]`: who is told what, and how often."""

import datetime as dt
import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from eventferry.config.fields import ClockTime, Count, Flag, OptionalText, Slug, Span, Table, TimeZone
from eventferry.config.options import set_options_apart
from eventferry.config.show import digest_of

Level = Literal["debug", "info", "warning", "error"]


class ChannelConfig(Table):
    """A way to reach people; what is not a key of every channel is kept in `options`, for the channel type to check."""

    name: Slug
    type: Annotated[str, Field(min_length=1)]
    level: Level = "error"
    events: tuple[Annotated[str, Field(min_length=1)], ...] = ("*",)
    options: dict[str, Any] = Field(default_factory=dict, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _set_options_apart(cls, data: Any) -> Any:
        data = set_options_apart(cls, data)
        if isinstance(data, dict):
            data.setdefault("name", name_of_type(str(data.get("type"))))
        return data

    def fingerprint(self) -> str:
        """16 hex digits that change with any setting of this channel."""
        return digest_of(self.model_dump(mode="json"))


def name_of_type(type: str) -> str:
    """The name of a channel that was given none: its type, for `module:function` with a dash for each odd character."""
    return re.sub(r"[^a-z0-9_-]+", "-", type.lower()).strip("-_")[:63] or "channel"


class AlertsConfig(Table):
    """How alerts are grouped and limited, and through which channels they go."""

    repeat_every: Span = dt.timedelta(hours=24)
    max_per_hour: Count = 20
    max_lag: Span = dt.timedelta(hours=2)
    digest: ClockTime = "08:00"
    all_well: Flag = False
    timezone: TimeZone = "UTC"
    ping_url: OptionalText = Field(default=None, repr=False)
    channels: tuple[ChannelConfig, ...] = ()

    @field_validator("ping_url")
    @classmethod
    def _is_http(cls, text: str | None) -> str | None:
        if text is not None and not re.match(r"https?://[^/]", text):
            raise ValueError("is not a URL; write https://…")
        return text
