"""Puts finished files into a requester's own store, whole or not at all."""

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from eventferry.errors import EventferryError
from eventferry.exports.egress import Egress
from eventferry.exports.s3_client import S3Credentials, close_client, open_client
from eventferry.exports.s3_refusals import UploadFailed, explain_upload
from eventferry.exports.s3_target import S3Target, TargetRefused, parse_s3_path

__all__ = ["S3Credentials", "S3Target", "TargetRefused", "UploadCancelled", "UploadFailed", "parse_s3_path", "upload"]

PART_BYTES = 8 * 1024 * 1024
MOST_PARTS = 10_000  # of one object, by S3
SMALLEST_PART = 5 * 1024 * 1024  # by S3, but for the last one


class UploadCancelled(EventferryError):
    """It was asked to end; nothing of the file at work is left in the store."""

    def __init__(self) -> None:
        super().__init__("the upload was cancelled")


def upload(
    target: S3Target,
    credentials: S3Credentials,
    files: Sequence[tuple[Path, str]],
    egress: Egress,
    *,
    progress: Callable[[int], None] = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
    part_bytes: int = PART_BYTES,
) -> None:
    """Put each (file, name) below the target, in this order; an object of that name is replaced.

    `progress` gets the bytes that the store has taken, all files together; it only grows. `cancelled` is asked between
    parts. A file is visible when it is whole; where it fails or is cancelled, its parts are removed. Files that were
    finished before stay. Every request has a deadline and is tried up to four times.

    Raises UploadFailed with a sentence for the requester, UploadCancelled, TargetRefused; ConfigError without boto3.
    """
    client = open_client(target, credentials, egress)
    sent = 0
    try:
        for path, name in files:
            key = target.key(name)
            for taken in _put(client, target.bucket, key, path, part_bytes, cancelled):
                sent += taken
                progress(sent)
    except (EventferryError, MemoryError):
        raise
    except OSError as error:
        if error.filename is None:
            raise explain_upload(error, target) from None
        raise UploadFailed(f"the export's file cannot be read: {error.strerror}", temporary=True) from error
    except Exception as error:
        raise explain_upload(error, target) from None  # its text may quote headers and identities
    finally:
        close_client(client)


def _put(
    client: Any, bucket: str, key: str, path: Path, part_bytes: int, cancelled: Callable[[], bool]
) -> Iterator[int]:
    """Put one file; the sizes of its parts as the store takes them."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if cancelled():
            raise UploadCancelled()
        if size <= part_bytes:
            client.put_object(Bucket=bucket, Key=key, Body=file, ContentLength=size)
            yield size
            return
        # Rounded up to a MiB, so that 10,000 parts are enough for any size.
        part = max(part_bytes, SMALLEST_PART, -(-size // MOST_PARTS // 2**20) * 2**20)
        yield from _put_parts(client, {"Bucket": bucket, "Key": key}, file, size, part, cancelled)


def _put_parts(
    client: Any, place: dict[str, str], file: BinaryIO, size: int, part: int, cancelled: Callable[[], bool]
) -> Iterator[int]:
    place = {**place, "UploadId": client.create_multipart_upload(**place)["UploadId"]}
    done: list[dict[str, Any]] = []
    try:
        for number, start in enumerate(range(0, size, part), 1):
            if cancelled():
                raise UploadCancelled()
            window = _Window(file, start, min(part, size - start))
            answer = client.upload_part(**place, PartNumber=number, Body=window, ContentLength=window.size)
            done.append({"PartNumber": number, "ETag": answer["ETag"]})
            yield window.size
        client.complete_multipart_upload(**place, MultipartUpload={"Parts": done})
    except BaseException:
        with contextlib.suppress(Exception):  # what went wrong first is told
            client.abort_multipart_upload(**place)
        raise


class _Window(io.RawIOBase):
    """A range of a file as a file of its own, read in blocks: no part is ever held in memory."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._descriptor = file.fileno()
        self._start = start
        self._at = 0
        self.size = size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        left = max(0, self.size - self._at)
        data = os.pread(self._descriptor, left if size < 0 else min(size, left), self._start + self._at)
        self._at += len(data)
        return data

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
