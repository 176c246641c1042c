"""Files of exports that lie in the operator's bucket, over real HTTP: downloaded as those that lie in the folder."""

import gzip
import hashlib
import io
import zipfile
from typing import Any

import pytest
from tests.builders import events, wait_until
from tests.gates import gate
from tests.served import served
from tests.servers import s3_server

from eventferry.exports.clearing import Clearing

WHOLE = {"output": {"format": "ndjson", "compression": "gzip"}}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("s3")
    (folder / "kept").mkdir()
    with s3_server(folder) as store:
        yield store


@pytest.fixture(scope="module")
def way(store):
    with gate(store.endpoint) as way:
        yield way


@pytest.fixture(scope="module")
def site(tmp_path_factory, store, way):
    s3 = {"endpoint": way.endpoint, "access_key": store.access_key, "secret_key": store.secret_key}
    home, kept = tmp_path_factory.mktemp("exports"), {"directory": "s3://kept/exports", "s3": s3}
    with served(home, events=events(40_000), api={"dialects": ["ombori"]}, exports=kept) as site:
        yield site


@pytest.fixture(scope="module")
def token(site):
    return site.key()


@pytest.fixture(scope="module")
def complete(site, token):
    """A finished export."""
    return site.finished(site.post("/v1/exports", token=token, json=WHOLE).json()["id"], token=token, seconds=60)


@pytest.fixture(scope="module")
def whole(complete, store):
    """The object in the bucket."""
    (file,) = complete["files"]
    content = (store.folder / "kept/exports" / complete["id"] / file["name"]).read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])
    return content


def test_the_file_is_had_by_key_and_by_link(site, token, complete, whole):
    """Identical bytes and ETag; HEAD and If-None-Match ask nothing of the store."""
    (file,) = complete["files"]
    path, etag = f"/v1/exports/{complete['id']}/files/{file['name']}", f'"{file["sha256"]}"'
    by_key, by_link = site.get(path, token=token), site.client.get(file["url"])
    assert by_key.content == by_link.content == whole
    assert gzip.decompress(whole) == events(40_000)
    assert by_key.headers["etag"] == by_link.headers["etag"] == etag
    head = site.request("HEAD", path, token=token)
    assert (head.status_code, head.headers["content-length"], head.headers["etag"]) == (200, str(len(whole)), etag)
    assert site.get(path, token=token, headers={"If-None-Match": etag}).status_code == 304
    manifest = site.get(f"/v1/exports/{complete['id']}/files/manifest.json", token=token)
    assert [each["sha256"] for each in manifest.json()["files"]] == [file["sha256"]]


@pytest.mark.parametrize(
    ("header", "status", "part"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=1000-", 206, slice(1000, None)),
        ("bytes=-7", 206, slice(-7, None)),
        ("bytes=5-999999999", 206, slice(5, None)),
        ("bytes=9-5", 200, slice(None)),
    ],
)
def test_a_range_gives_these_bytes(site, complete, whole, header, status, part):
    """As from the folder, also with If-Range."""
    (file,) = complete["files"]
    headers = {"Range": header, "If-Range": f'"{file["sha256"]}"'}
    answer = site.client.get(file["url"], headers=headers)
    assert (answer.status_code, answer.content) == (status, whole[part])
    stale = site.client.get(file["url"], headers={**headers, "If-Range": '"other"'})
    assert (stale.status_code, stale.content) == (200, whole)
    assert site.client.get(file["url"], headers={"Range": "bytes=99999999-"}).status_code == 416


def test_a_store_that_is_away_is_503_and_works_again(site, token, complete, whole, way):
    """In a sentence without secrets."""
    (file,) = complete["files"]
    way.shut()
    away = site.get(f"/v1/exports/{complete['id']}/files/{file['name']}", token=token)
    assert away.status_code == 503
    assert "SECRETTEST" not in away.text
    way.open()
    assert site.client.get(file["url"]).content == whole


def test_a_deleted_exports_link_is_dead_at_once_and_its_objects_go(site, token, store):
    """And a file that somebody removed from the bucket is 410."""
    made = [site.post("/v1/exports", token=token, json=WHOLE).json()["id"] for _ in range(2)]
    gone, robbed = (site.finished(each, token=token, seconds=60) for each in made)
    folder = store.folder / "kept/exports"
    (folder / robbed["id"] / robbed["files"][0]["name"]).unlink()
    assert site.client.get(robbed["files"][0]["url"]).status_code == 410
    assert site.delete(f"/v1/exports/{gone['id']}", token=token).status_code == 204
    assert site.client.get(gone["files"][0]["url"]).status_code == 404
    clearing: Clearing = site.service._pull._clearing
    wait_until(lambda: clearing.clear() or not list((folder / gone["id"]).glob("*")), 20, "the removal")


def test_a_job_of_several_parts_comes_as_one_zip(tmp_path, store):
    """Its parts are read from the bucket one after the other."""
    pytest.importorskip("pyarrow")
    s3 = {"endpoint": store.endpoint, "access_key": store.access_key, "secret_key": store.secret_key}
    kept = {"directory": "s3://kept", "s3": s3, "part_size": "256KiB"}
    lines = {"2026/01/02/03/a.gz": events(5000), "2026/01/02/04/b.gz": events(5000, 5000)}
    with served(tmp_path, events=lines, api={"dialects": ["ombori"]}, exports=kept) as site:
        token = site.key(scopes=["exports"], tenants=["default"])
        asked = {"tenantId": "default", "dataDateFrom": "2026-01-01", "dataDateTo": "2026-01-03"}
        made = site.post("/api/analytics-export-job", token=token, json=asked).json()
        job: dict[str, Any] = {}

        def is_done() -> bool:
            job.update(site.get(f"/api/analytics-export-job/{made['id']}", token=token).json())
            return job["status"] in ("done", "failed")

        wait_until(is_done, 60, "the job")
        answer = site.client.get(job["downloadUrl"])
        assert (answer.status_code, len(answer.content)) == (200, job["fileSize"])
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            assert archive.testzip() is None
            assert len(archive.namelist()) > 1
