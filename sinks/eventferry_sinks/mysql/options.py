"""What can be configured of a `mysql` sink."""

import re
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from eventferry.sink.books import BOOKS
from eventferry.sink.columns import RESERVED, ColumnOptions, Path, check_name
from eventferry.sink.options import Duration, File

SEQ = "seq"  # counts the rows of a table that eventferry made
EVENT_ID = "event_id"  # the column of unique_event_id


def _check_host(host: str) -> str:
    if not re.fullmatch(r"[\w.:%-]+", host):
        raise ValueError("is not a host; expected a name or an address such as db.example.com, without port or scheme")
    return host


def _check_database(name: str) -> str:
    if not re.fullmatch(r"[\w$-]{1,64}", name):
        raise ValueError(f"{name!r} is not a usable name of a database; expected letters, digits, _, - and $")
    return name


def _check_table(name: str) -> str:
    if check_name(name).casefold() in BOOKS:
        raise ValueError(f"{name!r} is where what was delivered is written down; expected another name")
    return name


class MysqlOptions(ColumnOptions):
    """Which server, which table, which columns, and how to get there."""

    reserved: ClassVar[tuple[str, ...]] = (*RESERVED, SEQ)

    host: Annotated[str, AfterValidator(_check_host)]
    port: int = Field(default=3306, ge=1, le=65535)
    database: Annotated[str, AfterValidator(_check_database)]
    user: str = Field(min_length=1, max_length=128)
    password: SecretStr | None = None
    tls: Literal["verify", "require", "off"] = "verify"
    ca_file: File | None = None
    table: Annotated[str, AfterValidator(_check_table)] = "events"
    create: bool = False
    unique_event_id: Path | None = None
    timeout: Duration = 30.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.ca_file is not None and self.tls != "verify":
            raise ValueError(
                f'ca_file says whom to trust, but tls = "{self.tls}" trusts anybody; expected tls = "verify"'
            )
        if self.unique_event_id is not None and EVENT_ID in {name.casefold() for name in self.columns}:
            raise ValueError(f"columns.{EVENT_ID} is the column that unique_event_id fills; expected another name")
        return self
