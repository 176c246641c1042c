"""Puts the events of a batch into S3, as gzipped JSON lines with a manifest, under keys that only the batch decides."""

import contextlib
import json
from collections import Counter
from collections.abc import Mapping

from eventferry.sink import BatchRejected, SinkError
from eventferry.sink.columns import Column
from eventferry.sink.objects import Bucket
from eventferry.sink.rows import Rows, pieces
from eventferry.sink.wrapped import pack

FILE_BYTES = 8 * 1024 * 1024  # of events in one file: every slice of a cluster loads one at a time
LONGEST_ROW = 4_000_000  # bytes; COPY takes no longer one


class Stage:
    """The files of one batch at a time."""

    def __init__(self, bucket: Bucket, columns: Mapping[str, Column], lengths: Mapping[str, int]) -> None:
        """`lengths` are the bytes that text columns take."""
        self._bucket = bucket
        self._columns = columns
        self._lengths = {place: lengths[name] for place, name in enumerate(columns) if name in lengths}
        self._names = list(columns)
        self._keys: list[str] = []
        self.misfits: Counter[str] = Counter()
        self.sent = 0  # bytes

    def put(self, folder: str, body: bytes, batch_id: str) -> str:
        """Write the files, then the manifest; gives the manifest's URL. Raises SinkErrors."""
        self.misfits, self.sent, self._keys = Counter(), 0, []
        for number, some in enumerate(pieces(body, FILE_BYTES)):
            _check_rows(some)
            packed, misfits = pack(some, self._columns, batch_id, adjust=self._shorten)
            self.misfits += misfits
            self.sent += len(packed)
            self._put(f"{folder}/{number:04d}.json.gz", packed)
        entries = [{"url": f"{self._bucket.root}/{key}", "mandatory": True} for key in self._keys]
        manifest = f"{folder}/manifest"
        self._put(manifest, json.dumps({"entries": entries}, separators=(",", ":")).encode())
        return f"{self._bucket.root}/{manifest}"

    def clear(self) -> int:
        """Remove what was put last; how many objects could not be removed."""
        left = 0
        while self._keys:
            key = self._keys.pop()
            try:
                self._bucket.delete(key)
            except SinkError:  # the batch is delivered; what stays behind costs cents
                left += 1
        return left

    def sweep(self, folder: str) -> None:
        """Remove what an earlier attempt put, as far as that goes."""
        with contextlib.suppress(SinkError):
            self._keys = list(self._bucket.list(f"{folder}/"))
        self.clear()

    def _put(self, key: str, content: bytes) -> None:
        self._keys.append(key)
        self._bucket.put(key, content)

    def _shorten(self, rows: Rows) -> None:
        """Texts that are too long for their column do not fit."""
        for place, most in self._lengths.items():
            values = rows.values[place]
            if max((len(value) for value in values if value is not None), default=0) * 4 <= most:
                continue
            for number, value in enumerate(values):
                if value is not None and len(value.encode()) > most:
                    values[number] = None
                    self.misfits[self._names[place]] += 1


def _check_rows(lines: bytes) -> None:
    with contextlib.suppress(ValueError):
        start = 0
        while True:
            end = lines.index(b"\n", start)
            if end - start > LONGEST_ROW:
                raise BatchRejected(f"an event of {end - start} bytes is longer than COPY takes, {LONGEST_ROW} bytes")
            start = end + 1
