"""Every kind of store, filled in the same way: the same truths are asked of each."""

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.azurite_server import AzuriteServer, azurite_server
from tests.gcs_server import GcsServer, gcs_server
from tests.servers import S3Server, s3_server
from tests.swift_server import SwiftServer, swift_server

from eventferry.store import Store, StoreObject, StoreSpec, open_store

_numbers = itertools.count()


@dataclass
class Place:
    """A store under test with a way to put files into it."""

    store: Store
    spec: StoreSpec
    kind: str

    def put(self, key: str, content: bytes = b"{}\n") -> None:
        """Create or replace an object."""
        raise NotImplementedError

    def remove(self, key: str) -> None:
        raise NotImplementedError

    def vanish(self) -> None:
        """Remove the bucket, or the directory."""
        raise NotImplementedError

    def elsewhere(self, bucket: str) -> StoreSpec:
        """The same prefix of another bucket."""
        scheme, _, rest = self.spec.url.partition("://")
        return StoreSpec(f"{scheme}://{bucket}/{rest.partition('/')[2]}", self.spec.options)

    def changed(self, **options: object) -> StoreSpec:
        """The same place with other options; None removes one."""
        given = {**dict(self.spec.options), **options}
        return StoreSpec(self.spec.url, tuple(sorted((k, v) for k, v in given.items() if v is not None)))

    def keys(self, start_after: str | None = None, prefix: str = "") -> list[str]:
        return [found.key for found in self.store.list(start_after, prefix)]

    def find(self, key: str) -> StoreObject:
        return next(found for found in self.store.list() if found.key == key)

    def read(self, found: StoreObject) -> bytes:
        return read(self.store, found)


@dataclass
class FilePlace(Place):
    """What is served lies in a folder."""

    folder: Path
    times: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1_790_000_000))

    def put(self, key: str, content: bytes = b"{}\n") -> None:
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        moment = next(self.times)  # a new one each: it is all that tells two versions of equal length apart
        os.utime(path, (moment, moment))

    def remove(self, key: str) -> None:
        (self.folder / key).unlink()

    def vanish(self) -> None:
        import shutil

        shutil.rmtree(self.folder.parent if self.kind == "s3" else self.folder)


@dataclass
class SwiftPlace(Place):
    """A bucket of Swift's S3."""

    client: Any
    bucket: str

    def put(self, key: str, content: bytes = b"{}\n") -> None:
        self.client.put_object(Bucket=self.bucket, Key=f"raw/{key}", Body=content)

    def remove(self, key: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=f"raw/{key}")

    def vanish(self) -> None:
        self.client.delete_bucket(Bucket=self.bucket)


@dataclass
class GcsPlace(Place):
    """A bucket of the emulator."""

    bucket: Any

    def put(self, key: str, content: bytes = b"{}\n") -> None:
        self.bucket.blob(f"raw/{key}").upload_from_string(content)

    def remove(self, key: str) -> None:
        self.bucket.blob(f"raw/{key}").delete()

    def vanish(self) -> None:
        self.bucket.delete()


@dataclass
class AzurePlace(Place):
    """A container of Azurite."""

    container: Any

    def put(self, key: str, content: bytes = b"{}\n") -> None:
        self.container.upload_blob(f"raw/{key}", content, overwrite=True)

    def remove(self, key: str) -> None:
        self.container.delete_blob(f"raw/{key}")

    def vanish(self) -> None:
        self.container.delete_container()


def read(store: Store, found: StoreObject) -> bytes:
    """All bytes of one version."""
    reader = store.open(found.key, found.version)
    try:
        return b"".join(iter(lambda: reader.read(65536), b""))
    finally:
        reader.close()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def swift() -> Iterator[SwiftServer]:
    with swift_server() as server:
        yield server


@pytest.fixture(scope="session")
def gcs() -> Iterator[GcsServer]:
    with gcs_server() as server:
        yield server


@pytest.fixture(scope="session")
def azurite() -> Iterator[AzuriteServer]:
    with azurite_server() as server:
        yield server


@pytest.fixture
def directory_place(tmp_path: Path) -> FilePlace:
    spec = StoreSpec(str(tmp_path / "events"))
    (tmp_path / "events").mkdir()
    return FilePlace(open_store(spec), spec, "directory", tmp_path / "events")


@pytest.fixture
def s3_place(s3: S3Server) -> FilePlace:
    bucket = f"bucket-{next(_numbers)}"
    folder = s3.folder / bucket / "raw"
    folder.mkdir(parents=True)
    spec = StoreSpec(f"s3://{bucket}/raw", s3.options())
    return FilePlace(open_store(spec), spec, "s3", folder)


@pytest.fixture
def swift_place(swift: SwiftServer) -> SwiftPlace:
    client, bucket = swift.client(), f"bucket-{next(_numbers)}"
    client.create_bucket(Bucket=bucket)
    spec = StoreSpec(f"s3://{bucket}/raw", swift.options())
    return SwiftPlace(open_store(spec), spec, "swift", client, bucket)


@pytest.fixture
def gcs_place(gcs: GcsServer) -> GcsPlace:
    bucket = gcs.make_bucket()
    spec = StoreSpec(f"gs://{bucket}/raw", gcs.options())
    return GcsPlace(open_store(spec), spec, "gcs", gcs.client().bucket(bucket))


@pytest.fixture
def azure_place(azurite: AzuriteServer) -> AzurePlace:
    name = azurite.make_container()
    spec = StoreSpec(f"azure://{name}/raw", azurite.options())
    return AzurePlace(open_store(spec), spec, "azure", azurite.client().get_container_client(name))


def _kinds(*names: str) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.servers) if name == "azure" else name for name in names]


@pytest.fixture(params=_kinds("directory", "s3", "swift", "gcs", "azure"))
def place(request: pytest.FixtureRequest) -> Place:
    made: Place = request.getfixturevalue(f"{request.param}_place")
    return made


@pytest.fixture(params=_kinds("s3", "swift", "gcs", "azure"))
def remote_place(request: pytest.FixtureRequest) -> Place:
    made: Place = request.getfixturevalue(f"{request.param}_place")
    return made


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read in ranges takes many of them for an object of a megabyte."""
    monkeypatch.setattr("eventferry.store.remote.RANGE_BYTES", 64 * 1024)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how many objects a page of a listing holds."""
    return lambda keys: monkeypatch.setattr("eventferry.store.remote.PAGE_KEYS", keys)
