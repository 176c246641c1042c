"""Finished exports in the operator's bucket: there before they are complete, gone when they are over, whoever dies."""

import datetime as dt
import hashlib
import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import freezegun
import pytest
from tests.builders import events, wait_until
from tests.desks import ANA, Works, ask, look, works_at
from tests.gates import Gate, gate
from tests.servers import S3Server, s3_server

from eventferry import clock
from eventferry.errors import ObjectGone, StoreError
from eventferry.exports import requests
from eventferry.exports.bucket import Bucket
from eventferry.exports.clearing import NOT_CLEARED, Clearing
from eventferry.exports.ending import BUCKET_FAILED
from eventferry.exports.finished import AHEAD
from eventferry.exports.model import Output, Selection
from eventferry.exports.refusals import Gone, NotFound, NotReady
from eventferry.ledger import alerts
from eventferry.query import Compare, Op

A, B = events(1000), events(500, 1000)
FILES = {"2026/01/01/00/a.ndjson": A, "2026/01/02/00/b.ndjson": B}
MANY = Output("ndjson", part_bytes=64 * 1024)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as started:
        yield started


@pytest.fixture
def way(server: S3Server) -> Iterator[Gate]:
    with gate(server.endpoint) as way:
        yield way


@pytest.fixture
def folder(server: S3Server, tmp_path: Path) -> Path:
    """What the bucket holds below the prefix."""
    name = f"bucket-{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:8]}"
    (server.folder / name).mkdir()
    return server.folder / name / "made"


@pytest.fixture
def settings(server: S3Server, way: Gate, folder: Path) -> dict[str, Any]:
    """The table [exports]."""
    s3 = {"endpoint": way.endpoint, "access_key": server.access_key, "secret_key": server.secret_key}
    return {"directory": f"s3://{folder.parent.name}/made/", "s3": s3}


@pytest.fixture
def works(tmp_path: Path, settings: dict[str, Any]) -> Iterator[Works]:
    with works_at(tmp_path, FILES, exports=settings) as works:
        yield works


def there(folder: Path) -> set[str]:
    """The objects, as `<export id>/<name>`."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def clearing(works: Works) -> Clearing:
    return Clearing(works.desk, works.runner.at_work)


def conditions(works: Works) -> set[str]:
    with works.desk.ledger.read() as tx:
        return {each.cause for each in alerts.open_conditions(tx)}


def later(seconds: float) -> Any:
    """The same, but so much later."""
    return freezegun.freeze_time(clock.now() + dt.timedelta(seconds=seconds), tick=True)


def test_a_complete_export_lies_in_the_bucket_and_nowhere_else(works, folder):
    """With its manifest; what is downloaded is what was selected."""
    row = works.until(ask(works.desk, output=MANY))
    assert (row.state, row.percent, row.place) == ("complete", 100, f"s3://{folder.parent.name}/made")
    content = works.content(row)
    assert len(content) == 2
    assert b"".join(content.values()) == A + B
    assert there(folder) == {f"{row.id}/{name}" for name in (*content, "manifest.json")}
    opened = requests.open_linked_file(works.desk, row.id, "manifest.json")
    listed = opened.file.read()
    assert (len(listed), hashlib.sha256(listed).hexdigest()) == (opened.row.bytes, opened.row.sha256)
    assert {each["name"] for each in json.loads(listed)["files"]} == set(content)
    assert works.left() == set()
    works.runner.expire()
    assert works.content(row) == content


def test_an_empty_export_is_there_too(works):
    """A file without a byte is asked of nobody."""
    row = works.until(ask(works.desk, selection=Selection(filter=Compare(("n",), Op.EQ, -1)), output=Output("ndjson")))
    assert (row.state, set(works.content(row).values())) == ("complete", {b""})


def test_a_deleted_export_leaves_the_bucket_with_the_next_sweep(works, folder):
    """Its link is dead at once; another export stays."""
    gone, stays = works.until(ask(works.desk)), works.until(ask(works.desk))
    requests.delete(works.desk, ANA, gone.id)
    with pytest.raises(NotFound):
        requests.open_linked_file(works.desk, gone.id, "manifest.json")
    assert clearing(works).clear() == 1
    assert {name.partition("/")[0] for name in there(folder)} == {stays.id}
    assert clearing(works).clear() == 0
    assert look(works.desk, gone).place is None
    assert b"".join(works.content(stays).values())


def test_an_expired_export_leaves_the_bucket(tmp_path, settings, folder):
    """Whoever asks for its files is told that they are gone."""
    with works_at(tmp_path, FILES, exports={**settings, "retention": "1s"}) as works:
        row = works.until(ask(works.desk))
        wait_until(lambda: works.runner.expire() or look(works.desk, row).state == "expired")
        assert clearing(works).clear() == 1
        assert there(folder) == set()
        with pytest.raises(Gone):
            requests.open_linked_file(works.desk, row.id, "manifest.json")


def test_a_bucket_that_is_away_is_tried_again_and_people_are_told(works, way, folder):
    """Nothing is downloadable meanwhile; afterwards the export completes, with what was made before."""
    way.shut()
    row = ask(works.desk)
    wait_until(lambda: works.runner.tick() or look(works.desk, row).troubled_ms)
    now = look(works.desk, row)
    assert (now.state, now.kills, there(folder)) == ("queued", 0, set())
    assert now.next_ms > clock.now_ms() + 3000
    assert BUCKET_FAILED in conditions(works)
    with pytest.raises(NotReady):
        requests.open_linked_file(works.desk, row.id, "manifest.json")
    way.open()
    with later(10):
        row = works.until(row)
    assert (row.state, row.attempts) == ("complete", 2)
    assert BUCKET_FAILED not in conditions(works)
    assert b"".join(works.content(row).values()) == requests_content(works)


def requests_content(works: Works) -> bytes:
    """What an export made without trouble holds."""
    return b"".join(works.content(works.until(ask(works.desk))).values())


def test_after_an_hour_of_trouble_the_export_has_failed(works, way, folder):
    """Its requester is not told where; nothing of it is left, here or there."""
    way.shut()
    row = ask(works.desk)
    wait_until(lambda: works.runner.tick() or look(works.desk, row).troubled_ms)
    with later(3700):
        row = works.until(row)
    assert row.state == "failed"
    assert folder.parent.name not in row.reason
    assert works.left() == set()
    way.open()
    assert (clearing(works).clear(), there(folder)) == (1, set())


def test_wrong_credentials_are_told_with_the_remedy(tmp_path, settings):
    """A person may mend them within the hour."""
    settings["s3"]["secret_key"] = "a-wrong-secret"
    with works_at(tmp_path, FILES, exports=settings) as works:
        row = ask(works.desk)
        wait_until(lambda: works.runner.tick() or look(works.desk, row).troubled_ms)
        with works.desk.ledger.read() as tx:
            [said] = [each for each in alerts.open_conditions(tx) if each.cause == BUCKET_FAILED]
        assert said.detail.startswith("writing to s3://bucket-")
        assert "mend secret_key" in said.detail
        assert "a-wrong-secret" not in said.detail


def test_removal_waits_for_a_bucket_that_is_away(works, way, folder):
    """People are told; it happens when the bucket is back."""
    row = works.until(ask(works.desk))
    requests.delete(works.desk, ANA, row.id)
    way.shut()
    sweep = clearing(works)
    assert sweep.clear() == 0
    assert NOT_CLEARED in conditions(works)
    way.open()
    assert sweep.clear() == 0  # it waits a while
    sweep.use(works.desk)
    assert sweep.clear() == 1
    assert there(folder) == set()
    assert NOT_CLEARED not in conditions(works)


def test_a_cancelled_upload_leaves_nothing_in_the_bucket(tmp_path, settings, way, folder):
    """What came there before is removed once its process is at rest."""
    with works_at(tmp_path, FILES, processes=1, exports=settings) as works:
        way.hold()
        row = ask(works.desk, output=MANY)
        wait_until(lambda: works.runner.tick() or look(works.desk, row).place)
        sweep = clearing(works)
        requests.cancel(works.desk, ANA, row.id)
        assert works.until(row).state == "cancelled"
        assert sweep.clear() == 0  # more may come
        way.open()
        wait_until(lambda: works.runner.tick() or not works.runner.at_work())
        assert sweep.clear() == 1
        assert there(folder) == set()
        assert works.left() == set()


def test_exports_of_another_place_are_gone_until_it_is_named_again(tmp_path, settings):
    """Those that lie in the folder stay there."""
    with works_at(tmp_path, FILES) as works:
        local = works.until(ask(works.desk))
        before = works.content(local)
    with works_at(tmp_path, FILES, exports=settings) as works:
        kept = works.until(ask(works.desk))
        works.runner.expire()
        assert works.content(local) == before == works.content(kept)
    with works_at(tmp_path, FILES) as works:
        assert works.content(local) == before
        with pytest.raises(Gone):
            works.content(kept)


# -- the bucket itself ------------------------------------------------------------------------------------------------


@pytest.fixture
def bucket(settings: dict[str, Any]) -> Bucket:
    return Bucket.of(settings["directory"], settings["s3"])


def put(bucket: Bucket, path: Path, content: bytes, cancelled: Any = lambda: False) -> None:
    path.write_bytes(content)
    bucket.put("id", [path], progress=lambda _: None, cancelled=cancelled, note=path.with_name("note"))


def test_a_large_file_is_read_range_by_range_in_little_memory(works, bucket, tmp_path):
    """Its parts are put together again; a seek costs nothing before the next read."""
    content = os.urandom(10 * AHEAD + 123)
    row = works.until(ask(works.desk))
    path = tmp_path / "large"
    path.write_bytes(content)
    bucket.put(row.id, [path], progress=lambda _: None, cancelled=lambda: False, note=tmp_path / "note")
    with works.desk.ledger.write() as tx:
        tx.exec_driver_sql("UPDATE export_files SET name = 'large', bytes = ? WHERE export_id = ?",
                           (len(content), row.id))  # fmt: skip
    with requests.open_linked_file(works.desk, row.id, "large").file as file:
        tracemalloc.start()
        digest = hashlib.sha256()
        while piece := file.read(256 * 1024):
            digest.update(piece)
        assert tracemalloc.get_traced_memory()[1] < 6 * AHEAD
        tracemalloc.stop()
        assert digest.digest() == hashlib.sha256(content).digest()
        for start in (0, 5, AHEAD - 1, 7 * AHEAD + 3, len(content) - 2):
            file.seek(start)
            assert file.read(10) == content[start : start + 10]
        file.seek(len(content) - 3 * AHEAD)
        assert file.read() == content[-3 * AHEAD :]


def test_what_is_not_the_file_is_not_handed_out(bucket, tmp_path):
    """Another size is an error, a missing object too; neither says a secret."""
    put(bucket, tmp_path / "file", b"0123456789")
    assert bucket.read("id", "file", 2, 5, 10) == b"234"
    with pytest.raises(StoreError, match="not the file"):
        bucket.read("id", "file", 2, 5, 11)
    with pytest.raises(ObjectGone):
        bucket.read("id", "other", 0, 1, 1)
    assert "SECRETTEST" not in repr(bucket)


def test_check_leaves_nothing_behind(bucket, folder):
    """It writes, reads and deletes one object."""
    [said] = bucket.check()
    assert "written" in said
    assert there(folder) == set() if folder.exists() else True
