"""What can be said about a source of Segment: its key, its region, and what goes where in its calls."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from eventferry.sink import SinkOptions
from eventferry.sink.columns import Column
from eventferry.sink.options import Duration, Url
from eventferry_sinks.segment.defaults import DEFAULTS
from eventferry_sinks.segment.mapping import Take, as_take

URLS = {"us": "https://api.segment.io/v1/batch", "eu": "https://events.eu1.segmentapis.com/v1/batch"}
_OURS = ("type", "messageId")
Takes = dict[tuple[str, ...], Take]


def _check_targets(value: object) -> object:
    """A table of target keys; `""` takes a default away."""
    if not isinstance(value, dict):
        return value
    for target in value:
        if not all(str(target).split(".")):
            raise ValueError(f'{target!r} is not a key of a call; expected "context.page.path"')
        if target in _OURS:
            raise ValueError(f"{target} is set by eventferry itself; expected other keys")
    return {target: None if each == "" else as_take(each) for target, each in value.items()}


Targets = Annotated[dict[str, Take | None], BeforeValidator(_check_targets)]


class SegmentOptions(SinkOptions):
    """Whose source, where, and what an event becomes."""

    write_key: SecretStr
    region: Literal["us", "eu"] = "us"
    url: Url | None = None
    calls: tuple[Literal["identify", "page", "track"], ...] = Field(default=("identify", "page", "track"), min_length=1)
    page_types: tuple[str, ...] = ("pageView",)
    message_id: str | None = None
    identify: Targets = Field(default_factory=dict)
    page: Targets = Field(default_factory=dict)
    track: Targets = Field(default_factory=dict)
    groups: tuple[Targets, ...] = ()
    timeout: Duration = 30.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.write_key.get_secret_value():
            raise ValueError("write_key is empty; expected the write key of a source")
        if self.message_id is not None:
            Column(path=(self.message_id,))
        for group in self.groups:
            if not group.get("groupId"):
                raise ValueError('groups: a table without groupId; expected groupId = "path.of.its.id"')
        for _, takes in self.compiled():
            _check_nesting(takes)
        return self

    def compiled(self) -> list[tuple[str, Takes]]:
        """The calls that may be made of an event, in order: (kind, what goes where)."""
        found = [("identify", _compiled("identify", self.identify))] if "identify" in self.calls else []
        found += [("group", _compiled("group", group)) for group in self.groups]
        found += [("page", _compiled("page", self.page))] if "page" in self.calls else []
        return found + ([("track", _compiled("track", self.track))] if "track" in self.calls else [])


def _compiled(kind: str, own: dict[str, Take | None]) -> Takes:
    """The default table with the configured one over it; wide keys before the ones within them."""
    defaults: dict[str, Any] = {key: Take.model_validate(as_take(value)) for key, value in DEFAULTS[kind].items()}
    both: dict[str, Take | None] = {**defaults, **own}
    kept = {tuple(key.split(".")): take for key, take in both.items() if take is not None}
    return dict(sorted(kept.items(), key=lambda each: len(each[0])))


def _check_nesting(takes: Takes) -> None:
    for target in takes:
        for depth in range(1, len(target)):
            above = takes.get(target[:depth])
            if above is not None and not above.merge:
                whole, part = ".".join(target[:depth]), ".".join(target)
                raise ValueError(f"{part} lies within {whole}, which is one value; expected a list of branches for it")
