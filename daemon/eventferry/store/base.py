"""What the pipeline asks of a store: list its objects in key order, open one version as raw bytes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoreObject:
    """One stored file version, as listed."""

    key: str  # relative to the source's root or prefix, `/`-separated
    version: str  # opaque; equal means the same bytes, as far as the store can tell (etag, or inode-size-mtime)
    size: int  # stored bytes
    modified_ms: int  # by the store's clock, epoch milliseconds


class ObjectReader(Protocol):
    """The stored bytes of one object version, read forward. Not shared between threads."""

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes, b"" at the end only. Raises ObjectChanged, StoreError."""
        ...

    def verify(self) -> None:
        """Raise ObjectChanged where the bytes read so far may be of another version than the one asked for.

        Reading to the end verifies by itself; whoever stops earlier calls this.
        """
        ...

    def close(self) -> None: ...


class Store(Protocol):
    """A place where raw files lie. Instances are used by one thread at a time and are cheap to make."""

    root: str  # names the place, without secrets: file:///srv/events, s3://bucket/prefix
    list_calls: int  # listing requests so far: pages of an object store, scanned directories of a file system
    skipped_names: int  # names met in listings that cannot be keys and were left out

    def list(self, start_after: str | None = None, prefix: str = "") -> Iterator[StoreObject]:
        """Objects in the order of their keys' UTF-8 bytes, strictly after `start_after`; streams.

        Raises StoreError.
        """
        ...

    def open(self, key: str, version: str) -> ObjectReader:
        """The stored bytes (still compressed) of exactly this version.

        Raises ObjectGone, ObjectChanged (at open or at any read), StoreError.
        """
        ...

    def check(self) -> tuple[str, ...]:
        """Ordered steps that prove the store can be listed and read, one sentence each. Raises StoreError."""
        ...

    def close(self) -> None: ...
