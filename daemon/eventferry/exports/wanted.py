"""What somebody wants from an export: the events, their form, where the files go, who is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from eventferry.exports.model import Output, Selection
from eventferry.query.expression import Expression
from eventferry.query.scope import Scope

Dialect = Literal["native", "console", "schedule", "altis", "gooee", "connect", "keen", "ombori"]


class Requester(Protocol):
    """Who asks, as far as exports care: a key (access.keys.Key)."""

    @property
    def id(self) -> str: ...
    @property
    def realm(self) -> Scope: ...
    @property
    def filter(self) -> Expression | None: ...


@dataclass(frozen=True, slots=True)
class Managed:
    """The files stay with us and are downloaded through links."""

    def to_data(self) -> dict[str, Any]:
        """For JSON."""
        return {"kind": "managed"}


@dataclass(frozen=True, slots=True)
class S3:
    """The files go to the requester's store, below `url` (s3://bucket/prefix), with the requester's credentials.

    `object_name` names the object where there is one file, with {id} for the export's id; None: as our files are named.
    """

    url: str
    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    endpoint: str | None = None
    region: str | None = None
    object_name: str | None = None

    def to_data(self) -> dict[str, Any]:
        """For JSON, without the credentials."""
        names = ("url", "endpoint", "region", "object_name")
        return {"kind": "s3", **{name: getattr(self, name) for name in names}}

    def credentials(self) -> dict[str, str | None]:
        """The credentials alone, to be encrypted."""
        names = ("access_key", "secret_key", "session_token")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Notify:
    """Who is told when the export has ended, whether it is complete or failed."""

    email: tuple[str, ...] = ()
    webhook: str | None = None

    def to_data(self) -> dict[str, Any]:
        """For JSON."""
        return {"email": list(self.email), "webhook": self.webhook}


@dataclass(frozen=True, slots=True)
class Wanted:
    """An export as asked for, its timeframe resolved, before the limits of the key are laid over it.

    `asked` holds filter, timeframe and timezone as they were written; together with the other fields, the resolved
    times excepted, it decides whether two requests with one `idempotency_key` are the same. `details` is what the
    dialect has to show again.
    """

    selection: Selection
    output: Output = field(default_factory=Output)
    asked: Mapping[str, Any] = field(default_factory=dict)
    destination: Managed | S3 = field(default_factory=Managed)
    notify: Notify = field(default_factory=Notify)
    name: str = ""
    notes: str = ""
    tags: tuple[str, ...] = ()
    dialect: Dialect = "native"
    details: Mapping[str, Any] = field(default_factory=dict)
    idempotency_key: str | None = None
    schedule: str | None = None
