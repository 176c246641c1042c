"""Reaches Google Cloud Storage: as whom, where, for how long."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eventferry import installing
from eventferry.clients.diagnosis import read_options
from eventferry.clients.once import made_once
from eventferry.errors import ConfigError

_SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)
_CONNECTIONS = 32
# Without it the client asks for the bucket's metadata beside each first request, which takes rights that nobody needs.
_QUIET = "DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA"


@dataclass(frozen=True)
class GcsOptions:
    """How to reach the store and as whom. Without credentials: Google's default ones, as gcloud and machines have."""

    project: str | None = None
    credentials_file: str | Path | None = None  # JSON: a service account, a federated or impersonated identity
    user_project: str | None = None  # is billed for requests, where the requester pays
    anonymous: bool = False
    endpoint: str | None = None  # of an emulator or a private access point
    ca_file: str | Path | None = None
    connect_timeout: float = 10.0  # seconds
    read_timeout: float = 30.0  # seconds without a byte
    patience: float = 60.0  # seconds for all attempts of one request

    @classmethod
    def of(cls, options: tuple[tuple[str, object], ...]) -> "GcsOptions":
        """From the options of a store. Raises ConfigError."""
        made = read_options(cls, "a gcs store", options)
        if made.anonymous and made.credentials_file:
            raise ConfigError("a gcs store has credentials_file or is anonymous, not both: remove one")
        return made

    @property
    def timeout(self) -> tuple[float, float]:
        """For each request: seconds to connect, seconds without a byte."""
        return self.connect_timeout, self.read_timeout

    @property
    def retry(self) -> Any:
        """For each request that may be repeated: Google's own rules, for so long."""
        from google.cloud.storage.retry import DEFAULT_RETRY

        return DEFAULT_RETRY.with_timeout(self.patience)


@made_once
def connect(options: GcsOptions) -> Any:
    """One google.cloud.storage.Client per set of options and process; using it is thread-safe.

    Raises ConfigError where the package is missing, OSError for the credentials' file, and what google.auth raises.
    """
    storage = require_gcs()
    os.environ.setdefault(_QUIET, "true")
    from google.auth.transport.requests import AuthorizedSession
    from requests.adapters import HTTPAdapter

    credentials, project = _credentials(options)
    session: Any = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
    if options.ca_file:
        session.verify = str(options.ca_file)
    session.mount("https://", HTTPAdapter(pool_connections=4, pool_maxsize=_CONNECTIONS))
    session.mount("http://", HTTPAdapter(pool_connections=4, pool_maxsize=_CONNECTIONS))
    return storage.Client(
        # A project is needed to make buckets only.
        project=options.project or project or "none",
        credentials=credentials,
        client_options={"api_endpoint": options.endpoint.rstrip("/")} if options.endpoint else None,
        _http=session,
    )


def require_gcs() -> Any:
    """google.cloud.storage. Raises ConfigError that names the command which installs it."""
    try:
        import google.cloud.storage
    except ImportError as error:
        raise ConfigError(f"gcs stores need google-cloud-storage: {installing.command('eventferry[gcs]')}") from error
    return google.cloud.storage


def _credentials(options: GcsOptions) -> tuple[Any, str | None]:
    """The credentials, and the project that they name."""
    import google.auth
    from google.auth.credentials import AnonymousCredentials

    if options.anonymous:
        return AnonymousCredentials(), None  # type: ignore[no-untyped-call]
    if options.credentials_file:
        return _from_file(Path(options.credentials_file))
    default: tuple[Any, str | None] = google.auth.default(scopes=_SCOPES)
    return default


def _from_file(path: Path) -> tuple[Any, str | None]:
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError

    path.open("rb").close()  # the library says the same of a file that is not there and of one that is no key
    with warnings.catch_warnings():
        # Google warns that such a file may come from a stranger; this one is named by the operator.
        warnings.simplefilter("ignore", DeprecationWarning)
        load: Any = google.auth.load_credentials_from_file
        try:
            found: tuple[Any, str | None] = load(str(path), scopes=_SCOPES)
        except DefaultCredentialsError:
            raise ValueError("not a file of credentials") from None  # its text may quote what the file holds
    return found
