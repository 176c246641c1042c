"""The file sink keeps the contract, on a real file system."""

import gzip
import os
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest
from backports import zstd

from eventferry.sink import SinkMisconfigured, SinkUnavailable
from eventferry.sink.files import ATTEMPTS
from eventferry.sink.kit import SinkPromises, Target, breaking, make_batch, sample_events
from eventferry.sink.registry import make_sink
from eventferry_sinks.file.sink import FileSink

READ = {".ndjson": bytes, ".gz": gzip.decompress, ".zst": zstd.decompress}


def _files(root):
    found = [path for path in Path(root).rglob("*") if path.is_file() and ATTEMPTS not in path.parts]
    return sorted(found)


def _events(root):
    return [line for path in _files(root) for line in READ[path.suffix](path.read_bytes()).split(b"\n")[:-1]]


class TestFile(SinkPromises):
    sink_type = FileSink
    counterpart = "a local file system"
    options: ClassVar = {"path": "/srv/events"}
    ordered = False
    compression = "none"

    @contextmanager
    def healthy(self):
        place = {"path": str(self.tmp_path), "compression": self.compression}
        yield Target(lambda: make_sink("file", "files", place), lambda: _events(self.tmp_path))

    @contextmanager
    def losing_reply(self):
        with self.healthy() as target:
            yield breaking(target, after=True)

    @contextmanager
    def crashing_before(self):
        with self.healthy() as target:
            yield breaking(target, after=False)

    @contextmanager
    def misconfigured(self):
        yield Target(lambda: make_sink("file", "files", {"path": str(self.tmp_path / "typo" / "new")}))

    @contextmanager
    def refusing(self):
        missing = {"path": str(self.tmp_path / "not-mounted"), "create": False}
        yield Target(lambda: make_sink("file", "files", missing))


class TestGzip(TestFile):
    compression = "gzip"


class TestZstd(TestFile):
    compression = "zstd"


@pytest.fixture
def make(tmp_path):
    return lambda **options: make_sink("file", "files", {"path": str(tmp_path), **options})


def test_names_come_from_the_batch(make, tmp_path):
    """The day is that of the first event time, in UTC, and a batch without one goes to `undated`."""
    batch = make_batch(sample_events(1))
    undated = make_batch(sample_events(2))
    object.__setattr__(undated, "time_min", None)
    with make() as sink:
        sink.deliver(batch)
        sink.deliver(undated)
    assert [str(path.relative_to(tmp_path)) for path in _files(tmp_path)] == [
        f"2024/05/01/{batch.id}.ndjson",
        f"undated/{undated.id}.ndjson",
    ]


def test_a_changed_compression_repeats_nothing(make, tmp_path):
    """A batch that lies there under another suffix is the same batch."""
    batch = make_batch(sample_events(3))
    for compression in ("none", "gzip", "zstd"):
        with make(compression=compression) as sink:
            sink.deliver(batch)
    assert len(_files(tmp_path)) == 1


def test_an_attempt_that_dies_leaves_nothing_visible(make, tmp_path, monkeypatch):
    """Between the first byte and the rename there is no file under a final name, and the next attempt is whole."""
    batch = make_batch(sample_events(3))
    with make() as sink:
        monkeypatch.setattr(os, "fsync", _raise(OSError(28, "No space left on device")))
        with pytest.raises(SinkUnavailable) as caught:
            sink.deliver(batch)
        monkeypatch.undo()
        assert caught.value.untouched
        assert _files(tmp_path) == []
        assert list((tmp_path / ATTEMPTS).iterdir()) == []
        assert sink.was_delivered(batch) is False
        sink.deliver(batch)
    assert _events(tmp_path) == sample_events(3)


def test_dead_attempts_are_swept_and_living_ones_kept(make, tmp_path):
    """Only what is older than an hour goes, and only from the folder of attempts."""
    folder = tmp_path / ATTEMPTS
    folder.mkdir()
    old, new, foreign = folder / "old", folder / "new", tmp_path / "foreign"
    for path in (old, new, foreign):
        path.write_bytes(b"x")
    for path in (old, foreign):
        os.utime(path, (0, 0))
    with make():
        assert not old.exists()
        assert new.exists()
        assert foreign.exists()


def test_a_new_directory_is_made_but_not_its_parents(make, tmp_path):
    """A sink may be pointed at a folder that is still to be made; a mistyped path above it stays a mistake."""
    with make(path=str(tmp_path / "new")) as sink:
        sink.deliver(make_batch(sample_events(1)))
    assert list((tmp_path / "new").rglob("*.ndjson"))
    with pytest.raises(SinkMisconfigured, match="create the directory"):
        make(path=str(tmp_path / "typo" / "new")).open()


def test_an_unmounted_disk_is_not_filled(make, tmp_path):
    """A root that vanished holds the sink; it is not created, and nobody claims that a batch is missing there."""
    sink = make(path=str(tmp_path / "disk"))
    (tmp_path / "disk").mkdir()
    sink.open()
    (tmp_path / "disk" / ATTEMPTS).rmdir()
    (tmp_path / "disk").rmdir()
    with pytest.raises(SinkMisconfigured, match="create the directory"):
        sink.deliver(make_batch(sample_events(1)))
    with pytest.raises(SinkMisconfigured):
        sink.was_delivered(make_batch(sample_events(1)))
    assert not (tmp_path / "disk").exists()


@pytest.mark.parametrize(
    ("number", "words"), [(13, "ReadWritePaths="), (30, "ReadWritePaths="), (20, "create the dir")]
)
def test_forbidden_places_name_the_remedy(make, monkeypatch, number, words):
    """A read-only or forbidden directory says what systemd may have to do with it."""
    sink = make()
    monkeypatch.setattr(os, "open", _raise(OSError(number, os.strerror(number))))
    with pytest.raises(SinkMisconfigured, match=words):
        sink.open()


def test_equal_bodies_give_equal_files(make, tmp_path):
    """gzip files hold no time and no name: two machines write the same bytes."""
    contents = set()
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        with make(path=str(tmp_path / place), compression="gzip") as sink:
            sink.deliver(make_batch(sample_events(50)))
        contents.add(_files(tmp_path / place)[0].read_bytes())
    assert len(contents) == 1


def _raise(error):
    def raises(*args, **kwargs):
        raise error

    return raises
