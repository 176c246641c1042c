"""Says what an error of S3 means and what the operator does about it."""

from collections.abc import Mapping
from typing import Any

from eventferry.errors import StoreError

_REMEDIES = {
    "AccessDenied": "allow these credentials s3:ListBucket on the bucket and s3:GetObject on its objects",
    "AllAccessDisabled": "the bucket's owner has disabled access to it",
    "NoSuchBucket": "there is no such bucket; mend the source's url or its endpoint",
    "InvalidAccessKeyId": "the store does not know this access key; mend access_key",
    "SignatureDoesNotMatch": "the secret does not belong to the access key; mend secret_key (and region, if it is set)",
    "RequestTimeTooSkewed": "this machine's clock is wrong; let it be set by NTP (timedatectl)",
    "ExpiredToken": "the session token has expired; give a fresh one or use a role",
    "InvalidToken": "the session token is not valid; mend session_token",
    "PermanentRedirect": "the bucket lies in another region; set the source's region",
    "AuthorizationHeaderMalformed": "the bucket lies in another region; set the source's region",
    "IllegalLocationConstraintException": "the bucket lies in another region; set the source's region",
    "SlowDown": "the store asks for fewer requests; it is tried again later",
    "InvalidObjectState": "the object is archived (Glacier); restore it first or exclude it",
    "301": "the bucket lies in another region; set the source's region",
    "400": "the store refuses the request; check region, addressing_style and the credentials",
    "403": "allow these credentials s3:ListBucket on the bucket and s3:GetObject on its objects",
    "404": "there is no such bucket; mend the source's url or its endpoint",
}
_BY_CLASS = {
    "NoCredentialsError": "no credentials found; set access_key and secret_key, a profile, or anonymous = true",
    "PartialCredentialsError": "credentials are incomplete; set both access_key and secret_key",
    "ProfileNotFound": "there is no such profile in the credentials file of the service's user",
    "NoRegionError": "no region is set; set the source's region",
    "SSLError": "the server's certificate is not trusted; set ca_file to the authority's certificate",
    "EndpointConnectionError": "the endpoint cannot be reached; check endpoint, DNS and the network",
    "ConnectTimeoutError": "the endpoint does not answer; check endpoint, network and firewall",
    "ReadTimeoutError": "the endpoint stopped answering; it is tried again later",
    "ConnectionClosedError": "the endpoint closed the connection; it is tried again later",
    "ProxyConnectionError": "the proxy cannot be reached; check HTTPS_PROXY and NO_PROXY",
    "ParamValidationError": "the bucket's name is not valid; mend the source's url",
}


def explain(error: BaseException, action: str, remedies: Mapping[str, str] | None = None) -> StoreError:
    """A StoreError that names the action, the store's code and the remedy; none of the server's own text.

    The server's text is left out as it may quote headers and identities. `remedies`, by code or class, go before
    those for a source.
    """
    own = remedies or {}
    answer: dict[str, Any] | None = getattr(getattr(error, "backend_error", error), "response", None)
    if isinstance(answer, dict):
        code = str(answer.get("Error", {}).get("Code", "unknown"))
        remedy = own.get(code) or _REMEDIES.get(code, "see the store's documentation of this code")
        return StoreError(f"{action}: {code}; {remedy}")
    kind = type(error).__name__
    for name in (cls.__name__ for cls in type(error).__mro__):
        if remedy := own.get(name) or _BY_CLASS.get(name, ""):
            return StoreError(f"{action}: {remedy}")
    return StoreError(f"{action}: failed with {kind}; it is tried again later")
