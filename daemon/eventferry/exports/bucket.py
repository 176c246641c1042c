"""The operator's bucket, where finished exports lie if `[exports] directory` says so: `<prefix>/<export id>/<name>`."""

import contextlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from eventferry import installing
from eventferry.clients.s3 import S3Options, connect
from eventferry.clients.s3_errors import explain
from eventferry.errors import ConfigError, EventferryError, ObjectGone, StoreError

# Of one range, where a connection breaks in the middle of the answer; the SDK itself repeats whole requests only.
READS = 3

_RIGHTS = (
    "allow the credentials of [exports.s3] s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload on "
    "the objects, s3:ListBucket and s3:ListBucketMultipartUploads on the bucket"
)
_WRONG_BUCKET = "there is no such bucket; mend [exports] directory, or endpoint in [exports.s3]"
_WRONG_REGION = "the bucket lies in another region; set region in [exports.s3]"
_REMEDIES = {
    "AccessDenied": _RIGHTS,
    "403": _RIGHTS,
    "NoSuchBucket": _WRONG_BUCKET,
    "404": _WRONG_BUCKET,
    "PermanentRedirect": _WRONG_REGION,
    "AuthorizationHeaderMalformed": _WRONG_REGION,
    "IllegalLocationConstraintException": _WRONG_REGION,
    "301": _WRONG_REGION,
    "NoRegionError": "no region is set; set region in [exports.s3]",
    "QuotaExceeded": "the store is full",
    "InvalidBucketName": "the bucket's name is not valid; mend [exports] directory",
    "ParamValidationError": "the bucket's name is not valid; mend [exports] directory",
}


@dataclass(frozen=True, slots=True)
class Bucket:
    """A place in an object store, reached with the operator's own credentials. Picklable; never shows a secret."""

    name: str
    prefix: str  # "" or ending in /
    options: S3Options = field(repr=False)

    @classmethod
    def of(cls, url: str, options: dict[str, Any]) -> "Bucket":
        """From `s3://bucket/prefix` and the options of `[exports.s3]`. Raises ConfigError."""
        parts = urlsplit(url)
        prefix = parts.path.strip("/")
        return cls(parts.netloc, f"{prefix}/" if prefix else "", S3Options.of(tuple(sorted(options.items()))))

    @property
    def root(self) -> str:
        """Names the place: s3://bucket/prefix."""
        return f"s3://{self.name}/{self.prefix}".rstrip("/")

    def put(
        self,
        export_id: str,
        files: Sequence[Path],
        *,
        progress: Callable[[int], None],
        cancelled: Callable[[], bool],
        note: Path,
    ) -> None:
        """Put the files below the export's id, in this order; see s3_destination.upload for the rest.

        Raises StoreError, UploadCancelled, UploadFailed, ConfigError; OSError for a file that cannot be read.
        """
        from eventferry.exports.s3_destination import put_files  # what sends is not needed to read

        places = [(path, self._place(export_id, path.name)) for path in files]
        with self._explained(f"writing to {self.root}") as client:
            put_files(client, places, progress=progress, cancelled=cancelled, note=note)

    def read(self, export_id: str, name: str, start: int, end: int, size: int) -> bytes:
        """The bytes from `start` to `end` of a file of that size. Raises ObjectGone, StoreError."""
        where = f"reading {self.root}/{export_id}/{name}"
        for attempt in range(1, READS + 1):
            with self._explained(where) as client:
                answer = client.get_object(**self._place(export_id, name), Range=f"bytes={start}-{end - 1}")
                with contextlib.closing(answer["Body"]) as body:
                    if _range_of(answer) != f"bytes {start}-{end - 1}/{size}":
                        raise StoreError(f"{where}: the object is not the file that was put there")
                    try:
                        data: bytes = body.read()
                    except Exception:  # the connection broke
                        if attempt == READS:
                            raise
                    else:
                        return data
        raise AssertionError("unreachable")

    def fetch(self, export_id: str, name: str) -> bytes:
        """A small file, whole. Raises ObjectGone, StoreError."""
        with self._explained(f"reading {self.root}/{export_id}/{name}") as client:
            data: bytes = client.get_object(**self._place(export_id, name))["Body"].read()
        return data

    def remove(self, export_id: str) -> None:
        """Remove every object of the export, and every upload that was begun. Raises StoreError."""
        with self._explained(f"removing exports from {self.root}") as client:
            below = {"Bucket": self.name, "Prefix": f"{self.prefix}{export_id}/", **self._paying}
            for page in client.get_paginator("list_objects_v2").paginate(**below):
                for found in page.get("Contents", ()):
                    client.delete_object(Bucket=self.name, Key=found["Key"], **self._paying)
            with contextlib.suppress(Exception):  # not every server can list them, nor every account
                _abort_uploads(client, below)

    def check(self) -> tuple[str, ...]:
        """Prove that objects can be written, read, listed and deleted; sentences. Raises StoreError, ConfigError."""
        trial, content = f".check-{secrets.token_hex(8)}", b"eventferry check\n"
        with self._explained(f"writing to {self.root}") as client:
            client.put_object(**self._place(trial, "trial"), Body=content)
        try:
            if self.fetch(trial, "trial") != content:
                raise StoreError(f"reading {self.root}: other bytes came back than were written")
        finally:
            self.remove(trial)
        return (f"objects can be written to, read from and deleted in {self.root}",)

    @property
    def _paying(self) -> dict[str, str]:
        return {"RequestPayer": "requester"} if self.options.requester_pays else {}

    def _place(self, export_id: str, name: str) -> dict[str, str]:
        return {"Bucket": self.name, "Key": f"{self.prefix}{export_id}/{name}", **self._paying}

    @contextlib.contextmanager
    def _explained(self, action: str) -> Iterator[Any]:
        """The client; what it raises becomes StoreError with the operator's remedy, without the store's own text."""
        try:
            yield connect(self.options)
        except (EventferryError, MemoryError):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise  # a file of ours
            if _is_missing(error):
                raise ObjectGone(f"{action}: it is no longer there") from None
            raise explain(error, action, _REMEDIES) from None


def require_boto3() -> None:
    """Raise ConfigError where exports cannot be put into a bucket for want of a package."""
    import importlib.util

    if importlib.util.find_spec("boto3") is None:
        raise ConfigError(f"[exports] directory is a bucket, which needs boto3: {installing.command('eventferry[s3]')}")


def _abort_uploads(client: Any, below: dict[str, str]) -> None:
    for found in client.list_multipart_uploads(**below).get("Uploads", ()):
        client.abort_multipart_upload(Bucket=below["Bucket"], Key=found["Key"], UploadId=found["UploadId"])


def _range_of(answer: dict[str, Any]) -> str:
    """What the answer holds; a server that sends all of a small file need not say so."""
    size = answer["ContentLength"]
    return str(answer.get("ContentRange", f"bytes 0-{size - 1}/{size}"))


def _is_missing(error: Exception) -> bool:
    answer: dict[str, Any] = getattr(error, "response", None) or {}
    return answer.get("Error", {}).get("Code") in ("NoSuchKey", "NoSuchVersion")
