"""Opens the files of finished exports, wherever they lie: in the folder of exports, or in the operator's bucket."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from eventferry.errors import ObjectGone
from eventferry.exports.bucket import Bucket
from eventferry.exports.desk import Desk
from eventferry.exports.refusals import Gone, NotFound, NotReady
from eventferry.ledger import exports
from eventferry.ledger.exports import ExportRow, FileRow

# Lists the files of an export with their counts and digests.
MANIFEST = "manifest.json"
# How much of a file in a bucket is asked for at once, and held in memory.
AHEAD = 1024 * 1024


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file of an export, open for reading from its start, and seekable; whoever gets it closes it."""

    row: FileRow
    export: ExportRow
    file: BinaryIO


def open_linked_file(desk: Desk, export_id: str, name: str) -> OpenFile:
    """A file of a complete export, for whoever holds a link that was checked; MANIFEST is one, too.

    Raises NotFound, Gone and NotReady; StoreError, here or as it is read, where the bucket does not answer.
    """
    with desk.ledger.read() as tx:
        export = exports.get(tx, export_id)
        if export is None or export.deleted_ms is not None:
            raise NotFound(f"there is no export {export_id}")
        found = {each.name: each for each in exports.files(tx, export_id)}.get(name)
    if export.state == "expired":
        raise Gone(f"the files of export {export_id} have expired; make it again")
    if export.state != "complete":
        raise NotReady(f"export {export_id} is {export.state}; there are no files to download")
    if (found is None and name != MANIFEST) or export.destination["kind"] != "managed":
        raise NotFound(f"export {export_id} has no file {name!r} here")
    if export.place is not None:
        return _open_object(desk.bucket, export, found)
    path = desk.folder / export_id / name
    try:
        return OpenFile(found or _manifest(path.read_bytes()), export, path.open("rb"))
    except FileNotFoundError:  # it expired or was deleted just now
        raise _gone(export_id) from None


def _open_object(bucket: Bucket | None, export: ExportRow, found: FileRow | None) -> OpenFile:
    """The file from the bucket: nothing of it is asked for before it is read. Without `found`, the manifest."""
    if bucket is None or bucket.root != export.place:  # the configuration names another place now
        raise _gone(export.id)
    if found is None:
        try:
            content = bucket.fetch(export.id, MANIFEST)
        except ObjectGone:
            raise _gone(export.id) from None
        return OpenFile(_manifest(content), export, io.BytesIO(content))
    row = found

    def read(start: int, end: int) -> bytes:
        try:
            return bucket.read(export.id, row.name, start, end, row.bytes)
        except ObjectGone:
            raise _gone(export.id) from None

    file = io.BufferedReader(RangedReader(read, row.bytes), AHEAD)
    return OpenFile(row, export, cast(BinaryIO, file))


class RangedReader(io.RawIOBase):
    """A file of a known size that is read range by range; meant to be buffered. `read(start, end)` gives the bytes."""

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read = read
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        end = min(self._size, self._at + len(buffer))
        if end <= self._at:
            return 0
        data = self._read(self._at, end)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def readall(self) -> bytes:
        """All the rest; in blocks, as the answers to larger requests may break."""
        return b"".join(iter(lambda: self.read(AHEAD) or b"", b""))


def _manifest(content: bytes) -> FileRow:
    """The manifest as a file: it lies beside those that it lists, and is none of them."""
    return FileRow(MANIFEST, 0, 0, len(content), hashlib.sha256(content).hexdigest())


def _gone(export_id: str) -> Gone:
    return Gone(f"the files of export {export_id} are gone; make it again")
