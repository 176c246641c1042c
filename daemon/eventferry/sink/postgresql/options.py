"""The options of every sink type that speaks PostgreSQL's protocol: which server, as whom, how encrypted."""

import re
from typing import Annotated, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, SecretStr, model_validator

from eventferry.sink.columns import ColumnOptions, check_table
from eventferry.sink.options import Duration, File


class ServerOptions(ColumnOptions):
    """Where the server is and who logs in. The connection string is kept as a secret, for it may hold a password."""

    dsn: SecretStr
    password: SecretStr | None = None
    sslmode: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] | None = None
    ca_file: File | None = None
    table: Annotated[str, AfterValidator(check_table)] = "public.events"
    create: bool = False
    timeout: Duration = 30.0

    @model_validator(mode="after")
    def _check_server(self) -> Self:
        dsn = self.dsn.get_secret_value()
        if not re.match(r"postgres(ql)?://", dsn):
            raise ValueError("dsn is not a connection URI; expected postgresql://user@host:5432/database")
        if self.password is not None and _holds_password(dsn):
            raise ValueError("dsn holds a password, and so does `password`; expected one of them")
        return self

    @property
    def place(self) -> tuple[str, str]:
        """Schema and name of the table; without a schema it is in `public`, whatever the server's search path says."""
        schema, _, name = self.table.rpartition(".")
        return schema or "public", name


def _holds_password(dsn: str) -> bool:
    parts = urlsplit(dsn)
    account, at, _ = parts.netloc.rpartition("@")
    return bool(at and unquote(account.partition(":")[2])) or re.search(r"(?:^|&)password=", parts.query) is not None
