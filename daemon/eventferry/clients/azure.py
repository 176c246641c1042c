"""Reaches Azure Blob Storage: as whom, where, for how long."""

import base64
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eventferry import installing
from eventferry.clients.diagnosis import read_options
from eventferry.clients.once import made_once
from eventferry.errors import ConfigError

_CONNECTIONS = 32
_NO_ACCOUNT = (
    "an azure store needs its account: set account_url or connection_string, or AZURE_STORAGE_ACCOUNT or "
    "AZURE_STORAGE_CONNECTION_STRING in the service's environment"
)
_TOKENS = ("sas_token", "AZURE_STORAGE_SAS_TOKEN")
_COPY_IT = "copy it from the account's access keys"
_NAMELESS = (
    "{name} of the azure store needs the account's name, which account_url does not say; write "
    'account_url = "https://ACCOUNT.blob.core.windows.net", or in place of both '
    'connection_string = "AccountName=ACCOUNT;AccountKey=KEY;BlobEndpoint=URL"'
)
_NO_URL = "account_url of the azure store is not a URL; expected https://ACCOUNT.blob.core.windows.net"
_NO_IDENTITY = "the azure store asks as an identity that cannot be used; look at {names} of the service's environment"
_IN_THE_CLEAR = (
    "account_url of the azure store must begin with https:// where the machine's identity asks, whose token is for "
    "nobody else's eyes; mend it, or set account_key, sas_token or anonymous = true"
)


@dataclass(frozen=True)
class AzureOptions:
    """How to reach the account and as whom; `where` and `credential` say what is looked for when nothing is set."""

    account_url: str | None = None  # https://ACCOUNT.blob.core.windows.net
    connection_string: str | None = field(default=None, repr=False)
    account_key: str | None = field(default=None, repr=False)
    sas_token: str | None = field(default=None, repr=False)
    client_id: str | None = None  # of the managed identity, where the machine has several
    anonymous: bool = False
    ca_file: str | Path | None = None
    connect_timeout: float = 10.0  # seconds
    read_timeout: float = 30.0  # seconds without a byte
    attempts: int = 3  # of one request, with back-off

    @classmethod
    def of(cls, options: tuple[tuple[str, object], ...]) -> "AzureOptions":
        """From the options of a store. Raises ConfigError."""
        made = read_options(cls, "an azure store", options)
        if made.account_url and made.connection_string:
            raise ConfigError("an azure store has account_url or connection_string, not both: remove one")
        if sum(map(bool, (made.connection_string, made.account_key, made.sas_token, made.anonymous))) > 1:
            raise ConfigError(
                "an azure store says twice who asks: give connection_string, account_key, sas_token or anonymous = true"
            )
        return made

    def where(self) -> tuple[str | None, str | None]:
        """The account's URL or its connection string: as set, else as the environment has it. Raises ConfigError."""
        if self.account_url or self.connection_string:
            return self.account_url, self.connection_string
        # Who says who asks does not mean somebody else's connection string.
        own_identity = self.account_key or self.sas_token or self.anonymous
        if not own_identity and (found := os.environ.get("AZURE_STORAGE_CONNECTION_STRING")):
            return None, found
        if account := os.environ.get("AZURE_STORAGE_ACCOUNT"):
            return f"https://{account}.blob.core.windows.net", None
        raise ConfigError(_NO_ACCOUNT)

    def credential(self) -> Any:
        """What signs requests: as set, else AZURE_STORAGE_KEY or _SAS_TOKEN, else what azure-identity finds."""
        if self.anonymous:
            return None
        if text := self.key_or_token()[1]:
            return text
        from azure.identity import DefaultAzureCredential

        more = {"managed_identity_client_id": self.client_id} if self.client_id else {}
        return DefaultAzureCredential(**more)

    def key_or_token(self) -> tuple[str, str]:
        """The account's key or a SAS token, after the name of what holds it; two empty texts where there is none."""
        if self.anonymous:
            return "", ""
        found = {"account_key": self.account_key, "sas_token": (self.sas_token or "").lstrip("?")}
        if not self.account_url:  # the environment names the account: it may hold its key, too
            found["AZURE_STORAGE_KEY"] = os.environ.get("AZURE_STORAGE_KEY")
            found["AZURE_STORAGE_SAS_TOKEN"] = os.environ.get("AZURE_STORAGE_SAS_TOKEN", "").lstrip("?")
        return next(((name, text) for name, text in found.items() if text), ("", ""))


@made_once
def connect(options: AzureOptions) -> Any:
    """One azure.storage.blob.BlobServiceClient per set of options and process; using it is thread-safe.

    Raises ConfigError as `make_service` does, and what the SDK raises.
    """
    require_azure()
    return make_service(
        options,
        transport=_transport(options),
        connection_timeout=options.connect_timeout,
        read_timeout=options.read_timeout,
        retry_total=max(0, options.attempts - 1),
        logging_enable=False,
        # An answer is taken by ranges of this size at most, so that what is read of an object stays small in memory.
        max_single_get_size=4 * 1024 * 1024,
        max_chunk_get_size=4 * 1024 * 1024,
    )


def make_service(options: AzureOptions, **settings: Any) -> Any:
    """A new azure.storage.blob.BlobServiceClient with these settings of the SDK.

    Raises ConfigError where the package, the account or a key that can sign is missing; it never quotes the key.
    """
    blob = require_azure()
    account_url, connection_string = options.where()
    if connection_string:
        name = "connection_string" if options.connection_string else "AZURE_STORAGE_CONNECTION_STRING"
        try:
            service = blob.BlobServiceClient.from_connection_string(connection_string, **settings)
        except ValueError:
            raise ConfigError(f"{name} of the azure store is not one; {_COPY_IT}") from None
    else:
        name, text = options.key_or_token()
        if name in _TOKENS and "sig=" not in text:  # the SDK would take it for a key
            raise ConfigError(
                f"{name} of the azure store is not a token: it holds no sig=; copy it from where it was made"
            )
        service = _by_url(options, account_url or "", name, settings)
    _check_key(name, getattr(service.credential, "account_key", ""))
    return service


def _by_url(options: AzureOptions, account_url: str, name: str, settings: dict[str, Any]) -> Any:
    """`name` is what holds the key or token; empty where an identity or nobody asks."""
    try:
        credential = options.credential()
    except (ValueError, OSError):
        names = ", ".join(sorted(each for each in os.environ if each.startswith("AZURE_")))
        raise ConfigError(_NO_IDENTITY.format(names=names or "AZURE_…")) from None
    try:
        return require_azure().BlobServiceClient(account_url, credential=credential, **settings)
    except ValueError:
        if name:
            raise ConfigError(_NAMELESS.format(name=name)) from None
        in_the_clear = credential is not None and not account_url.lower().startswith("https://")
        raise ConfigError(_IN_THE_CLEAR if in_the_clear else _NO_URL) from None


def _check_key(name: str, key: str) -> None:
    try:
        base64.b64decode("".join(key.split()), validate=True)
    except ValueError:
        raise ConfigError(f"{name} of the azure store is not a key: it is not base64; {_COPY_IT}") from None


def require_azure() -> Any:
    """azure.storage.blob. Raises ConfigError that names the command which installs it."""
    try:
        import azure.storage.blob
    except ImportError as error:
        raise ConfigError(f"azure stores need azure-storage-blob: {installing.command('eventferry[azure]')}") from error
    return azure.storage.blob


def _transport(options: AzureOptions) -> Any:
    """Connections enough for many reads at once; the SDK's own pool keeps ten."""
    import requests
    from azure.core.pipeline.transport import RequestsTransport
    from requests.adapters import HTTPAdapter

    session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=0, pool_connections=4, pool_maxsize=_CONNECTIONS))
    verify = str(options.ca_file) if options.ca_file else True
    # The session is shared for the life of the process: clients that are closed must not close it.
    return RequestsTransport(session=session, session_owner=False, connection_verify=verify)
