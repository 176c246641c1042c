"""S3 and everything that speaks it as a store."""

from collections.abc import Iterator
from typing import Any

from eventferry import clock
from eventferry.clients.s3 import S3Options, connect, require_boto3
from eventferry.clients.s3_errors import explain
from eventferry.errors import ObjectChanged, ObjectGone
from eventferry.store import remote
from eventferry.store.base import StoreObject
from eventferry.store.remote import Place, RemoteReader, explained, is_wanted, prove
from eventferry.store.transports import transport


class S3Store:
    """The objects of a bucket below a prefix. Keys are relative to the prefix; the prefix counts as a folder.

    A version is the ETag with the size. Keys that end in `/` are placeholders of folders and left out.
    """

    def __init__(self, place: Place, options: S3Options | None = None) -> None:
        self._place = place
        self._options = options or S3Options()
        self._paying = {"RequestPayer": "requester"} if self._options.requester_pays else {}
        self.root = place.root
        self.list_calls = 0
        self.skipped_names = 0
        require_boto3()

    @classmethod
    def from_url(cls, url: str, options: S3Options) -> "S3Store":
        """From `s3://bucket/prefix`. Raises ConfigError."""
        return cls(Place.of(url, "bucket", "move them to access_key and secret_key"), options)

    def list(self, start_after: str | None = None, prefix: str = "") -> Iterator[StoreObject]:
        """Objects in key order after `start_after`, a page of up to 1000 at a time, as far as the caller reads."""
        place = self._place
        request: dict[str, Any] = {"Bucket": place.bucket, "Prefix": place.prefix + prefix, **self._paying}
        request["MaxKeys"] = remote.PAGE_KEYS
        if start_after:
            request["StartAfter"] = place.prefix + start_after
        while True:
            page = self._page(request)
            for found in page.get("Contents", ()):
                key = place.key(found["Key"])
                if key is not None and is_wanted(key, start_after, prefix):
                    yield StoreObject(key, _version(found), found["Size"], clock.to_ms(found["LastModified"]))
            token = page.get("NextContinuationToken")
            if not page.get("IsTruncated") or not token:
                return
            request["ContinuationToken"] = token

    def open(self, key: str, version: str) -> RemoteReader:
        """The object at `key`; every request for its bytes is pinned to `version`."""
        etag, _, size = version.rpartition("-")
        pinned: Any = _PinnedClient(self._client(), etag, int(size), self._paying)
        # By bucket and key, not by URL: the URL form takes `?versionId=` and line ends in keys for its own.
        with explained(explain, f"reading {self._place.name(key)}"):
            source = transport("s3").open(self._place.bucket, self._place.prefix + key, "rb", client=pinned)
        return RemoteReader(source, int(size), self._place.name(key), explain)

    def check(self) -> tuple[str, ...]:
        """Prove that the prefix can be listed and its first object read."""
        return prove(self)

    def close(self) -> None:
        """Connections are shared within the process and stay."""

    def _page(self, request: dict[str, Any]) -> dict[str, Any]:
        self.list_calls += 1
        with explained(explain, f"listing {self.root}"):
            page: dict[str, Any] = self._client().list_objects_v2(**request)
        return page

    def _client(self) -> Any:
        with explained(explain, f"connecting to {self.root}"):
            return connect(self._options)


class _PinnedClient:
    """The one call that smart_open makes when it reads, bound to a version."""

    def __init__(self, client: Any, etag: str, size: int, paying: dict[str, str]) -> None:
        self._client = client
        self._etag = etag
        self._size = size
        self._extra = {**paying, **({"IfMatch": f'"{etag}"'} if etag else {})}

    def get_object(self, **request: Any) -> Any:
        from botocore.exceptions import ClientError

        place = f"s3://{request['Bucket']}/{request['Key']}"
        try:
            answer = self._client.get_object(**request, **self._extra)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if code == "InvalidRange":
                raise  # an empty object: smart_open deals with it
            if status == 412 or code == "PreconditionFailed":
                raise ObjectChanged(f"{place}: changed since it was listed") from error
            if code in ("NoSuchKey", "NoSuchVersion") or (status == 404 and code != "NoSuchBucket"):
                raise ObjectGone(f"{place}: no longer there") from error
            raise explain(error, f"reading {place}") from error
        # Some servers take If-Match and do not look at it.
        if (self._etag and _bare(answer.get("ETag", "")) != self._etag) or _whole_size(answer) != self._size:
            answer["Body"].close()
            raise ObjectChanged(f"{place}: changed since it was listed")
        if "ContentRange" in answer:
            # Some servers send a range with status 200, which smart_open takes for the whole object: bytes get lost.
            answer["ResponseMetadata"]["HTTPStatusCode"] = 206
        return answer


def _version(found: dict[str, Any]) -> str:
    return f"{_bare(found.get('ETag', ''))}-{found['Size']}"


def _bare(etag: str) -> str:
    return etag.removeprefix("W/").strip('"')


def _whole_size(answer: dict[str, Any]) -> int:
    """The size of the whole object, of an answer that may hold only a range of it."""
    range_of = answer.get("ContentRange", "")
    return int(range_of.rpartition("/")[2]) if range_of else int(answer["ContentLength"])
