"""Both kinds of stores, filled in the same way: the same truths are asked of each."""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.servers import S3Server, s3_server

from eventferry.store import Store, StoreObject, StoreSpec, open_store

_numbers = itertools.count()


@dataclass
class Place:
    """A store under test with a way to put files into it."""

    store: Store
    spec: StoreSpec
    folder: Path
    kind: str
    times: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1_790_000_000))

    def put(self, key: str, content: bytes = b"{}\n") -> None:
        """Create or replace an object, with a new modification time each."""
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        moment = next(self.times)
        os.utime(path, (moment, moment))

    def remove(self, key: str) -> None:
        (self.folder / key).unlink()

    def keys(self, start_after: str | None = None, prefix: str = "") -> list[str]:
        return [found.key for found in self.store.list(start_after, prefix)]

    def find(self, key: str) -> StoreObject:
        return next(found for found in self.store.list() if found.key == key)

    def read(self, found: StoreObject) -> bytes:
        reader = self.store.open(found.key, found.version)
        try:
            return b"".join(iter(lambda: reader.read(65536), b""))
        finally:
            reader.close()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def directory_place(tmp_path: Path) -> Place:
    spec = StoreSpec(str(tmp_path / "events"))
    (tmp_path / "events").mkdir()
    return Place(open_store(spec), spec, tmp_path / "events", "directory")


@pytest.fixture
def s3_place(s3: S3Server) -> Place:
    bucket = f"bucket-{next(_numbers)}"
    folder = s3.folder / bucket / "raw"
    folder.mkdir(parents=True)
    spec = StoreSpec(f"s3://{bucket}/raw", s3.options())
    return Place(open_store(spec), spec, folder, "s3")


@pytest.fixture(params=["directory", "s3"])
def place(request: pytest.FixtureRequest) -> Place:
    made: Place = request.getfixturevalue(f"{request.param}_place")
    return made
