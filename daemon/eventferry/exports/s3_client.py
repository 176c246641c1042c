"""A client of S3 that is the requester's alone: their credentials, and connections only to where they may send us."""

import os
from dataclasses import dataclass, field
from typing import Any

from eventferry.errors import ConfigError, EventferryError
from eventferry.exports.egress import Egress, GuardedLine
from eventferry.exports.s3_target import S3Target
from eventferry.sink.wire import Watchdog, watched_pool

CONNECT_SECONDS = 10.0
STALL_SECONDS = 30.0  # without a byte; and the least time of a whole request
SLOWEST = 128 * 1024  # bytes per second of a request's body, below which it is given up
ATTEMPTS = 4  # of one request, with back-off


@dataclass(frozen=True, slots=True)
class S3Credentials:
    """Whose store it is. Never shown."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


def open_client(target: S3Target, credentials: S3Credentials, egress: Egress) -> Any:
    """A botocore client for one thread, to be closed. Raises ConfigError where boto3 is missing.

    It knows no environment variable, profile or role of the machine: those are the daemon's own.
    """
    try:
        import botocore.config
        import botocore.session
    except ImportError as error:
        raise ConfigError("exports to a requester's store need boto3: pip install 'eventferry[s3]'") from error
    session = botocore.session.Session(session_vars=_without_environment(botocore.session.Session.SESSION_VARIABLES))
    client = session.create_client(
        "s3",
        endpoint_url=target.endpoint,
        region_name=target.region or "us-east-1",
        verify=True,
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key,
        aws_session_token=credentials.session_token,
        config=botocore.config.Config(
            signature_version="s3v4",
            retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
            # Servers that are not AWS know no CRC trailers.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            ignore_configured_endpoint_urls=True,
            proxies={},
            s3={
                "addressing_style": "path" if target.endpoint else "auto",
                "use_accelerate_endpoint": False,
                "use_arn_region": False,
                "us_east_1_regional_endpoint": "regional",
            },
        ),
    )
    _guard(client, egress)
    return client


def _without_environment(known: dict[str, Any]) -> dict[str, Any]:
    """botocore's settings, none of which is looked up in the environment or in a file."""
    settings = {name: (None, None, default, convert) for name, (_, _, default, convert) in known.items()}
    for file in ("config_file", "credentials_file"):
        settings[file] = (None, None, os.devnull, None)
    return settings


def _guard(client: Any, egress: Egress) -> None:
    """Have every request of the client, redirected ones too, sent by a session that `egress` watches."""
    session = _guarded_session(egress)
    # What a handler of before-send returns is taken for the answer: the client's own session is never used.
    client.meta.events.register_first("before-send.s3", lambda request, **_: session.send(request))
    client.meta.events.register("before-call.s3.HeadBucket", _do_not_redirect)
    client.meta.events.register("guarded.close", lambda **_: session.close())


def _do_not_redirect(context: dict[str, Any], **_: Any) -> None:
    """The SDK asks HeadBucket where a bucket lies, and where that is redirected, asks again, without end."""
    context.setdefault("s3_redirect", {})["redirected"] = True


def close_client(client: Any) -> None:
    """Close its connections."""
    client.meta.events.emit("guarded.close")
    client.close()


def _guarded_session(egress: Egress) -> Any:
    from botocore.awsrequest import AWSHTTPConnectionPool, AWSHTTPSConnectionPool
    from botocore.exceptions import HTTPClientError, ReadTimeoutError
    from botocore.httpsession import URLLib3Session

    line, watchdog = GuardedLine(egress), Watchdog()

    class Guarded(URLLib3Session):  # type: ignore[misc]
        """botocore's transport: no proxies, checked addresses, and a total deadline for each request."""

        def __init__(self) -> None:
            super().__init__(verify=True, timeout=(CONNECT_SECONDS, STALL_SECONDS), max_pool_connections=2)
            self._manager.pool_classes_by_scheme = {
                "http": watched_pool(AWSHTTPConnectionPool, watchdog, line),
                "https": watched_pool(AWSHTTPSConnectionPool, watchdog, line),
            }

        def send(self, request: Any) -> Any:
            line.aim(request.url.partition("?")[0])
            watchdog.start(STALL_SECONDS + int(request.headers.get("Content-Length") or 0) / SLOWEST)
            try:
                answer = super().send(request)
            except HTTPClientError as error:
                cause = error.kwargs.get("error")
                if isinstance(cause, EventferryError):
                    raise cause from None  # as it is: botocore tries HTTPClientErrors again
                raise
            finally:
                watchdog.stop()
            if watchdog.fired:  # the end of the answer may have been the cut itself
                raise ReadTimeoutError(endpoint_url=request.url)
            return answer

    return Guarded()
