"""A store over a network is read sixteen objects at a time, for indexing and for delivery, in the old order."""

import gzip
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from tests.network import gathering_line
from tests.servers import S3Server, s3_server

from eventferry.pipeline import reader
from eventferry.pipeline.reader import SegmentReader
from eventferry.pipeline.scan import ScanResult, ScanSpec, scan_pack
from eventferry.store import Store, StoreSpec, open_store
from eventferry.store.opening import StreamLimits

READS = 16


@dataclass(frozen=True)
class _Source:
    """As a delivery sees it."""

    spec: StoreSpec
    limits: StreamLimits = field(default_factory=StreamLimits)
    concatenated: bool = False

    def open(self) -> Store:
        return open_store(self.spec)


@dataclass(frozen=True)
class _Segment:
    """As the log has it."""

    position: int
    object_id: int
    key: str
    version: str
    size: int
    start: int
    end: int
    events: int
    digest: str


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    folder = tmp_path_factory.mktemp("s3")
    for number in range(2 * READS):
        path = folder / "bucket" / "2026" / "01" / "02" / f"{number:02}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(_content(number)))
        os.utime(path, (1_790_000_000, 1_790_000_000))
    with s3_server(folder) as running:
        yield running


def _content(number: int) -> bytes:
    return b'{"n": %d}\n' % number * (number + 1)


def _specs(server: S3Server, endpoint: str, room: int = 1 << 20) -> list[ScanSpec]:
    spec = StoreSpec("s3://bucket", server.options(endpoint=endpoint, attempts=1))
    listed = open_store(StoreSpec("s3://bucket", server.options())).list()
    return [ScanSpec(spec, item.key, item.version, size=item.size, reads=READS, room=room) for item in listed]


def test_a_pack_is_fetched_sixteen_at_a_time_and_scanned_in_order(server: S3Server) -> None:
    """The server answers nobody before sixteen ask; each file's result is its own, in the order of the pack."""
    with gathering_line(server.endpoint, READS) as line:
        found = scan_pack(_specs(server, line.endpoint))
        assert line.most_open >= READS
    assert [each.events for each in found if isinstance(each, ScanResult)] == list(range(1, 2 * READS + 1))


def test_without_room_a_pack_is_read_one_by_one(server: S3Server) -> None:
    """Memory is bounded: what may not be held is not fetched ahead, and the results are the same."""
    found = scan_pack(_specs(server, server.endpoint, room=10))
    assert [each.events for each in found if isinstance(each, ScanResult)] == list(range(1, 2 * READS + 1))


def test_deliveries_fetch_what_comes_next(server: S3Server) -> None:
    """The same for reading back: sixteen at once, each segment's bytes in the order of the log, all room given back."""
    specs = _specs(server, server.endpoint)
    segments = [
        _Segment(number, number, spec.key, spec.version, spec.size, part.start, part.end, part.events, part.digest)
        for number, (spec, result) in enumerate(zip(specs, scan_pack(specs), strict=True), 1)
        if isinstance(result, ScanResult)
        for part in result.segments
    ]
    with gathering_line(server.endpoint, READS) as line:
        far = _Source(StoreSpec("s3://bucket", server.options(endpoint=line.endpoint, attempts=1)))
        reading: SegmentReader[_Segment] = SegmentReader(far, reads=READS)
        assert [reading.read(each) for each in reading.foresee(segments)] == [_content(n) for n in range(2 * READS)]
        assert line.most_open >= READS
        reading.close()
    assert reader.ROOM.take(reader.ROOM.size)
    reader.ROOM.give_back(reader.ROOM.size)


def test_what_was_fetched_for_another_batch_is_let_go(server: S3Server) -> None:
    """A batch that was cut short leaves nothing behind that the next one does not want."""
    specs = _specs(server, server.endpoint)
    segments = [
        _Segment(number, number, spec.key, spec.version, spec.size, 0, part.end, part.events, part.digest)
        for number, (spec, result) in enumerate(zip(specs, scan_pack(specs), strict=True), 1)
        if isinstance(result, ScanResult)
        for part in result.segments
    ]
    reading: SegmentReader[_Segment] = SegmentReader(_Source(specs[0].store), reads=READS)
    assert reading.read(next(reading.foresee(segments))) == _content(0)
    assert [reading.read(each) for each in reading.foresee(segments[-1:])] == [_content(2 * READS - 1)]
    assert reader.ROOM.take(reader.ROOM.size)
    reader.ROOM.give_back(reader.ROOM.size)
    reading.close()
