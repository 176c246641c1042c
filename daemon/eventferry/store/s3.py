"""S3 and everything that speaks it as a store."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from eventferry import clock
from eventferry.clients.s3 import S3Options, connect, require_boto3
from eventferry.clients.s3_errors import explain
from eventferry.errors import ConfigError, ObjectChanged, ObjectGone, StoreError
from eventferry.store.base import StoreObject


class S3Store:
    """The objects of a bucket below a prefix. Keys are relative to the prefix; the prefix counts as a folder.

    A version is the ETag with the size. Keys that end in `/` are placeholders of folders and left out.
    """

    def __init__(self, bucket: str, prefix: str = "", options: S3Options | None = None) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._options = options or S3Options()
        self._paying = {"RequestPayer": "requester"} if self._options.requester_pays else {}
        self.root = f"s3://{bucket}/{self._prefix}".rstrip("/")
        self.list_calls = 0
        self.skipped_names = 0
        require_boto3()

    @classmethod
    def from_url(cls, url: str, options: S3Options) -> "S3Store":
        """From `s3://bucket/prefix`. Raises ConfigError, which never shows a URL that holds credentials."""
        parts = urlsplit(url)
        if "@" in parts.netloc:
            raise ConfigError("an s3:// url holds credentials; move them to access_key and secret_key")
        if not parts.netloc or parts.query or parts.fragment:
            raise ConfigError(f"{url!r} is not the url of a bucket; expected s3://bucket/prefix")
        return cls(parts.netloc, parts.path, options)

    def list(self, start_after: str | None = None, prefix: str = "") -> Iterator[StoreObject]:
        """Objects in key order after `start_after`, a page of up to 1000 at a time, as far as the caller reads."""
        request = {"Bucket": self._bucket, "Prefix": self._prefix + prefix, **self._paying}
        if start_after:
            request["StartAfter"] = self._prefix + start_after
        while True:
            page = self._page(request)
            for found in page.get("Contents", ()):
                key = self._relative(found["Key"])
                # Not every server honours StartAfter and Prefix.
                if key is None or not key.startswith(prefix) or (start_after and key <= start_after):
                    continue
                yield StoreObject(key, _version(found), found["Size"], clock.to_ms(found["LastModified"]))
            token = page.get("NextContinuationToken")
            if not page.get("IsTruncated") or not token:
                return
            request["ContinuationToken"] = token

    def open(self, key: str, version: str) -> "S3Reader":
        """The object at `key`; every request for its bytes is pinned to `version`."""
        import smart_open.s3

        etag, _, size = version.rpartition("-")
        pinned: Any = _PinnedClient(self._client(), etag, int(size), self._paying)
        # By bucket and key, not by URL: the URL form takes `?versionId=` and line ends in keys for its own.
        with _explained(f"reading s3://{self._bucket}/{self._prefix}{key}"):
            source = smart_open.s3.open(self._bucket, self._prefix + key, "rb", client=pinned)
        return S3Reader(source, int(size), f"s3://{self._bucket}/{self._prefix}{key}")

    def check(self) -> tuple[str, ...]:
        """Prove that the prefix can be listed and its first object read."""
        first = next(self.list(), None)
        if first is None:
            return (f"{self.root} can be listed; it holds no objects yet",)
        reader = self.open(first.key, first.version)
        try:
            reader.read(1)
        finally:
            reader.close()
        return f"{self.root} can be listed", f"{first.key} can be read"

    def close(self) -> None:
        """Connections are shared within the process and stay."""

    def _page(self, request: dict[str, Any]) -> dict[str, Any]:
        self.list_calls += 1
        with _explained(f"listing {self.root}"):
            page: dict[str, Any] = self._client().list_objects_v2(**request)
        return page

    def _relative(self, full: str) -> str | None:
        if full.endswith("/") or not full.startswith(self._prefix):
            return None
        return full[len(self._prefix) :]

    def _client(self) -> Any:
        with _explained(f"connecting to {self.root}"):
            return connect(self._options)


class S3Reader(io.RawIOBase):
    """The bytes of one object version, streamed; a broken connection is resumed where it broke, still pinned."""

    def __init__(self, source: Any, size: int, place: str) -> None:
        self._place = place
        self._missing = size
        self._source = source

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        with _explained(f"reading {self._place}"):
            data: bytes = self._source.read(size)
        self._missing -= len(data)
        if self._missing < 0 or (self._missing and not data and size):
            raise StoreError(f"reading {self._place}: the answer is not as long as the object; it is tried again later")
        return data

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def verify(self) -> None:
        """Nothing to do: each answer was of the version asked for."""

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._source.close()


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


@contextmanager
def _explained(action: str) -> Iterator[None]:
    """Turn what the SDK raises into StoreError with the operator's remedy."""
    try:
        yield
    except (StoreError, ConfigError):
        raise
    except Exception as error:
        raise explain(error, action) from error


def _version(found: dict[str, Any]) -> str:
    return f"{_bare(found.get('ETag', ''))}-{found['Size']}"


def _bare(etag: str) -> str:
    return etag.removeprefix("W/").strip('"')


def _whole_size(answer: dict[str, Any]) -> int:
    """The size of the whole object, of an answer that may hold only a range of it."""
    range_of = answer.get("ContentRange", "")
    return int(range_of.rpartition("/")[2]) if range_of else int(answer["ContentLength"])
