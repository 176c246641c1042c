"""Reaches S3 and everything that speaks it: as whom, where, for how long."""

from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from eventferry import installing
from eventferry.clients.diagnosis import read_options
from eventferry.clients.once import made_once
from eventferry.errors import ConfigError

_ROLE_SESSION = "eventferry"


@dataclass(frozen=True)
class S3Options:
    """How to reach the store and as whom. What is None is left to the SDK: environment, profile, instance role."""

    endpoint: str | None = None
    region: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    profile: str | None = None
    role_arn: str | None = None  # assumed with the credentials above, and again before its own ones expire
    external_id: str | None = field(default=None, repr=False)  # what the role's trust policy may ask for
    role_session: str | None = None  # as the role's owner sees it in his logs
    sts_endpoint: str | None = None  # of whoever hands out the role's credentials
    requester_pays: bool = False
    anonymous: bool = False
    addressing_style: str | None = None  # path or virtual; with an endpoint of one's own, path
    ca_file: str | Path | None = None
    connect_timeout: float = 10.0  # seconds
    read_timeout: float = 30.0  # seconds without a byte
    attempts: int = 3  # of one request, with back-off

    @classmethod
    def of(cls, options: tuple[tuple[str, object], ...]) -> "S3Options":
        """From the options of a store. Raises ConfigError."""
        made = read_options(cls, "an s3 store", options)
        if bool(made.access_key) != bool(made.secret_key):
            raise ConfigError("access_key and secret_key of an s3 store go together: set both or neither")
        if made.anonymous and made.role_arn:
            raise ConfigError("nobody assumes a role anonymously: remove anonymous or role_arn of the s3 store")
        return made


@made_once
def connect(options: S3Options) -> Any:
    """One client per set of options and process: making one takes 100 ms, using one is thread-safe.

    Raises ConfigError where boto3 is missing, and what the SDK raises.
    """
    boto3 = require_boto3()
    style = options.addressing_style or ("path" if options.endpoint else "auto")
    session = boto3.session.Session(
        botocore_session=_core(),
        aws_access_key_id=options.access_key,
        aws_secret_access_key=options.secret_key,
        aws_session_token=options.session_token,
        profile_name=options.profile,
        region_name=options.region,
    )
    region = session.region_name or ("us-east-1" if options.endpoint else None)
    if options.role_arn:
        session = _assume_role(session, options, region)
    return session.client(
        "s3",
        endpoint_url=options.endpoint,
        region_name=region,
        verify=options.ca_file and str(options.ca_file),
        config=_config(options, max_pool_connections=32, s3={"addressing_style": style}),
    )


def require_boto3() -> Any:
    """boto3. Raises ConfigError that names the command which installs it."""
    try:
        import boto3
        import boto3.session
    except ImportError as error:
        raise ConfigError(f"s3 stores need boto3: {installing.command('eventferry[s3]')}") from error
    return boto3


def _core() -> Any:
    """A session of botocore. All of them share what is read from disk: a client is then made in 10 ms, not in 100."""
    from botocore.session import get_session

    core = get_session()
    core.register_component("data_loader", _loader())
    return core


@lru_cache(maxsize=1)
def _loader() -> Any:
    from botocore.loaders import Loader

    class Settled(Loader):  # type: ignore[misc]
        @property
        def search_paths(self) -> list[str]:
            """A copy: each session of boto3 adds its own folder, which holds nothing that is used here."""
            return list(super().search_paths)

    return Settled()


def _config(options: S3Options, **more: Any) -> Any:
    from botocore import UNSIGNED
    from botocore.config import Config

    return Config(
        signature_version=UNSIGNED if options.anonymous else "s3v4",
        connect_timeout=options.connect_timeout,
        read_timeout=options.read_timeout,
        retries={"total_max_attempts": options.attempts, "mode": "standard"},
        # Servers that are not AWS know no CRC trailers.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        tcp_keepalive=True,
        **more,
    )


def _assume_role(session: Any, options: S3Options, region: str | None) -> Any:
    """A session as the role; it asks for fresh credentials by itself, a quarter of an hour before the old ones end."""
    from boto3.session import Session
    from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
    from botocore.exceptions import NoCredentialsError
    from botocore.session import get_session

    source = session.get_credentials()
    if source is None:
        raise NoCredentialsError
    core = get_session()
    config = _config(options).merge(_sts_signature())
    fetcher = AssumeRoleCredentialFetcher(
        client_creator=partial(
            core.create_client,
            endpoint_url=options.sts_endpoint,
            region_name=region or "us-east-1",
            verify=options.ca_file and str(options.ca_file),
            config=config,
        ),
        source_credentials=source,
        role_arn=options.role_arn,
        extra_args={
            "RoleSessionName": options.role_session or _ROLE_SESSION,
            **({"ExternalId": options.external_id} if options.external_id else {}),
        },
    )
    # botocore takes a role from profiles only; this is what its own provider of them sets.
    core._credentials = DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")
    return Session(botocore_session=core)


def _sts_signature() -> Any:
    from botocore.config import Config

    return Config(signature_version="v4")
