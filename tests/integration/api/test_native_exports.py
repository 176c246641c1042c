"""The native routes of exports, files and saved queries over real HTTP."""

import gzip
import hashlib
import json

import pytest
from tests.builders import events, wait_until
from tests.served import lines, served

WHOLE = {"filter": [{"field": "n", "lt": 10}], "output": {"format": "ndjson"}}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with served(tmp_path_factory.mktemp("exports"), events=events(100), api={"dialects": []}) as site:
        yield site


@pytest.fixture(scope="module")
def token(site):
    return site.key()


@pytest.fixture(scope="module")
def complete(site, token):
    """A finished export."""
    made = site.post("/v1/exports", token=token, json=WHOLE)
    assert made.status_code == 201, made.text
    return site.finished(made.json()["id"], token=token)


def test_an_export_goes_from_asked_for_to_downloaded(site, token, complete):
    """POST, look until complete, download by key and by link; counts and digest are those of the bytes."""
    assert (complete["state"], complete["events"], complete["percent"]) == ("complete", 10, 100)
    (file,) = complete["files"]
    by_key = site.get(f"/v1/exports/{complete['id']}/files/{file['name']}", token=token)
    assert [event["n"] for event in lines(by_key)] == list(range(10))
    assert hashlib.sha256(by_key.content).hexdigest() == file["sha256"]
    assert len(by_key.content) == file["bytes"] == complete["bytes"]
    by_link = site.client.get(file["url"])
    assert (by_link.status_code, by_link.content) == (200, by_key.content)
    assert by_link.headers["content-disposition"] == f'attachment; filename="{complete["id"][:8]}-{file["name"]}"'
    assert by_link.headers["x-content-type-options"] == "nosniff"


def test_a_created_export_says_where_it_is_and_what_it_selects(site, token):
    """201 with Location; the timeframe is shown as written and resolved."""
    asked = {"timeframe": {"start": "2026-01-02T00:00:00+01:00"}, "tags": ["a"], "name": "Monday"}
    made = site.post("/v1/exports", token=token, json=asked)
    shown = made.json()
    assert (made.status_code, made.headers["location"]) == (201, f"/v1/exports/{shown['id']}")
    assert shown["selection"]["start"] == "2026-01-01T23:00:00.000Z"
    assert shown["asked"]["timeframe"] == asked["timeframe"]
    assert (shown["name"], shown["tags"], shown["state"], shown["files"]) == ("Monday", ["a"], "queued", None)


def test_a_body_that_is_not_said_to_be_json_is_415_and_not_repeated(site, token):
    """What `curl -d` sends by itself; the answer says what to send, and tells nobody's log what was in the body."""
    sent = {"Content-Type": "application/x-www-form-urlencoded"}
    refused = site.post("/v1/exports", token=token, content=b'{"secret_key": "hidden"}', headers=sent)
    assert (refused.status_code, refused.json()["type"]) == (415, "urn:eventferry:problem:wrong-media-type")
    assert "send Content-Type: application/json" in refused.json()["detail"]
    assert "hidden" not in refused.text
    for body in ([], "text", 7):
        refused = site.post("/v1/exports", token=token, json=body)
        assert (refused.status_code, refused.json()["detail"]) == (422, "body: must be a JSON object"), body


def test_one_idempotency_key_makes_one_export(site, token):
    """The same request again gives the same export; another one under the key is a conflict."""
    headers = {"Idempotency-Key": "once"}
    first = site.post("/v1/exports", token=token, json=WHOLE, headers=headers)
    again = site.post("/v1/exports", token=token, json=WHOLE, headers=headers)
    other = site.post("/v1/exports", token=token, json={}, headers=headers)
    assert first.json()["id"] == again.json()["id"]
    assert (other.status_code, other.headers["content-type"]) == (409, "application/problem+json")


def test_pages_hold_every_export_once_newest_first(site):
    """The cursor of each page leads to the next; filters by name, tag, state and time hold."""
    token = site.key(tenants=["pages"])
    made = [site.post("/v1/exports", token=token, json={"name": f"n{each}", "tags": [f"t{each}"]}).json()
            for each in range(5)]  # fmt: skip
    found, cursor = [], ""
    while cursor is not None:
        page = site.get(f"/v1/exports?limit=2{cursor and '&cursor=' + cursor}", token=token).json()
        found += [each["id"] for each in page["exports"]]
        cursor = page["next"]
    assert found == [each["id"] for each in reversed(made)]

    def names(query):
        return [each["name"] for each in site.get(f"/v1/exports?{query}", token=token).json()["exports"]]

    assert names("name=n3") == names("tag=t3") == ["n3"]
    assert names("state=failed") == names("dialect=keen") == names("created_to=2026-01-01") == []
    assert len(names("created_from=2026-01-01")) == 5


def test_a_cancelled_export_ends_and_a_deleted_one_is_nowhere(site, token, complete):
    """Cancel is told; after delete the export, its files and its links are 404."""
    made = site.post("/v1/exports", token=token, json=WHOLE).json()
    assert site.post(f"/v1/exports/{made['id']}/cancel", token=token).status_code == 200
    assert site.finished(made["id"], token=token)["state"] in ("cancelled", "complete")
    made = site.post("/v1/exports", token=token, json=WHOLE).json()
    (file,) = site.finished(made["id"], token=token)["files"]
    path = f"/v1/exports/{made['id']}"
    deleted = site.delete(path, token=token)
    assert (deleted.status_code, deleted.content) == (204, b"")
    for gone in (path, f"{path}/files", f"{path}/files/{file['name']}"):
        assert site.get(gone, token=token).status_code == 404
    assert site.client.get(file["url"]).status_code == 404
    assert site.delete(path, token=token).status_code == 404


def test_a_file_before_the_end_is_not_ready(site, token):
    """A file of an export that failed or is not finished is a 409, not half a file."""
    made = site.post("/v1/exports", token=token, json={"output": {"max_events": 1}}).json()
    ended = site.finished(made["id"], token=token)
    assert ended["state"] == "failed" and ended["reason"]
    assert site.get(f"/v1/exports/{made['id']}/files/events.ndjson", token=token).status_code == 409


@pytest.mark.parametrize(
    ("header", "status", "part"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=10-", 206, slice(10, None)),
        ("bytes=-7", 206, slice(-7, None)),
        ("bytes=5-99999999", 206, slice(5, None)),
        ("bytes=-99999999", 206, slice(None)),
        ("bytes=0-1,5-6", 200, slice(None)),  # several at once: the whole file
        ("bytes=9-5", 200, slice(None)),
        ("lines=1-2", 200, slice(None)),
        ("bytes=-", 200, slice(None)),
    ],
)
def test_a_range_gives_these_bytes(site, token, complete, header, status, part):
    """Single ranges are answered with 206, whatever is not understood with the whole file."""
    (file,) = complete["files"]
    path = f"/v1/exports/{complete['id']}/files/{file['name']}"
    whole = site.get(path, token=token).content
    answer = site.get(path, token=token, headers={"Range": header})
    assert (answer.status_code, answer.content) == (status, whole[part])
    if status == 206:
        start = range(len(whole))[part].start
        assert answer.headers["content-range"] == f"bytes {start}-{start + len(answer.content) - 1}/{len(whole)}"


def test_a_range_beyond_the_file_is_416_and_a_stale_one_the_whole(site, token, complete):
    """416 names the size; If-Range with another version's tag gives all; If-None-Match saves the transfer; HEAD."""
    (file,) = complete["files"]
    path = f"/v1/exports/{complete['id']}/files/{file['name']}"
    beyond = site.get(path, token=token, headers={"Range": "bytes=99999999-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{file['bytes']}")
    etag = f'"{file["sha256"]}"'
    stale = site.get(path, token=token, headers={"Range": "bytes=0-1", "If-Range": '"other"'})
    fresh = site.get(path, token=token, headers={"Range": "bytes=0-1", "If-Range": etag})
    same = site.get(path, token=token, headers={"If-None-Match": f'"other", {etag}'})
    assert (stale.status_code, fresh.status_code, same.status_code, same.content) == (200, 206, 304, b"")
    head = site.request("HEAD", path, token=token)
    assert (head.status_code, head.headers["content-length"], head.headers["etag"]) == (200, str(file["bytes"]), etag)


def test_a_link_altered_in_any_place_opens_nothing(site, token, complete):
    """Forged, cut, doubled and moved parameters are 403, and so is another file's signature."""
    (file,) = complete["files"]
    base, _, query = file["url"].partition("?")
    parts = query.split("&")
    altered = ["&".join(parts[:2]), query[:-1], query + "&expires=9999999999", "&".join(reversed(parts))]
    altered += [query.replace("expires=", "expires=1"), query.upper(), "signature=x", f"{query}&api_key=x"]
    for each in altered:
        assert site.client.get(f"{base}?{each}").status_code in (401, 403), each
    assert site.client.get(f"{base}x?{query}").status_code == 403


def test_a_saved_query_is_kept_changed_and_exported(site, token):
    """CRUD; an export refers to it by id, and its own timeframe goes first."""
    form = {"name": "few", "filter": [{"field": "n", "lt": 3}], "timeframe": "2026-01-02", "fields": ["n"]}
    saved = site.post("/v1/queries", token=token, json=form)
    assert saved.status_code == 201, saved.text
    path = saved.headers["location"]
    assert site.get(path, token=token).json()["query"]["filter"] == form["filter"]
    assert site.get("/v1/queries", token=token).json()["queries"][0]["name"] == "few"
    made = site.post("/v1/exports", token=token, json={"query": saved.json()["id"]}).json()
    assert made["selection"]["start"] == "2026-01-02T00:00:00.000Z"
    ended = site.finished(made["id"], token=token)
    assert site.client.get(ended["files"][0]["url"]).content == b'{"n":0}\n{"n":1}\n{"n":2}\n'
    own = {"query": saved.json()["id"], "timeframe": "2026-01-03"}
    assert site.post("/v1/exports", token=token, json=own).json()["selection"]["start"] == "2026-01-03T00:00:00.000Z"
    assert site.put(path, token=token, json={**form, "name": "other"}).json()["name"] == "other"
    assert site.delete(path, token=token).status_code == 204
    assert site.get(path, token=token).status_code == 404
    assert site.post("/v1/exports", token=token, json={"query": saved.json()["id"]}).status_code == 404


def test_another_tenants_exports_queries_and_files_do_not_exist(site, token, complete):
    """Whatever belongs to others is 404 in the words of what never was."""
    other = site.key(tenants=["elsewhere"])
    saved = site.post("/v1/queries", token=token, json={"name": "mine"}).json()
    nothing = "00000000-0000-4000-8000-000000000000"
    for path, there in (
        ("/v1/exports/{}", complete["id"]),
        ("/v1/exports/{}/files", complete["id"]),
        ("/v1/exports/{}/files/" + complete["files"][0]["name"], complete["id"]),
        ("/v1/queries/{}", saved["id"]),
    ):
        mine, never = site.get(path.format(there), token=other), site.get(path.format(nothing), token=other)
        assert mine.status_code == never.status_code == 404
        assert mine.text.replace(there, nothing) == never.text
    assert site.get("/v1/exports", token=other).json() == {"exports": [], "next": None}


def test_csv_parquet_and_compressed_exports_hold_the_same_events(site, token):
    """Every format can be made and read back."""
    for output in ({"format": "csv"}, {"format": "json"}, {"format": "ndjson", "compression": "gzip"}):
        made = site.post("/v1/exports", token=token, json={**WHOLE, "output": output}).json()
        ended = site.finished(made["id"], token=token)
        assert ended["state"] == "complete", ended
        data = site.client.get(ended["files"][0]["url"]).content
        if output.get("compression"):
            assert len(gzip.decompress(data).splitlines()) == 10
        else:
            assert len(json.loads(data)) == 10 if output["format"] == "json" else data.count(b"\r\n") == 11


def test_an_expired_link_and_an_expired_export_are_gone(tmp_path):
    """410 for both: there was something, and it is over."""
    settings = {"retention": "2s", "link_life": "1s"}
    with served(tmp_path, events=events(10), api={"dialects": []}, exports=settings) as site:
        token = site.key()
        made = site.post("/v1/exports", token=token, json=WHOLE).json()
        (file,) = site.finished(made["id"], token=token)["files"]
        wait_until(lambda: site.client.get(file["url"]).status_code == 410, 20, "the link's end")
        site.service._pull._runner.expire()
        wait_until(lambda: site.get(f"/v1/exports/{made['id']}", token=token).json()["state"] == "expired"
                   or site.service._pull._runner.expire(), 20, "the export's end")  # fmt: skip
        assert site.get(f"/v1/exports/{made['id']}/files/{file['name']}", token=token).status_code == 410
