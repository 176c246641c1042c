"""Puts finished files into a requester's own store, whole or not at all."""

import contextlib
import io
import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from eventferry.errors import EventferryError
from eventferry.exports.egress import Egress, EgressRefused
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
    note: Path | None = None,
    part_bytes: int = PART_BYTES,
) -> None:
    """Put each (file, name) below the target, in this order; an object of that name is replaced.

    `progress` gets the bytes that the store has taken, all files together; it only grows. `cancelled` is asked between
    parts. A file is visible when it is whole; where it fails or is cancelled, its parts are removed. Files that were
    finished before stay. Every request has a deadline and is tried up to four times. In the file `note` the upload at
    work is written down: parts that a killed process left are removed by the next call with the same note.

    Raises UploadFailed with a sentence for the requester, UploadCancelled, TargetRefused; ConfigError without boto3.
    """
    client = open_client(target, credentials, egress)
    places = ((path, {"Bucket": target.bucket, "Key": target.key(name)}) for path, name in files)
    try:
        put_files(client, places, progress=progress, cancelled=cancelled, note=note, part_bytes=part_bytes)
    except EgressRefused as error:
        raise explain_upload(error, target) from None
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


def put_files(
    client: Any,
    files: Iterable[tuple[Path, dict[str, str]]],
    *,
    progress: Callable[[int], None],
    cancelled: Callable[[], bool],
    note: Path | None,
    part_bytes: int = PART_BYTES,
) -> None:
    """The same through an S3 client for each (file, place); a place is Bucket, Key and what all requests are to have.

    Raises UploadCancelled, UploadFailed, OSError for a file that cannot be read, and what the client raises.
    """
    sent = 0
    _clear_leftovers(client, note)
    for path, place in files:
        with contextlib.closing(_put(client, place, path, part_bytes, cancelled, note)) as taken_parts:
            for taken in taken_parts:
                sent += taken
                progress(sent)


def _put(
    client: Any, place: dict[str, str], path: Path, part_bytes: int, cancelled: Callable[[], bool], note: Path | None
) -> Generator[int, None, None]:
    """Put one file; the sizes of its parts as the store takes them."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if cancelled():
            raise UploadCancelled()
        if size <= part_bytes:
            client.put_object(**place, Body=_Window(file, 0, size), ContentLength=size)
            yield size
            return
        # Rounded up to a MiB, so that 10,000 parts are enough for any size.
        part = max(part_bytes, SMALLEST_PART, -(-size // MOST_PARTS // 2**20) * 2**20)
        with _multipart(client, place, note) as upload_id:
            yield from _put_parts(client, {**place, "UploadId": upload_id}, file, size, part, cancelled)


def _put_parts(
    client: Any, place: dict[str, str], file: BinaryIO, size: int, part: int, cancelled: Callable[[], bool]
) -> Iterator[int]:
    done: list[dict[str, Any]] = []
    for number, start in enumerate(range(0, size, part), 1):
        if cancelled():
            raise UploadCancelled()
        window = _Window(file, start, min(part, size - start))
        answer = client.upload_part(**place, PartNumber=number, Body=window, ContentLength=window.size)
        done.append({"PartNumber": number, "ETag": answer["ETag"]})
        yield window.size
    client.complete_multipart_upload(**place, MultipartUpload={"Parts": done})


@contextlib.contextmanager
def _multipart(client: Any, place: dict[str, str], note: Path | None) -> Iterator[str]:
    """The id of a new upload in parts; they are removed where the block does not end well."""
    upload_id: str = client.create_multipart_upload(**place)["UploadId"]
    try:
        if note is not None:
            note.write_text(json.dumps({**place, "UploadId": upload_id}))
        yield upload_id
    except BaseException:
        with contextlib.suppress(Exception):  # what went wrong first is told
            client.abort_multipart_upload(**place, UploadId=upload_id)
        raise
    finally:
        if note is not None:
            note.unlink(missing_ok=True)


def _clear_leftovers(client: Any, note: Path | None) -> None:
    """Remove the parts of an upload that was at work when its process was killed."""
    if note is None or not note.exists():
        return
    with contextlib.suppress(Exception):  # half a note, or an upload that had ended: nothing is left to remove
        client.abort_multipart_upload(**json.loads(note.read_text()))
    note.unlink(missing_ok=True)


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
        wanted = left if size < 0 else min(size, left)
        data = os.pread(self._descriptor, wanted, self._start + self._at)
        if wanted and not data:  # the store would wait for the rest
            raise UploadFailed("the export's file became shorter as it was sent", temporary=True)
        self._at += len(data)
        return data

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
