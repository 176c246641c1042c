"""What stores over a network have in common: a prefix that is a folder, readers that know their length, check."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from eventferry.errors import ConfigError, StoreError
from eventferry.store.base import Store

# Objects that are asked for in one listing request; S3 and GCS give no more than these.
PAGE_KEYS = 1000
# Stored bytes that are asked for at once where a provider's client knows no streaming: what a reader holds in memory,
# and at 50 ms a request 40 MB/s.
RANGE_BYTES = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket (container) and the prefix in it, "" or ending in `/`."""

    scheme: str
    bucket: str
    prefix: str

    @classmethod
    def of(cls, url: str, what: str, remedy: str) -> "Place":
        """From `scheme://bucket/prefix`; `what` is it a URL of, `remedy` says where credentials belong.

        Raises ConfigError, which never shows a URL that holds credentials.
        """
        parts = urlsplit(url)
        if "@" in parts.netloc:
            raise ConfigError(f"an {parts.scheme}:// url holds credentials; {remedy}")
        if not parts.netloc or parts.query or parts.fragment:
            raise ConfigError(f"{url!r} is not the url of a {what}; expected {parts.scheme}://{what}/prefix")
        return cls(parts.scheme, parts.netloc, folder_of(parts.path))

    @property
    def root(self) -> str:
        """Names the place, without the slash at its end."""
        return f"{self.scheme}://{self.bucket}/{self.prefix}".rstrip("/")

    def name(self, key: str) -> str:
        """Names an object to people."""
        return f"{self.scheme}://{self.bucket}/{self.prefix}{key}"

    def key(self, full: str) -> str | None:
        """The key of an object below the prefix; None for placeholders of folders and for what lies elsewhere."""
        if full.endswith("/") or not full.startswith(self.prefix):
            return None
        return full[len(self.prefix) :]


def folder_of(path: str) -> str:
    """A prefix as a folder: "" or ending in `/`."""
    return f"{path.strip('/')}/" if path.strip("/") else ""


def is_wanted(key: str | None, start_after: str | None, prefix: str) -> bool:
    """Whether a listing is to give the key; not every server honours what it was asked for."""
    return key is not None and key.startswith(prefix) and (not start_after or key > start_after)


@contextmanager
def explained(explain: Callable[[BaseException, str], StoreError], action: str) -> Iterator[None]:
    """Turn what a provider's client raises into StoreError with the operator's remedy."""
    try:
        yield
    except (StoreError, ConfigError):
        raise
    except Exception as error:
        raise explain(error, action) from error


class RemoteReader(io.RawIOBase):
    """The bytes of one object version, streamed; each request for them was pinned by whoever made `source`."""

    def __init__(self, source: Any, size: int, place: str, explain: Callable[[BaseException, str], StoreError]) -> None:
        self._place = place
        self._missing = size
        self._source = source
        self._explain = explain

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        with explained(self._explain, f"reading {self._place}"):
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


def prove(store: Store) -> tuple[str, ...]:
    """Prove that the store can be listed and its first object read; one sentence each. Raises StoreError."""
    first = next(store.list(), None)
    if first is None:
        return (f"{store.root} can be listed; it holds no objects yet",)
    reader = store.open(first.key, first.version)
    try:
        reader.read(1)
    finally:
        reader.close()
    return f"{store.root} can be listed", f"{first.key} can be read"
