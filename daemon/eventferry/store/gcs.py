"""Google Cloud Storage as a store."""

import base64
from collections.abc import Iterator
from typing import Any

from eventferry import clock
from eventferry.clients.gcs import GcsOptions, connect, require_gcs
from eventferry.clients.gcs_errors import explain, status_of
from eventferry.errors import ObjectChanged, ObjectGone, StoreError
from eventferry.store import remote
from eventferry.store.base import StoreObject
from eventferry.store.remote import Place, RemoteReader, explained, is_wanted, prove
from eventferry.store.transports import transport

_FIELDS = "items(name,generation,size,timeCreated,crc32c),nextPageToken"


class GcsStore:
    """The objects of a bucket below a prefix. Keys are relative to the prefix; the prefix counts as a folder.

    A version is the generation with size and CRC32C. Keys that end in `/` are placeholders of folders and left out.
    """

    def __init__(self, place: Place, options: GcsOptions | None = None) -> None:
        self._place = place
        self._options = options or GcsOptions()
        self.root = place.root
        self.list_calls = 0
        self.skipped_names = 0
        require_gcs()

    @classmethod
    def from_url(cls, url: str, options: GcsOptions) -> "GcsStore":
        """From `gs://bucket/prefix`. Raises ConfigError."""
        return cls(Place.of(url, "bucket", "write them to a file and name it in credentials_file"), options)

    def list(self, start_after: str | None = None, prefix: str = "") -> Iterator[StoreObject]:
        """Objects in key order after `start_after`, a page of up to 1000 at a time, as far as the caller reads."""
        with explained(explain, f"listing {self.root}"):
            listing = self._client().list_blobs(
                self._bucket(),
                prefix=self._place.prefix + prefix or None,
                start_offset=self._place.prefix + start_after if start_after else None,  # inclusive
                fields=_FIELDS,
                page_size=remote.PAGE_KEYS,
                timeout=self._options.timeout,
                retry=self._options.retry,
            )
        pages = listing.pages
        while (page := self._next_page(pages)) is not None:
            for found in page:
                key = self._place.key(found.name)
                if key is not None and is_wanted(key, start_after, prefix):
                    version = f"{found.generation}-{found.size}-{found.crc32c or ''}"
                    yield StoreObject(key, version, found.size, clock.to_ms(found.time_created))

    def open(self, key: str, version: str) -> RemoteReader:
        """The object at `key`; every request for its bytes is pinned to the generation."""
        place = self._place.name(key)
        pinned: Any = _Pinned(self._bucket(), self._place.prefix + key, version, self._options, place)
        with explained(explain, f"reading {place}"):
            source = transport("gcs").open(self._place.bucket, self._place.prefix + key, "rb", client=pinned)
        return RemoteReader(source, pinned.size, place, explain)

    def check(self) -> tuple[str, ...]:
        """Prove that the prefix can be listed and its first object read."""
        return prove(self)

    def close(self) -> None:
        """Connections are shared within the process and stay."""

    def _next_page(self, pages: Iterator[Any]) -> Any:
        self.list_calls += 1
        with explained(explain, f"listing {self.root}"):
            return next(pages, None)

    def _bucket(self) -> Any:
        return self._client().bucket(self._place.bucket, user_project=self._options.user_project)

    def _client(self) -> Any:
        with explained(explain, f"connecting to {self.root}"):
            return connect(self._options)


class _Pinned:
    """What smart_open asks for when it reads, client, bucket and object in one, bound to a generation."""

    def __init__(self, bucket: Any, name: str, version: str, options: GcsOptions, place: str) -> None:
        generation, size, crc = version.split("-")
        self.size = int(size)
        self._generation = int(generation)
        self._wanted_crc = crc
        self._bucket = bucket
        self._blob = bucket.blob(name)
        self._options = options
        self._place = place
        self._read = 0
        self._crc = 0

    def bucket(self, name: str) -> "_Pinned":
        return self

    def get_blob(self, name: str) -> "_Pinned":
        """Nothing is asked yet, what there is to know was listed; an empty object is asked for now or never."""
        if not self.size:
            self._confirm()
        return self

    def open(self, mode: str) -> Any:
        from google.cloud.storage.fileio import BlobReader

        return BlobReader(self, chunk_size=remote.RANGE_BYTES, retry=self._options.retry)

    def download_as_bytes(self, *, start: int, end: int | None, checksum: None, retry: Any) -> bytes:
        """A range of the object; `end` is its last byte."""
        last = self.size - 1 if end is None else min(end, self.size - 1)
        if start > last:
            return b""
        try:
            data: bytes = self._blob.download_as_bytes(
                start=start,
                end=last,
                raw_download=True,  # the stored bytes, whatever Content-Encoding says
                checksum=None,
                if_generation_match=self._generation,
                timeout=self._options.timeout,
                retry=retry,
            )
        except Exception as error:
            raise self._explain(error) from error
        if self._blob.generation is None:
            self._confirm()  # a server that names none may not look at conditions either
        elif self._blob.generation != self._generation:
            raise ObjectChanged(f"{self._place}: changed since it was listed")
        self._check_crc(start, data)
        return data

    def _confirm(self) -> None:
        """Ask which generation is there now. Raises ObjectGone, ObjectChanged, StoreError."""
        try:
            now = self._bucket.get_blob(self._blob.name, timeout=self._options.timeout, retry=self._options.retry)
        except Exception as error:
            raise self._explain(error) from error
        if now is None:
            raise ObjectGone(f"{self._place}: no longer there")
        if now.generation != self._generation:
            raise ObjectChanged(f"{self._place}: changed since it was listed")

    def _check_crc(self, start: int, data: bytes) -> None:
        """Whether all that was read, from the first byte to the last, is what the listing's checksum is of."""
        import google_crc32c

        if start != self._read or not self._wanted_crc:
            return
        self._read += len(data)
        self._crc = google_crc32c.extend(self._crc, data)
        if self._read == self.size and base64.b64encode(self._crc.to_bytes(4, "big")).decode() != self._wanted_crc:
            raise StoreError(f"reading {self._place}: its bytes do not have its checksum; it is tried again later")

    def _explain(self, error: Exception) -> StoreError:
        status = status_of(error)
        if status == 404:
            return ObjectGone(f"{self._place}: no longer there")
        if status == 412:
            return ObjectChanged(f"{self._place}: changed since it was listed")
        return explain(error, f"reading {self._place}")
