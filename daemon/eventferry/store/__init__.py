"""Where raw files lie: which store a URL means.

Index workers import this package, so nothing heavy is imported before a store is opened.
"""

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from eventferry.errors import ConfigError
from eventferry.store.base import ObjectReader, Store, StoreObject

__all__ = ["ObjectReader", "Store", "StoreObject", "StoreSpec", "open_store"]


@dataclass(frozen=True)
class StoreSpec:
    """All that is needed to open a store, in any process. `options` may hold secrets and is never shown."""

    url: str
    options: tuple[tuple[str, object], ...] = field(default=(), repr=False)


def open_store(spec: StoreSpec) -> Store:
    """The store that `spec.url` names: a path, `file:///path` or `s3://bucket/prefix`. Does no I/O.

    Raises ConfigError.
    """
    scheme = urlsplit(spec.url).scheme if "://" in spec.url else "file"
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
    raise ConfigError(
        f"stores of kind {scheme}:// are not supported; expected a path, file:///path or s3://bucket/prefix"
    )


def _local_path(url: str) -> str:
    if not url.startswith("file://"):
        return url
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise ConfigError(f"{url!r} names the host {parts.netloc!r}; expected file:///absolute/path")
    return unquote(parts.path)
