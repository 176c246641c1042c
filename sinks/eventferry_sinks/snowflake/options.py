"""The options of sink type `snowflake`."""

from collections.abc import Iterator
from math import ceil
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from eventferry.sink.books import BOOKS
from eventferry.sink.columns import ColumnOptions, check_name, check_table
from eventferry.sink.options import Duration, File, Url
from eventferry_sinks.snowflake.table import LOCKS, quoted

Name = Annotated[str, AfterValidator(check_name)]


class SnowflakeOptions(ColumnOptions):
    """Which account, as whom, which table, which columns."""

    account: str = Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")
    user: str = Field(min_length=1)
    private_key_file: File | None = None
    private_key_passphrase: SecretStr | None = None
    token: SecretStr | None = None
    password: SecretStr | None = None
    role: Name | None = None
    warehouse: Name
    database: Name
    table: Annotated[str, AfterValidator(check_table)] = "public.events"
    stage: Name = "eventferry_stage"
    create: bool = False
    event_as: Literal["variant", "string"] = "variant"
    endpoint: Url | None = None
    timeout: Duration = 30.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        ways = [self.private_key_file, self.token, self.password]
        if sum(each is not None for each in ways) != 1:
            raise ValueError("expected one of private_key_file, token and password")
        if self.private_key_passphrase is not None and self.private_key_file is None:
            raise ValueError("private_key_passphrase belongs to private_key_file, which is missing")
        if self.table_name.casefold() in (*BOOKS, LOCKS):
            raise ValueError(f"table {self.table!r} is where what was delivered is written down; expected another name")
        return self

    @property
    def schema_name(self) -> str:
        """The schema of the table, the books and the stage."""
        return self.table.rpartition(".")[0] or "public"

    @property
    def table_name(self) -> str:
        """The table without its schema."""
        return self.table.rpartition(".")[2]

    def full_name(self, name: str) -> str:
        """`name` in the database and the schema, as SQL."""
        return quoted(self.database, self.schema_name, name)

    def arguments(self) -> dict[str, Any]:
        """What snowflake.connector.connect takes, with secrets in clear."""
        seconds = ceil(self.timeout)
        return {
            "account": self.account,
            "user": self.user,
            "role": self.role,
            "warehouse": self.warehouse,
            "database": self.database.upper(),
            "schema": self.schema_name.upper(),
            "application": "eventferry",
            "login_timeout": seconds,
            "network_timeout": seconds,
            "socket_timeout": seconds,
            "platform_detection_timeout_seconds": 0,  # asks no metadata services
            "session_parameters": {
                "QUERY_TAG": "eventferry",
                "TIMEZONE": "UTC",
                "AUTOCOMMIT": True,
                "STATEMENT_TIMEOUT_IN_SECONDS": seconds,
                "LOCK_TIMEOUT": seconds,
                "CLIENT_TELEMETRY_ENABLED": False,
            },
            **dict(self._credentials()),
            **self._address(),
        }

    def _credentials(self) -> Iterator[tuple[str, Any]]:
        if self.private_key_file is not None:
            yield "authenticator", "SNOWFLAKE_JWT"
            yield "private_key_file", str(self.private_key_file)
            if self.private_key_passphrase is not None:
                yield "private_key_file_pwd", self.private_key_passphrase.get_secret_value()
        elif self.token is not None:
            yield "authenticator", "oauth"
            yield "token", self.token.get_secret_value()
        elif self.password is not None:
            yield "password", self.password.get_secret_value()

    def _address(self) -> dict[str, Any]:
        if self.endpoint is None:
            return {}
        parts = urlsplit(self.endpoint)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return {"host": parts.hostname, "port": port, "protocol": parts.scheme}
