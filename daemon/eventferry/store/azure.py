"""Azure Blob Storage as a store."""

import io
from collections.abc import Iterator, Sequence
from typing import Any

from eventferry import clock
from eventferry.clients.azure import AzureOptions, connect, require_azure
from eventferry.clients.azure_errors import code_of, explain
from eventferry.errors import ObjectChanged, ObjectGone, StoreError
from eventferry.store import remote
from eventferry.store.base import StoreObject
from eventferry.store.remote import Place, RemoteReader, explained, is_wanted, prove
from eventferry.store.transports import transport


class AzureStore:
    """The objects of a container below a prefix. Keys are relative to the prefix; the prefix counts as a folder.

    A version is the ETag with the size. Placeholders of folders are left out, also those of hierarchical namespaces.
    """

    def __init__(self, place: Place, options: AzureOptions | None = None) -> None:
        self._place = place
        self._options = options or AzureOptions()
        self._honours_start = True  # until an answer shows otherwise
        self.root = place.root
        self.list_calls = 0
        self.skipped_names = 0
        require_azure()

    @classmethod
    def from_url(cls, url: str, options: AzureOptions) -> "AzureStore":
        """From `azure://container/prefix`. Raises ConfigError."""
        return cls(Place.of(url, "container", "move them to account_key or sas_token"), options)

    def list(self, start_after: str | None = None, prefix: str = "") -> Iterator[StoreObject]:
        """Objects in key order after `start_after`, a page of up to 1000 at a time, as far as the caller reads."""
        full = self._place.prefix + prefix
        after = self._place.prefix + start_after if start_after else ""
        for found in self._after(after, full) if after > full else self._flat(full):
            key = self._place.key(found.name)
            if key is None or not is_wanted(key, start_after, prefix) or _is_folder(found):
                continue
            yield StoreObject(key, f"{_bare(found.etag)}-{found.size}", found.size, clock.to_ms(found.last_modified))

    def open(self, key: str, version: str) -> RemoteReader:
        """The object at `key`; every request for its bytes is pinned to the ETag."""
        place, name = self._place.name(key), self._place.prefix + key
        pinned: Any = _PinnedBlob(self._container().get_blob_client(name), version, place)
        with explained(explain, f"reading {place}"):
            source = transport("azure").open(
                self._place.bucket, name, "rb", client=pinned, buffer_size=remote.RANGE_BYTES
            )
        return RemoteReader(source, pinned.size, place, explain)

    def check(self) -> tuple[str, ...]:
        """Prove that the prefix can be listed and its first object read."""
        return prove(self)

    def close(self) -> None:
        """Connections are shared within the process and stay."""

    def _after(self, after: str, prefix: str) -> Iterator[Any]:
        """What comes after a name: the service begins there since 2026; what is older is gone through by folders."""
        if self._honours_start:
            first = True
            for found in self._flat(prefix, start_from=after):
                if first and found.name < after:
                    self._honours_start = False
                    break
                first = False
                yield found
            else:
                return
        yield from self._by_folders(after, prefix)

    def _by_folders(self, after: str, prefix: str) -> Iterator[Any]:
        """What comes after a name, without listing the folders before it: look only into those on the way to it."""
        if not after.startswith(prefix):
            return  # all of the prefix comes before it
        folders = [prefix] + [after[: at + 1] for at in range(len(prefix), len(after)) if after[at] == "/"]
        for folder in reversed(folders):
            for entry in self._level(folder):
                if entry.name <= after or after.startswith(entry.name):
                    continue
                if entry.name.endswith("/"):
                    yield from self._flat(entry.name)
                else:
                    yield entry

    def _flat(self, prefix: str, **more: str) -> Iterator[Any]:
        listing = self._listing("list_blobs", name_starts_with=prefix, include=["metadata"], **more)
        for page in self._pages(listing):
            yield from page

    def _level(self, folder: str) -> Iterator[Any]:
        """The objects right in a folder and the folders in it, in order."""
        for page in self._pages(
            self._listing("walk_blobs", name_starts_with=folder, include=["metadata"], delimiter="/")
        ):
            yield from sorted(page, key=lambda entry: str(entry.name))  # the SDK gives folders and objects apart

    def _listing(self, method: str, **request: Any) -> Any:
        with explained(explain, f"listing {self.root}"):
            return getattr(self._container(), method)(results_per_page=remote.PAGE_KEYS, **request)

    def _pages(self, listing: Any) -> Iterator[Sequence[Any]]:
        pages = listing.by_page()
        while True:
            with explained(explain, f"listing {self.root}"):
                page = next(pages, None)
            if page is None:
                return
            self.list_calls += 1
            yield tuple(page)

    def _container(self) -> Any:
        with explained(explain, f"connecting to {self.root}"):
            return connect(self._options).get_container_client(self._place.bucket)


class _PinnedBlob:
    """The calls that smart_open makes when it reads, bound to a version."""

    def __init__(self, blob: Any, version: str, place: str) -> None:
        self._etag, _, size = version.rpartition("-")
        self.size = int(size)
        self._blob = blob
        self._place = place

    def get_blob_properties(self) -> dict[str, int]:
        """Nothing is asked yet, what there is to know was listed; an empty object is asked for now or never."""
        if not self.size:
            self._confirm(lambda **pinned: self._blob.get_blob_properties(**pinned))
        return {"size": self.size}

    def download_blob(self, *, offset: int, length: int | None = None, max_concurrency: int = 1) -> io.BytesIO:
        """A range of the object."""
        wanted = self.size - offset if length is None else min(length, self.size - offset)
        # The stored bytes, whatever Content-Encoding says.
        answer = self._confirm(
            lambda **pinned: self._blob.download_blob(offset=offset, length=wanted, decompress=False, **pinned)
        )
        with explained(self._explain, ""):
            data: bytes = answer.readall()
        if len(data) != wanted:
            raise StoreError(f"reading {self._place}: the answer is not as long as the object; it is tried again later")
        return io.BytesIO(data)

    def _confirm(self, ask: Any) -> Any:
        """What is asked for, if it is of the version. Raises ObjectGone, ObjectChanged, StoreError."""
        from azure.core import MatchConditions

        with explained(self._explain, ""):
            answer = ask(etag=f'"{self._etag}"', match_condition=MatchConditions.IfNotModified)
        found = getattr(answer, "properties", answer)
        if _bare(found.etag) != self._etag:
            raise ObjectChanged(f"{self._place}: changed since it was listed")
        return answer

    def _is_there(self) -> bool:
        """Whether there is an object at all: a condition on the ETag of none does not hold either."""
        try:
            return bool(self._blob.exists())
        except Exception:
            return True  # so it will be listed and read again

    def _explain(self, error: BaseException, _: str) -> StoreError:
        code, status = code_of(error)
        if status == 412 and self._is_there():
            return ObjectChanged(f"{self._place}: changed since it was listed")
        if status == 412 or (status == 404 and code != "ContainerNotFound"):
            return ObjectGone(f"{self._place}: no longer there")
        return explain(error, f"reading {self._place}")


def _bare(etag: str) -> str:
    return etag.strip('"')


def _is_folder(found: Any) -> bool:
    return str((found.metadata or {}).get("hdi_isfolder", "")).lower() == "true"
