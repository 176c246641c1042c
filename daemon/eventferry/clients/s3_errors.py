"""Says what an error of S3 means and what the operator does about it."""

from typing import Any
from urllib.parse import urlsplit

from eventferry.clients.diagnosis import Diagnosis, Kind, Remedies
from eventferry.errors import StoreError

_REMEDIES = {
    "AccessDenied": "allow these credentials s3:ListBucket on the bucket and s3:GetObject on its objects",
    "AllAccessDisabled": "the bucket's owner has disabled access to it",
    "NoSuchBucket": "there is no such bucket; mend the source's url or its endpoint",
    "InvalidBucketName": "the bucket's name is not valid; mend the source's url",
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
_ROLE_REMEDIES = {
    "AccessDenied": "the role cannot be assumed; its trust policy must name these credentials (and external_id, if it "
    "asks for one), and they need sts:AssumeRole on it",
    "InvalidClientTokenId": "STS does not know the access key that is to assume the role; mend access_key",
    "SignatureDoesNotMatch": "the secret does not belong to the access key that is to assume the role; mend secret_key",
    "ExpiredToken": "the credentials that are to assume the role have expired; give lasting ones",
    "RegionDisabledException": "STS is switched off in this region; set another region",
    "ValidationError": "role_arn, external_id or role_session is not valid; mend it",
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
_UNREACHABLE = frozenset({"EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError", "SSLError"})
_LATER = frozenset({"ReadTimeoutError", "ConnectionClosedError"})
_GONE = frozenset({"NoSuchKey", "NoSuchVersion", "NoSuchUpload"})
_CONFLICT = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412"})
_BUSY = frozenset({"SlowDown", "RequestTimeout", "OperationAborted", "TooManyRequests", "429", "408"})
_SERVER_FAULT = 500


def explain(error: BaseException, action: str, remedies: Remedies | None = None) -> StoreError:
    """`diagnose` as StoreError."""
    return diagnose(error, action, remedies).error()


def diagnose(error: BaseException, action: str, remedies: Remedies | None = None) -> Diagnosis:
    """What the error of botocore (or of smart_open above it) means.

    The server's text is left out as it may quote headers and identities. `remedies`, by code or class, go before
    those for a source.
    """
    own = remedies or {}
    original = getattr(error, "backend_error", error)
    answer: dict[str, Any] | None = getattr(original, "response", None)
    if isinstance(answer, dict):
        code = str(answer.get("Error", {}).get("Code", "unknown"))
        if getattr(original, "operation_name", "") == "AssumeRole":
            action = f"{action}: assuming the role"
            own = _ROLE_REMEDIES
        remedy = own.get(code) or _REMEDIES.get(code, "see the store's documentation of this code")
        return Diagnosis(_kind_of(code, answer), f"{action}: {code}; {remedy}")
    for name in (cls.__name__ for cls in type(error).__mro__):
        if remedy := own.get(name) or _BY_CLASS.get(name, ""):
            kind = Kind.UNREACHABLE if name in _UNREACHABLE else Kind.LATER if name in _LATER else Kind.PERSON
            return Diagnosis(kind, f"{action}: {remedy.replace('the endpoint', _endpoint_of(error), 1)}")
    return Diagnosis(Kind.LATER, f"{action}: failed with {type(error).__name__}; it is tried again later")


def _endpoint_of(error: BaseException) -> str:
    """The endpoint that an error of botocore is about, without what was asked of it."""
    try:
        url = urlsplit(str(getattr(error, "kwargs", {}).get("endpoint_url", "")))
    except ValueError:
        return "the endpoint"
    host = url.netloc.rpartition("@")[2]
    return f"the endpoint {url.scheme}://{host}" if host else "the endpoint"


def _kind_of(code: str, answer: dict[str, Any]) -> Kind:
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _GONE:
        return Kind.GONE
    if code in _CONFLICT or status == 412:
        return Kind.CONFLICT
    if code in _BUSY or status >= _SERVER_FAULT or status in (408, 429):
        return Kind.LATER
    return Kind.PERSON
