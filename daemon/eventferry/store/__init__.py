"""Where raw files lie: which store a URL means.

Index workers import this package, so nothing heavy is imported before a store is opened.
"""

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from eventferry.errors import ConfigError
from eventferry.store.base import ObjectReader, Store, StoreObject

__all__ = ["EXPECTED", "ObjectReader", "Store", "StoreObject", "StoreSpec", "open_store"]

EXPECTED = "a path, file:///path, s3://bucket/prefix, gs://bucket/prefix or azure://container/prefix"


@dataclass(frozen=True)
class StoreSpec:
    """All that is needed to open a store, in any process. `options` may hold secrets and is never shown."""

    url: str
    options: tuple[tuple[str, object], ...] = field(default=(), repr=False)

    @property
    def is_remote(self) -> bool:
        """Whether a network lies between: each request costs time, and many at once cost no more."""
        return _scheme_of(self.url) != "file"


def open_store(spec: StoreSpec) -> Store:
    """The store that `spec.url` names: a directory, S3, GCS or Azure; see EXPECTED. Does no I/O.

    Raises ConfigError.
    """
    scheme = _scheme_of(spec.url)
    if scheme == "file":
        from eventferry.store.directory import DirectoryStore

        if spec.options:
            named = ", ".join(name for name, _ in spec.options)
            raise ConfigError(f"a directory store has no options, remove: {named}")
        return DirectoryStore(_local_path(spec.url))
    if scheme == "s3":
        from eventferry.clients.s3 import S3Options
        from eventferry.store.s3 import S3Store

        return S3Store.from_url(spec.url, S3Options.of(spec.options))
    if scheme == "gs":
        from eventferry.clients.gcs import GcsOptions
        from eventferry.store.gcs import GcsStore

        return GcsStore.from_url(spec.url, GcsOptions.of(spec.options))
    if scheme == "azure":
        from eventferry.clients.azure import AzureOptions
        from eventferry.store.azure import AzureStore

        return AzureStore.from_url(spec.url, AzureOptions.of(spec.options))
    raise ConfigError(f"stores of kind {scheme}:// are not supported; expected {EXPECTED}")


def _scheme_of(url: str) -> str:
    return urlsplit(url).scheme if "://" in url else "file"


def _local_path(url: str) -> str:
    if not url.startswith("file://"):
        return url
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise ConfigError(f"{url!r} names the host {parts.netloc!r}; expected file:///absolute/path")
    return unquote(parts.path)
