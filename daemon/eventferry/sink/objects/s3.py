"""S3 and everything that speaks it as a bucket."""

from collections.abc import Iterator
from inspect import unwrap
from typing import Any

from eventferry.clients.diagnosis import Diagnosis
from eventferry.clients.s3 import connect
from eventferry.clients.s3_errors import diagnose
from eventferry.sink.errors import SinkError, SinkMisconfigured, SinkUnavailable
from eventferry.sink.objects.access import S3Access
from eventferry.sink.objects.base import Stored
from eventferry.sink.objects.network import Answer, NetworkBucket, ObjectAbsent
from eventferry.sink.objects.places import Place

_REGION = "the bucket lies in another region; set region in the sink's table s3"
# Servers that know no conditional writes say so in these ways, where they do not ignore the condition.
_UNKNOWN_CONDITION = frozenset({"NotImplemented", "501"})


class S3Bucket(NetworkBucket):
    """A bucket on S3. Amazon's honours conditions on writes; of other servers nothing is assumed."""

    def __init__(self, place: Place, access: S3Access, seconds: float) -> None:
        super().__init__(place, seconds)
        self.conditional = access.endpoint is None
        self.identity = _identity(access)
        self._paying = {"RequestPayer": "requester"} if access.requester_pays else {}
        self._region = access.region
        rights = (
            "allow these credentials s3:PutObject, s3:GetObject and s3:DeleteObject on the objects and s3:ListBucket on"
            " the bucket"
        )
        no_bucket = (
            f"there is no bucket {place.bucket}; make it (aws s3api create-bucket --bucket {place.bucket}), or set"
            " create = true"
        )
        self._remedies = {
            "AccessDenied": rights,
            "403": rights,
            "NoSuchBucket": no_bucket,
            "404": no_bucket,
            "PermanentRedirect": _REGION,
            "AuthorizationHeaderMalformed": _REGION,
            "IllegalLocationConstraintException": _REGION,
            "301": _REGION,
            "NoRegionError": "no region is set; set region in the sink's table s3",
            "InvalidBucketName": "the bucket's name is not valid; mend url",
            "ParamValidationError": "the bucket's name is not valid; mend url",
            "QuotaExceeded": "the store is full; raise the quota or free some space",
            "BucketAlreadyExists": "the bucket belongs to somebody else; choose another name",
        }
        with self._explained(f"{self.root}: connecting"):
            # Not the client that stores share: its sockets are watched, and it belongs to one thread.
            self._client: Any = unwrap(connect)(access.client_options(seconds))
            self._watch()

    def put_if_absent(self, key: str, body: bytes) -> bool:
        try:
            return super().put_if_absent(key, body)
        except _ConditionUnknown:
            if self.head(key) is not None:
                return False
            self.put(key, body)
        return True

    def make(self) -> bool:
        try:
            with self._calling("looking for the bucket", reads=True):
                self._client.head_bucket(Bucket=self._bucket)
        except ObjectAbsent:
            region = self._client.meta.region_name
            place = {} if region in (None, "us-east-1") else {"LocationConstraint": region}
            more = {"CreateBucketConfiguration": place} if place and self._region else {}
            with self._calling("making the bucket"):
                self._client.create_bucket(Bucket=self._bucket, **more)
            return True
        return False

    def prove(self) -> None:
        with self._calling("listing it", reads=True):
            self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1, **self._paying)

    def close(self) -> None:
        self._client.close()

    def _write(self, key: str, body: bytes, *, absent: bool) -> None:
        condition = {"IfNoneMatch": "*"} if absent else {}
        answer = self._client.put_object(**self._at(key), Body=body, **condition)
        # Not an answer of S3, unless it was cut off at the deadline: something between answers 200 for it.
        if not answer.get("ETag") and not self._watchdog.fired:
            raise SinkUnavailable(f"{self.root}: writing {key}: the answer names no ETag; what it took is unknown")

    def _read(self, key: str) -> bytes:
        body: bytes = self._client.get_object(**self._at(key))["Body"].read()
        return body

    def _look(self, key: str) -> Stored:
        answer = self._client.head_object(**self._at(key))
        return Stored(int(answer["ContentLength"]), str(answer.get("ETag", "")).strip('"'))

    def _remove(self, key: str) -> None:
        self._client.delete_object(**self._at(key))

    def _names(self, prefix: str) -> Iterator[str]:
        request = {"Bucket": self._bucket, "Prefix": prefix, **self._paying}
        while True:
            page = self._client.list_objects_v2(**request)
            yield from (found["Key"] for found in page.get("Contents", ()))
            token = page.get("NextContinuationToken")
            if not page.get("IsTruncated") or not token:
                return
            request["ContinuationToken"] = token

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key, **self._paying}

    def _watch(self) -> None:
        """Put the client's connections under the deadline, those through a proxy too."""
        from botocore.awsrequest import AWSHTTPConnectionPool, AWSHTTPSConnectionPool
        from botocore.handlers import add_expect_header

        session = self._client._endpoint.http_session
        session._pool_classes_by_scheme = self._pools(AWSHTTPConnectionPool, AWSHTTPSConnectionPool)
        session._manager.pool_classes_by_scheme = session._pool_classes_by_scheme
        # Where a bucket turns out to lie elsewhere, HeadBucket asks HeadBucket, without end.
        events = self._client.meta.events
        events.register("before-call.s3.HeadBucket", _do_not_redirect)
        # `Expect: 100-continue` costs a round trip for each object, and a second where a server does not know it.
        events.unregister("before-call.s3", add_expect_header)

    def _sign_in(self) -> None:
        credentials = self._client._request_signer._credentials
        needs = getattr(credentials, "refresh_needed", None)
        if needs is not None and needs():
            self._within(credentials.get_frozen_credentials)

    def _diagnose(self, error: Exception, action: str) -> Diagnosis:
        return diagnose(error, action, self._remedies)

    def _meaning(self, error: Exception, action: str) -> SinkError:
        if _answer_of(error).code in _UNKNOWN_CONDITION:
            return _ConditionUnknown(f"{action}: the store does not know a part of the request (NotImplemented)")
        # The answer to HEAD has no body: 404 may be the object or the bucket, and whoever lists learns which.
        if getattr(error, "operation_name", "") in ("HeadObject", "HeadBucket") and _answer_of(error).status == 404:
            return ObjectAbsent(f"{action}: 404")
        return super()._meaning(error, action)

    def _answer(self, error: Exception) -> Answer:
        return _answer_of(error)


class _ConditionUnknown(SinkMisconfigured):
    """The server refuses a request for a header that it does not know."""


def _do_not_redirect(context: dict[str, Any], **_: Any) -> None:
    context.setdefault("s3_redirect", {})["redirected"] = True


def _answer_of(error: Exception) -> Answer:
    said: dict[str, Any] = getattr(error, "response", None) or {}
    metadata = said.get("ResponseMetadata", {})
    return Answer(
        str(said.get("Error", {}).get("Code", "")),
        int(metadata.get("HTTPStatusCode", 0)),
        metadata.get("HTTPHeaders", {}),
    )


def _identity(access: S3Access) -> str:
    if access.anonymous:
        return "anonymously"
    own = f"as access key {access.access_key.get_secret_value()[:8]}…" if access.access_key else "as the machine itself"
    if access.profile:
        own = f"as profile {access.profile}"
    return f"as the role {access.role_arn}" if access.role_arn else own
