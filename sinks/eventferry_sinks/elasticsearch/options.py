"""What can be said about an index: where it is, how it is named, who writes, and how it is made on request."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from eventferry.sink import SinkOptions
from eventferry.sink.columns import Column, Contract
from eventferry.sink.http import basic_auth
from eventferry.sink.options import Duration, File, Url, as_list, check_header_value

_NAME = re.compile(r"[^\W_][\w.-]*")
_DATES = re.compile(r"%[Ymd]")
_DYNAMIC: dict[str, object] = {"evolve": True, "freeze": "strict", "discard": False}


def _check_index(name: str) -> str:
    bare = _DATES.sub("0", name)
    if not _NAME.fullmatch(bare) or bare != bare.lower() or len(bare.encode()) > 200:
        raise ValueError(
            f"{name!r} is not the name of an index; expected lower-case letters, digits, dashes and dots such as"
            " events-2024, or with the day of the event: events-%Y.%m.%d"
        )
    return name


class ElasticsearchOptions(SinkOptions):
    """Where to index, under which names, and as whom."""

    url: Url
    index: Annotated[str, AfterValidator(_check_index)]
    data_stream: bool = False
    action: Literal["create", "index"] = "create"
    pipeline: str | None = Field(default=None, pattern=r"^[\w.-]+$")
    time_field: Annotated[tuple[str, ...], BeforeValidator(as_list)] = (
        "event_timestamp",
        "timestamp",
        "keen.timestamp",
    )
    api_key: SecretStr | None = None
    username: str | None = None
    password: SecretStr | None = None
    compression: Literal["gzip", "none"] = "gzip"
    create: bool = False
    schema_contract: Contract = "evolve"
    mapping: dict[str, Any] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    timeout: Duration = 30.0
    ca_file: File | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together; expected both or neither")
        if self.api_key is not None and self.username is not None:
            raise ValueError("api_key and username exclude each other; expected one of them")
        if self.api_key is not None:
            check_header_value(self.api_key.get_secret_value())
        if self.data_stream and (self.action == "index" or self.is_dated):
            raise ValueError('data_stream takes action = "create" and an index without %: it rolls over by itself')
        if (self.mapping or self.settings) and not self.create:
            raise ValueError("mapping and settings say how an index is made; expected create = true with them")
        self.time_column()
        return self

    @property
    def is_dated(self) -> bool:
        """Whether the name of an event's index follows from its time."""
        return "%" in self.index

    @property
    def pattern(self) -> str:
        """The names of all its indexes."""
        return re.sub(r"\*+", "*", _DATES.sub("*", self.index))

    def time_column(self) -> Column:
        """Where an event's time is."""
        return Column(path=self.time_field, type="timestamp")

    def authorization(self) -> str | None:
        """The value of the header, if anything is to be sent in it."""
        if self.api_key is not None:
            return f"ApiKey {self.api_key.get_secret_value()}"
        if self.username is not None and self.password is not None:
            return basic_auth(self.username, self.password.get_secret_value())
        return None

    def definition(self) -> dict[str, Any]:
        """What an index is made with: a value that does not fit its field is left unindexed, and stays in the event."""
        date = {"type": "date", "format": "strict_date_optional_time||epoch_millis"}
        mapping = {
            "dynamic": _DYNAMIC[self.schema_contract],
            "dynamic_templates": [
                {
                    "texts": {
                        "match_mapping_type": "string",
                        "mapping": {"type": "keyword", "ignore_above": 8191},
                    }
                }
            ],
            "properties": {path: date for path in self.time_field if "." not in path and not path.startswith("/")},
        }
        if self.data_stream:
            mapping["properties"] = {"@timestamp": {"type": "date"}} | dict(mapping["properties"])  # type: ignore[call-overload]
        return {
            "settings": {"index.mapping.ignore_malformed": True, "index.mapping.depth.limit": 100} | self.settings,
            "mappings": mapping | self.mapping,
        }
