"""Ombori's raw data export as its document has it, over HTTP against a daemon and its server."""

import datetime as dt
import io
import json
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from tests.acceptance.announced import announce
from tests.builders import event, wait_until
from tests.served import Site, served

JOBS = "/api/analytics-export-job"
CREATED = {
    "status", "id", "tenantId", "jobExpiryDate", "dataDateFrom", "dataDateTo", "createdAt", "updatedAt", "filename",
}  # fmt: skip


def at(text: str) -> int:
    """Epoch ms of a time in UTC."""
    return int(dt.datetime.fromisoformat(f"{text}+00:00").timestamp() * 1000)


TIMES = (
    "2025-12-31T23:59:59.999", "2026-01-01T00:00:00.000", "2026-01-02T12:00:00.000", "2026-01-03T23:59:59.999",
    "2026-01-04T00:00:00.000",
)  # fmt: skip
EVENTS = b"".join(
    event(number, event_timestamp=at(time), tenant=tenant)
    for tenant, first in (("acme", 0), ("umbra", 100))
    for number, time in enumerate(TIMES, first)
)
BY_TENANT = {"events": {"tenant_field": "tenant"}}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served(tmp_path_factory.mktemp("ombori"), events=EVENTS, sources=BY_TENANT) as each:
        yield each


@pytest.fixture
def token(site: Site) -> str:
    """A key of tenant acme."""
    return site.key(scopes=["exports"], tenants=["acme"])


def job(**more: Any) -> dict[str, Any]:
    return {"tenantId": "acme", "dataDateFrom": "2026-01-01", "dataDateTo": "2026-01-03", **more}


def done(site: Site, made: httpx.Response, token: str) -> dict[str, Any]:
    """The job as it stands once it has ended."""
    assert made.status_code == 201, made.text
    shown: dict[str, Any] = {}

    def has_ended() -> bool:
        shown.clear()
        shown.update(site.get(f"{JOBS}/{made.json()['id']}", token=token).json())
        return shown["status"] in ("done", "failed")

    wait_until(has_ended, 30, "the end of the job")
    return shown


def download(site: Site, url: str, **how: Any) -> httpx.Response:
    assert url.startswith(site.url)
    return site.client.get(url, **how)


def numbers_in(parquet: bytes) -> list[int]:
    return pq.read_table(io.BytesIO(parquet)).column("n").to_pylist()


def refused(answer: httpx.Response, status: int) -> str:
    """The message of a refusal in the dialect's shape."""
    assert answer.status_code == status, answer.text
    data = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert data.keys() == {"statusCode", "error", "message"}
    assert data["statusCode"] == status
    return str(data["message"])


def test_a_job_is_created_with_every_documented_field(site, token):
    """POST answers 201 with exactly the nine fields of the document, dates in ISO 8601."""
    made = site.post(JOBS, json=job(), token=token)
    assert made.status_code == 201
    shown = made.json()
    assert shown.keys() == CREATED
    assert (shown["status"], shown["tenantId"]) == ("queued", "acme")
    assert (shown["dataDateFrom"], shown["dataDateTo"]) == ("2026-01-01", "2026-01-03")
    assert shown["filename"] == "events_acme_2026-01-01_2026-01-03.parquet"
    for name in ("jobExpiryDate", "createdAt", "updatedAt"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", shown[name])
    assert shown["createdAt"] < shown["jobExpiryDate"]


def test_a_done_job_has_its_parquet_file(site, token):
    """It holds the tenant's events from the first day's first to the last day's last millisecond, in UTC."""
    shown = done(site, site.post(JOBS, json=job(), token=token), token)
    assert shown.keys() == CREATED | {"downloadUrl", "fileSize"}
    assert shown["status"] == "done"
    got = download(site, shown["downloadUrl"])
    assert got.status_code == 200
    assert len(got.content) == shown["fileSize"] == int(got.headers["content-length"])
    assert numbers_in(got.content) == [1, 2, 3]
    assert f'filename="{shown["filename"]}"' in got.headers["content-disposition"]
    assert shown["filename"].endswith(".parquet")


def test_one_day_is_a_range(site, token):
    """From and to may be the same day."""
    asked = job(dataDateFrom="2026-01-02", dataDateTo="2026-01-02")
    shown = done(site, site.post(JOBS, json=asked, token=token), token)
    assert numbers_in(download(site, shown["downloadUrl"]).content) == [2]


def test_a_range_without_events_is_done_with_an_empty_file(site, token):
    """Nothing to export is a success."""
    asked = job(dataDateFrom="2020-02-28", dataDateTo="2020-02-29")
    shown = done(site, site.post(JOBS, json=asked, token=token), token)
    assert shown["status"] == "done"
    got = download(site, shown["downloadUrl"])
    assert len(got.content) == shown["fileSize"]
    assert pq.read_table(io.BytesIO(got.content)).num_rows == 0


def test_a_download_can_be_resumed(site, token):
    """A range of the output is answered with that range."""
    shown = done(site, site.post(JOBS, json=job(), token=token), token)
    whole = download(site, shown["downloadUrl"])
    part = download(site, shown["downloadUrl"], headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, whole.content[100:200])


def test_several_parts_are_one_zip(tmp_path):
    """Where the output has several files it is a zip of them, the same bytes each time, its size told beforehand."""
    lines = b"".join(event(number, tenant="acme", text=f"{number:06}" * 20) for number in range(20_000))
    with served(tmp_path, events=lines, sources=BY_TENANT, exports={"part_size": "1MiB"}) as site:
        token = site.key(scopes=["exports"], tenants=["acme"])
        shown = done(site, site.post(JOBS, json=job(), token=token), token)
        assert shown["filename"] == "events_acme_2026-01-01_2026-01-03.zip"
        got = download(site, shown["downloadUrl"])
        assert len(got.content) == shown["fileSize"] == int(got.headers["content-length"])
        assert got.headers["content-type"] == "application/zip"
        with zipfile.ZipFile(io.BytesIO(got.content)) as archive:
            assert archive.testzip() is None
            assert len(archive.namelist()) > 1
            found = [n for name in archive.namelist() for n in numbers_in(archive.read(name))]
        assert found == list(range(20_000))
        assert download(site, shown["downloadUrl"]).content == got.content
        part = download(site, shown["downloadUrl"], headers={"Range": "bytes=1000-99999"})
        assert (part.status_code, part.content) == (206, got.content[1000:100_000])


def test_jobs_go_from_queued_through_processing_to_done(tmp_path):
    """The three statuses of the document, in their order, and no other."""
    lines = b"".join(event(number, tenant="acme") for number in range(50_000))
    with served(tmp_path, events=lines, sources=BY_TENANT) as site:
        token = site.key(scopes=["exports"])
        made = site.post(JOBS, json=job(), token=token).json()
        seen = [made["status"]]

        def is_done() -> bool:
            seen.append(site.get(f"{JOBS}/{made['id']}", token=token).json()["status"])
            return seen[-1] == "done"

        wait_until(is_done, 30, "the end of the job")
        order = ["queued", "processing", "done"]
        assert seen == sorted(seen, key=order.index)


def test_a_failed_job_says_failed_and_why(tmp_path):
    """What cannot be exported ends in a status of its own, without a link."""
    with served(tmp_path, events=EVENTS, sources=BY_TENANT) as site:
        token = site.key(scopes=["exports"])
        (tmp_path / "events/2026/01/02/03/a.gz").unlink()
        shown = done(site, site.post(JOBS, json=job(), token=token), token)
        assert shown["status"] == "failed"
        assert shown["error"]
        assert not {"downloadUrl", "fileSize"} & shown.keys()


def test_after_its_expiry_a_job_is_done_without_a_link(tmp_path):
    """The link is gone, the old one opens nothing, the status stays."""
    with served(tmp_path, events=EVENTS, sources=BY_TENANT, exports={"retention": "1s"}) as site:
        token = site.key(scopes=["exports"])
        made = site.post(JOBS, json=job(), token=token)
        shown = done(site, made, token)
        kept = dict(shown)

        def has_expired() -> bool:
            kept.clear()
            kept.update(site.get(f"{JOBS}/{made.json()['id']}", token=token).json())
            return "downloadUrl" not in kept

        wait_until(has_expired, 30, "the expiry of the job")
        assert kept["status"] == "done"
        assert kept["filename"] == shown["filename"]
        refused(download(site, shown["downloadUrl"]), 410)


def test_links_are_signed(site, token):
    """A link opens one output; forged and cut ones open nothing."""
    shown = done(site, site.post(JOBS, json=job(), token=token), token)
    url = shown["downloadUrl"]
    refused(download(site, url[:-1] + ("A" if url[-1] != "A" else "B")), 403)
    refused(download(site, url[:-5]), 403)
    refused(download(site, url.replace(".parquet?", ".zip?")), 403)
    refused(download(site, url.partition("?")[0]), 401)
    other = site.post(JOBS, json=job(), token=token).json()["id"]
    refused(download(site, url.replace(shown["id"], other)), 403)


def test_the_output_opens_for_the_key_as_well(site, token):
    """In place of a link; another tenant's key finds nothing."""
    shown = done(site, site.post(JOBS, json=job(), token=token), token)
    path = shown["downloadUrl"].removeprefix(site.url).partition("?")[0]
    assert len(site.get(path, token=token).content) == shown["fileSize"]
    assert site.request("HEAD", path, token=token).headers["content-length"] == str(shown["fileSize"])
    refused(site.get(path, token=site.key(scopes=["exports"], tenants=["umbra"])), 404)
    refused(site.get(path.replace(".parquet", ".zip"), token=token), 404)


def test_a_link_expires_and_a_new_view_has_a_new_one(tmp_path):
    """An old link says that it is old; the job still has its output."""
    with served(tmp_path, events=EVENTS, sources=BY_TENANT, exports={"link_life": "1s"}) as site:
        token = site.key(scopes=["exports"])
        shown = done(site, site.post(JOBS, json=job(), token=token), token)
        wait_until(lambda: download(site, shown["downloadUrl"]).status_code == 410, 10, "the end of the link")
        refused(download(site, shown["downloadUrl"]), 410)
        again = site.get(f"{JOBS}/{shown['id']}", token=token).json()
        assert download(site, again["downloadUrl"]).status_code == 200


def test_requests_need_the_token_as_bearer(site, token):
    """Without, with a wrong, a revoked, an expired one, or one presented otherwise: 401."""
    revoked = site.key(scopes=["exports"], tenants=["acme"])
    site.revoke(revoked)
    for headers in (
        {},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": f"Bearer {revoked}"},
        {"Authorization": token},
        {"Authorization": f"JWT {token}"},
        {"X-Api-Key": token},
    ):
        refused(site.post(JOBS, json=job(), headers=headers), 401)
        answer = site.get(f"{JOBS}/1", headers=headers)
        refused(answer, 401)
        assert "Bearer" in answer.headers["www-authenticate"]
    refused(site.post(JOBS, json=job(), token=site.key(scopes=["events"])), 403)


def test_a_tenant_that_the_key_lacks_looks_like_none(site, token):
    """Another tenant and one that does not exist get the same answer, and so do their jobs."""
    foreign = refused(site.post(JOBS, json=job(tenantId="umbra"), token=token), 404)
    unknown = refused(site.post(JOBS, json=job(tenantId="nobody"), token=token), 404)
    assert foreign.replace("umbra", "nobody") == unknown
    theirs = site.post(JOBS, json=job(tenantId="umbra"), token=site.key(scopes=["exports"], tenants=["umbra"])).json()
    unknown_id = theirs["id"][:-4] + "0000"
    foreign = refused(site.get(f"{JOBS}/{theirs['id']}", token=token), 404)
    assert foreign.replace(theirs["id"], unknown_id) == refused(site.get(f"{JOBS}/{unknown_id}", token=token), 404)


def test_exports_of_other_dialects_are_no_jobs(site, token):
    """An id of the native API is not one of this one."""
    made = site.post("/v1/exports", json={"name": "x"}, token=token)
    assert made.status_code == 201
    refused(site.get(f"{JOBS}/{made.json()['id']}", token=token), 404)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"dataDateTo": "2025-12-31"}, "dataDateFrom"),
        ({"dataDateFrom": "2026-02-31"}, "dataDateFrom"),
        ({"dataDateFrom": "2026-13-01"}, "dataDateFrom"),
        ({"dataDateTo": "20260103"}, "dataDateTo"),
        ({"dataDateTo": "2026-01-03T00:00:00Z"}, "dataDateTo"),
        ({"dataDateTo": "２０２６-01-03"}, "dataDateTo"),
        ({"dataDateTo": 20260103}, "dataDateTo"),
        ({"dataDateTo": None}, "dataDateTo"),
        ({"tenantId": ""}, "tenantId"),
        ({"tenantId": 7}, "tenantId"),
        ({"tenantId": ["acme"]}, "tenantId"),
        ({"tenantId": "a" * 1000}, "tenantId"),
        ({"tenantId": "\ud800"}, "tenantId"),
        ({"tenant": "acme"}, "tenant"),
        ({"status": "done"}, "status"),
    ],
)
def test_a_bad_job_is_refused_with_400_naming_the_field(site, change, names):
    """Bad dates, an end before its start, wrong types, unknown fields."""
    token = site.key(scopes=["exports"])
    body = json.dumps(job(**change))
    answer = site.post(JOBS, content=body, headers={"Content-Type": "application/json"}, token=token)
    assert names in refused(answer, 400)


@pytest.mark.parametrize("missing", ["tenantId", "dataDateFrom", "dataDateTo"])
def test_every_key_of_the_body_is_required(site, token, missing):
    """The body has three keys."""
    body = job()
    del body[missing]
    assert missing in refused(site.post(JOBS, json=body, token=token), 400)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"7", b'"x"', b"[" * 100_000, b"\xff\xfe", b'{"tenantId": NaN}', b"{}"]
)
def test_a_body_that_is_no_job_is_refused_with_400(site, token, body):
    """Broken JSON, and JSON of another kind."""
    refused(site.post(JOBS, content=body, headers={"Content-Type": "application/json"}, token=token), 400)


def test_other_requests_below_the_path_are_refused_in_the_same_shape(site, token):
    """Wrong methods, unknown and twisted paths, huge bodies."""
    assert "POST" in site.request("PATCH", JOBS, token=token).headers["allow"]
    refused(site.request("PATCH", JOBS, token=token), 405)
    refused(site.delete(f"{JOBS}/1", token=token), 405)
    for path in ("/%2e%2e", "/1/2", "/%00", "/a%2Fb", "/'--", "/1/2/3", f"/{'a' * 5000}"):
        refused(site.get(f"{JOBS}{path}", token=token), 404)
    status, found = announce(site, "POST", JOBS)
    assert (status, found["statusCode"], found["error"]) == (413, 413, "Request Entity Too Large")


def test_the_whole_calendar_can_be_asked_for(site):
    """An absurd range is only a large one; a tenant's name may hold anything."""
    token = site.key(scopes=["exports"])
    asked = job(tenantId='a/b "c" \\ ü', dataDateFrom="0001-01-01", dataDateTo="9999-12-31")
    shown = done(site, site.post(JOBS, json=asked, token=token), token)
    assert shown["status"] == "done"
    assert shown["tenantId"] == asked["tenantId"]
    assert download(site, shown["downloadUrl"]).status_code == 200
