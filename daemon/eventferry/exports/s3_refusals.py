"""Says what an error of a requester's store means, in words for the requester, without the store's own."""

from typing import Any

from eventferry.errors import EventferryError
from eventferry.exports.egress import EgressRefused
from eventferry.exports.s3_target import S3Target
from eventferry.sink.safe import safe_text

_MEANINGS = {
    "AccessDenied": "the credentials may not write there; allow them s3:PutObject and s3:AbortMultipartUpload",
    "AllAccessDisabled": "access to the bucket is disabled",
    "NoSuchBucket": "there is no such bucket",
    "InvalidBucketName": "there is no such bucket",
    "InvalidAccessKeyId": "the store does not know the access key",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key",
    "ExpiredToken": "the session token has expired",
    "InvalidToken": "the session token is not valid",
    "TokenRefreshRequired": "the session token has expired",
    "RequestTimeTooSkewed": "the server's clock is wrong; tell its operator",
    "PermanentRedirect": "the bucket lies in another region; name it: https://bucket.s3.<region>.amazonaws.com/prefix/",
    "AuthorizationHeaderMalformed": "the bucket lies in another region; name it: "
    "https://bucket.s3.<region>.amazonaws.com/prefix/",
    "EntityTooLarge": "the file is larger than the store takes",
    "QuotaExceeded": "the store is full",
    "KMS.DisabledException": "the bucket's encryption key is disabled",
    "NoSuchUpload": "somebody removed the parts of the upload",
    "401": "the store does not accept the credentials",
    "403": "the credentials may not write there; allow them s3:PutObject and s3:AbortMultipartUpload",
    "404": "there is no such bucket",
}
_LATER = {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling", "500", "502", "503", "504"}
_UNREACHABLE = {
    "SSLError": "its certificate cannot be verified",
    "EndpointConnectionError": "it cannot be reached",
    "ConnectTimeoutError": "it does not answer",
    "ReadTimeoutError": "it stopped answering",
    "ConnectionClosedError": "it closed the connection",
    "HTTPClientError": "it cannot be reached",
}


class UploadFailed(EventferryError):
    """The files are not in the requester's store. `temporary`: the same upload may succeed later."""

    def __init__(self, reason: str, *, temporary: bool = False) -> None:
        self.temporary = temporary
        super().__init__(reason)


def explain_upload(error: BaseException, target: S3Target) -> UploadFailed:
    """What went wrong, in a sentence that holds neither credentials nor the store's own text."""
    who = target.url
    if isinstance(error, EgressRefused):
        return UploadFailed(f"{who}: {error}")
    answer: dict[str, Any] | None = getattr(error, "response", None)
    if isinstance(answer, dict):
        code = safe_text(str(answer.get("Error", {}).get("Code", "")), 40)
        status = str(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
        if code in _LATER or status.startswith("5"):
            return UploadFailed(f"{who}: the store failed for its own reasons ({code or status})", temporary=True)
        meaning = _MEANINGS.get(code) or _MEANINGS.get(status)
        return UploadFailed(
            f"{who}: {meaning} ({code})" if meaning else f"{who}: the store refused it ({code or status})"
        )
    for kind in (cls.__name__ for cls in type(error).__mro__):
        if kind in _UNREACHABLE:
            return UploadFailed(f"{who}: {_UNREACHABLE[kind]}", temporary=kind != "SSLError")
    return UploadFailed(f"{who}: the upload failed ({type(error).__name__})", temporary=True)
