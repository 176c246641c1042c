"""Gooee's analytics export as its document has it, over HTTP against a daemon and its server."""

import csv
import datetime as dt
import io
import json
import re
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from tests.acceptance.announced import announce
from tests.builders import event, wait_until
from tests.served import Site, served

EXPORTS = "/analytics/exports"
QUERIES = "/analytics/queries"
FIELDS = {
    "id", "created", "modified", "created_by", "name", "notes", "query", "status", "errors", "number_of_rows",
    "total_bytes", "tags", "customer_scopes", "partner_scopes",
}  # fmt: skip
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"

EVENTS = b"".join(
    event(number, tenant=tenant, color="red" if number % 2 else "blue", text='a,"b"\n' if number == 1 else "x")
    for tenant, first in (("acme", 0), ("umbra", 100))
    for number in range(first, first + 10)
)
BY_TENANT = {"events": {"tenant_field": "tenant"}}
RED = [{"field": "color", "eq": "red"}]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    settings = {"queued_per_key": 1000}
    with served(tmp_path_factory.mktemp("gooee"), events=EVENTS, sources=BY_TENANT, exports=settings) as each:
        yield each


@pytest.fixture
def token(site: Site) -> str:
    """A key of tenant acme."""
    return site.key(scopes=["exports"], tenants=["acme"])


def save(site: Site, token: str, **more: Any) -> str:
    """The id of a new saved query."""
    made = site.post(QUERIES, json={"name": "q", **more}, token=token)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def create(site: Site, token: str, **more: Any) -> dict[str, Any]:
    """A new export of everything, or of the query that `more` names."""
    body = {"name": "Export 007", "query": more.pop("query", None) or save(site, token), **more}
    made = site.post(f"{EXPORTS}/", json=body, token=token)
    assert made.status_code == 201, made.text
    return dict(made.json())


def complete(site: Site, token: str, export_id: str) -> dict[str, Any]:
    """The export once it has ended."""
    shown: dict[str, Any] = {}

    def has_ended() -> bool:
        shown.clear()
        shown.update(site.get(f"{EXPORTS}/{export_id}/", token=token).json())
        return shown["status"] in ("complete", "failed")

    wait_until(has_ended, 30, "the end of the export")
    return shown


def numbers(site: Site, url: str) -> list[int]:
    """The numbers of the events in the file."""
    got = site.client.get(url)
    assert got.status_code == 200
    return [int(row["n"]) for row in csv.DictReader(io.StringIO(got.text, newline=""), strict=True)]


def refused(answer: httpx.Response, status: int) -> str:
    """The detail of a refusal."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.json().keys() == {"detail"}
    return str(answer.json()["detail"])


def wrong_fields(answer: httpx.Response) -> dict[str, list[str]]:
    """Field → its errors."""
    assert answer.status_code == 400, answer.text
    found = answer.json()
    assert all(isinstance(each, list) and all(isinstance(text, str) for text in each) for each in found.values())
    return dict(found)


# -- the data model ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/analytics/export", "/analytics/export/", EXPORTS, f"{EXPORTS}/"])
def test_an_export_is_created_with_every_field_of_the_model(site, token, path):
    """POST answers 201 under both names, with and without a slash; what is not known yet is null."""
    query = save(site, token)
    made = site.post(path, json={"name": "Export 007", "query": query}, token=token)
    assert made.status_code == 201
    assert made.headers["content-type"] == "application/json"
    shown = made.json()
    assert shown.keys() == FIELDS
    assert (shown["name"], shown["query"], shown["status"], shown["notes"]) == ("Export 007", query, "queued", "")
    assert shown["errors"] is shown["number_of_rows"] is shown["total_bytes"] is None
    assert shown["tags"] == shown["customer_scopes"] == shown["partner_scopes"] == []
    for name in ("id", "created_by", "query"):
        assert str(uuid.UUID(shown[name])) == shown[name]
    assert re.fullmatch(STAMP, shown["created"])
    assert re.fullmatch(STAMP, shown["modified"])


def test_what_is_written_about_an_export_is_kept(site, token):
    """Name, notes, tags and scopes come back as they were sent; the scopes select nothing."""
    said = {"name": "n" * 100, "notes": "line\nline", "tags": ["t" * 50, "é"], "customer_scopes": ["c1"],
            "partner_scopes": [str(uuid.uuid4())]}  # fmt: skip
    made = create(site, token, **said)
    shown = complete(site, token, made["id"])
    assert {name: shown[name] for name in said} == said
    assert shown["number_of_rows"] == 10


def test_read_only_fields_of_a_body_are_passed_over(site, token):
    """Clients may send back what they were shown."""
    told = {"id": "x", "created": "y", "modified": 7, "created_by": None, "status": "complete", "errors": "no",
            "number_of_rows": 7, "total_bytes": 7, "url": "http://x"}  # fmt: skip
    made = create(site, token, **told)
    assert made["status"] == "queued"
    assert made["id"] != "x"


def test_a_complete_export_has_a_url_to_its_csv_file(site, token):
    """All rows of the query in one text/csv file, their number, its bytes; an hour from now in the link."""
    made = create(site, token)
    assert "url" not in made
    shown = complete(site, token, made["id"])
    assert shown.keys() == FIELDS | {"url"}
    assert (shown["status"], shown["errors"], shown["number_of_rows"]) == ("complete", None, 10)
    got = site.client.get(shown["url"])
    assert got.headers["content-type"].startswith("text/csv")
    assert len(got.content) == shown["total_bytes"]
    found = list(csv.DictReader(io.StringIO(got.text, newline=""), strict=True))
    assert [row["n"] for row in found] == [str(number) for number in range(10)]
    assert found[1]["text"] == 'a,"b"\n'


def test_the_url_is_signed_anew_for_an_hour_at_each_view(tmp_path):
    """Whatever links live otherwise; an older one goes on until its own hour is over."""
    with served(tmp_path, events=EVENTS, exports={"link_life": "10s"}) as site:
        token = site.key(scopes=["exports"])
        shown = complete(site, token, create(site, token)["id"])

        def expiry(url: str) -> int:
            return int(parse_qs(urlsplit(url).query)["expires"][0])

        again: dict[str, Any] = {}

        def is_later() -> bool:
            again.update(site.get(f"{EXPORTS}/{shown['id']}/", token=token).json())
            return expiry(again["url"]) > expiry(shown["url"])

        wait_until(is_later, 10, "a link with a later end")
        assert expiry(again["url"]) == pytest.approx(dt.datetime.now().timestamp() + 3600, abs=5)
        assert numbers(site, shown["url"]) == numbers(site, again["url"])


def test_the_status_goes_from_queued_through_running_to_complete(tmp_path):
    """No other status is seen on the way, and none twice."""
    with served(tmp_path, events=b"".join(event(number) for number in range(50_000))) as site:
        token = site.key(scopes=["exports"])
        made = create(site, token)
        seen = [made["status"]]

        def is_complete() -> bool:
            shown = site.get(f"{EXPORTS}/{made['id']}", token=token).json()
            seen.append(shown["status"])
            assert ("url" in shown) == (shown["status"] == "complete")
            return bool(seen[-1] == "complete")

        wait_until(is_complete, 30, "the end of the export")
        assert seen == sorted(seen, key=["queued", "running", "complete"].index)


def test_a_failed_export_says_why_in_json(tmp_path):
    """`errors` is a text that holds JSON; there is no url."""
    with served(tmp_path, events=EVENTS) as site:
        token = site.key(scopes=["exports"])
        (tmp_path / "events/2026/01/02/03/a.gz").unlink()
        shown = complete(site, token, create(site, token)["id"])
        assert shown["status"] == "failed"
        assert json.loads(shown["errors"])["detail"]
        assert shown["number_of_rows"] is shown["total_bytes"] is None
        assert "url" not in shown


def test_after_the_retention_the_url_is_gone(tmp_path):
    """What was made stays complete, with its figures; the file is no more, and the old link says so."""
    with served(tmp_path, events=EVENTS, exports={"retention": "1s"}) as site:
        token = site.key(scopes=["exports"])
        shown = complete(site, token, create(site, token)["id"])
        kept: dict[str, Any] = {}

        def is_gone() -> bool:
            kept.clear()
            kept.update(site.get(f"{EXPORTS}/{shown['id']}/", token=token).json())
            return "url" not in kept

        wait_until(is_gone, 10, "the end of the file")
        assert (kept["status"], kept["number_of_rows"]) == ("complete", 20)
        assert site.client.get(shown["url"]).status_code == 410


def test_a_deleted_export_is_gone_with_its_file_and_its_links(site, token):
    """204; then it does not exist, and a link that had not expired opens nothing."""
    for slash in ("", "/"):
        shown = complete(site, token, create(site, token)["id"])
        answer = site.delete(f"{EXPORTS}/{shown['id']}{slash}", token=token)
        assert (answer.status_code, answer.content) == (204, b"")
        assert site.client.get(shown["url"]).status_code == 404
        refused(site.get(f"{EXPORTS}/{shown['id']}/", token=token), 404)
        refused(site.delete(f"{EXPORTS}/{shown['id']}/", token=token), 404)
        assert shown["id"] not in [each["id"] for each in site.get(f"{EXPORTS}/", token=token).json()]


def test_exports_are_not_changed(site, token):
    """PUT and PATCH are answered with 405 and the methods that there are."""
    made = create(site, token)
    for slash in ("", "/"):
        for method in ("PUT", "PATCH"):
            answer = site.request(method, f"{EXPORTS}/{made['id']}{slash}", json={"name": "new"}, token=token)
            refused(answer, 405)
            assert {each.strip() for each in answer.headers["allow"].split(",")} >= {"GET", "DELETE"}
    assert site.get(f"{EXPORTS}/{made['id']}", token=token).json()["name"] == "Export 007"


def test_the_list_is_an_array_in_pages(tmp_path):
    """Newest first; the Link header leads through all of them, and ends."""
    with served(tmp_path, events=EVENTS) as site:
        token = site.key(scopes=["exports"])
        query = save(site, token)
        ids = [create(site, token, query=query)["id"] for _ in range(5)]
        assert site.post("/v1/exports", json={"name": "native"}, token=token).status_code == 201
        answer = site.get(f"{EXPORTS}/", token=token)
        assert answer.status_code == 200
        assert [each["id"] for each in answer.json()] == ids[::-1]
        assert answer.json()[0].keys() >= FIELDS
        assert "link" not in answer.headers
        answer, found = site.get(f"{EXPORTS}?limit=2", token=token), []
        while True:
            found += [each["id"] for each in answer.json()]
            if "next" not in answer.links:
                break
            assert len(answer.json()) == 2
            answer = site.client.get(answer.links["next"]["url"], headers={"Authorization": f"JWT {token}"})
        assert found == ids[::-1]


# -- saved queries ----------------------------------------------------------------------------------------------------


def test_an_export_holds_what_its_query_selects(site, token):
    """The query's filter, timeframe and fields, in the native forms."""
    query = save(site, token, filter=[*RED, {"field": "n", "gt": 2}], timeframe="2026-01-02", fields=["n", "color"])
    shown = complete(site, token, create(site, token, query=query)["id"])
    assert numbers(site, shown["url"]) == [3, 5, 7, 9]
    assert site.client.get(shown["url"]).text.splitlines()[0] == "n,color"
    query = save(site, token, timeframe={"start": "2020-01-01", "end": "2020-01-02"})
    shown = complete(site, token, create(site, token, query=query)["id"])
    assert (shown["status"], shown["number_of_rows"], numbers(site, shown["url"])) == ("complete", 0, [])


def test_a_query_is_saved_shown_listed_replaced_and_deleted(site, token):
    """The whole life of one."""
    said = {"name": "reds", "notes": "of us", "tags": ["a"], "filter": RED, "timeframe": "last_7_days",
            "timezone": "Europe/Berlin", "fields": ["n"]}  # fmt: skip
    made = site.post(f"{QUERIES}/", json=said, token=token).json()
    assert {name: made[name] for name in said} == said
    assert made.keys() == {*said, "id", "created", "modified", "created_by"}
    path = f"{QUERIES}/{made['id']}"
    assert site.get(path, token=token).json() == site.get(f"{path}/", token=token).json() == made
    assert made in site.get(f"{QUERIES}/", token=token).json()
    changed = site.put(f"{path}/", json={**made, "name": "blues", "filter": []}, token=token)
    assert changed.status_code == 200
    assert (changed.json()["name"], changed.json()["filter"], changed.json()["id"]) == ("blues", [], made["id"])
    made_from_it = create(site, token, query=made["id"])
    assert site.delete(path, token=token).status_code == 204
    refused(site.get(path, token=token), 404)
    refused(site.put(path, json={"name": "x"}, token=token), 404)
    assert complete(site, token, made_from_it["id"])["status"] == "complete"
    again = site.post(EXPORTS, json={"name": "x", "query": made["id"]}, token=token)
    assert wrong_fields(again).keys() == {"query"}


def test_queries_are_listed_in_pages(site):
    """As exports are."""
    token = site.key(scopes=["exports"], tenants=["of its own"])
    ids = [save(site, token) for _ in range(3)]
    first = site.get(f"{QUERIES}?limit=2", token=token)
    second = site.client.get(first.links["next"]["url"], headers={"Authorization": token})
    assert [each["id"] for each in first.json() + second.json()] == ids[::-1]
    assert "next" not in second.links


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"filter": [{"field": "n", "equals": 1}]}, "filter"),
        ({"filter": [{"field": "n", "gt": [1]}]}, "filter"),
        ({"filter": [7]}, "filter"),
        ({"filter": "n = 1"}, "filter"),
        ({"filter": [{"field": "n", "eq": 1}] * 10_000}, "filter"),
        ({"filter": [{"field": "a", "regex": "("}]}, "filter"),
        ({"timeframe": "last_blue_moon"}, "timeframe"),
        ({"timeframe": {"start": "2026-01-02", "end": "2026-01-01"}}, "timeframe"),
        ({"timeframe": "2026-02-31"}, "timeframe"),
        ({"timeframe": 7}, "timeframe"),
        ({"timeframe": "today", "timezone": "Mars/Olympus"}, "timezone"),
        ({"timezone": 1}, "timezone"),
        ({"fields": ["a..b"]}, "fields"),
        ({"fields": "n"}, "fields"),
        ({"fields": [1]}, "fields"),
        ({"select": "*"}, "select"),
    ],
)
def test_a_query_that_cannot_be_asked_is_not_saved(site, token, change, field):
    """400 with the field, at creation and at replacement alike."""
    path = f"{QUERIES}/{save(site, token)}"
    for answer in (
        site.post(QUERIES, json={"name": "q", **change}, token=token),
        site.put(path, json={"name": "q", **change}, token=token),
    ):
        assert wrong_fields(answer).keys() == {field}


# -- who may ask ------------------------------------------------------------------------------------------------------


def test_a_token_comes_as_jwt_as_bearer_or_bare(site, token):
    """The three ways in which Gooee's clients send one; nothing else opens anything."""
    for text in (f"JWT {token}", f"jwt {token}", f"Bearer {token}", token):
        assert site.get(f"{EXPORTS}/", headers={"Authorization": text}).status_code == 200
    revoked = site.key(scopes=["exports"])
    site.revoke(revoked)
    for headers in (
        {},
        {"Authorization": "JWT nonsense"},
        {"Authorization": "JWT"},
        {"Authorization": f"JWT {revoked}"},
        {"Authorization": f"Token {token}"},
        {"X-Api-Key": token},
    ):
        for method, path in (("GET", EXPORTS), ("POST", EXPORTS), ("DELETE", f"{EXPORTS}/1"), ("GET", QUERIES)):
            answer = site.request(method, path, headers=headers, json={} if method == "POST" else None)
            refused(answer, 401)
            assert "JWT" in answer.headers["www-authenticate"]
    refused(site.get(EXPORTS, token=site.key(scopes=["events"])), 403)


def test_what_belongs_to_another_tenant_does_not_exist(site, token):
    """Neither its events nor its exports nor its queries; the answer is that for an id that nobody has."""
    theirs = site.key(scopes=["exports"], tenants=["umbra"])
    query = save(site, theirs)
    shown = complete(site, theirs, create(site, theirs, query=query)["id"])
    assert numbers(site, shown["url"]) == list(range(100, 110))
    nobody = str(uuid.uuid4())
    for path, own in ((EXPORTS, shown["id"]), (QUERIES, query)):
        for method in ("GET", "DELETE"):
            foreign = refused(site.request(method, f"{path}/{own}/", token=token), 404)
            assert foreign.replace(own, nobody) == refused(site.request(method, f"{path}/{nobody}/", token=token), 404)
        assert own not in site.get(f"{path}/", token=token).text
    answers = [site.post(EXPORTS, json={"name": "x", "query": each}, token=token) for each in (query, nobody)]
    assert [answer.text.replace(query, nobody) for answer in answers] == [answers[1].text] * 2
    assert wrong_fields(answers[0]).keys() == {"query"}
    assert site.get(f"{EXPORTS}/{shown['id']}", token=theirs).status_code == 200


def test_exports_of_other_dialects_are_not_shown(site, token):
    """An id of the native API is not one of this one."""
    made = site.post("/v1/exports", json={"name": "x"}, token=token).json()["id"]
    refused(site.get(f"{EXPORTS}/{made}", token=token), 404)
    refused(site.delete(f"{EXPORTS}/{made}", token=token), 404)
    assert site.get(f"/v1/exports/{made}", token=token).status_code == 200


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": None}, {"name": ["This field may not be null."]}),
        ({"name": ""}, {"name": ["This field may not be blank."]}),
        ({"name": "  "}, {"name": ["This field may not be blank."]}),
        ({"name": "n" * 101}, {"name": ["Ensure this field has no more than 100 characters."]}),
        ({"name": 7}, {"name": ["Not a valid string."]}),
        ({"name": "\ud800"}, {"name": ["Not a valid string."]}),
        ({"name": "a\0b"}, {"name": ["Null characters are not allowed."]}),
        ({"notes": ["x"]}, {"notes": ["Not a valid string."]}),
        ({"tags": "x"}, {"tags": ["Expected a list of items."]}),
        ({"tags": ["t" * 51]}, {"tags": ["[0]: Ensure this field has no more than 50 characters."]}),
        ({"tags": ["a", 1]}, {"tags": ["[1]: Not a valid string."]}),
        ({"customer_scopes": {"a": 1}}, {"customer_scopes": ["Expected a list of items."]}),
        ({"partner_scopes": [None]}, {"partner_scopes": ["[0]: This field may not be null."]}),
        ({"query": 7, "name": 8}, {"query": ["Not a valid string."], "name": ["Not a valid string."]}),
        ({"customer_scope": []}, {"customer_scope": ["This field is not known."]}),
    ],
)
def test_bad_fields_are_named_with_what_is_wrong(site, token, change, expected):
    """400 with a list of sentences for each field that is wrong, as Django's REST framework has it."""
    body = json.dumps({"name": "x", "query": save(site, token), **change})
    answer = site.post(EXPORTS, content=body, headers={"Content-Type": "application/json"}, token=token)
    assert wrong_fields(answer) == expected


def test_name_and_query_are_required(site, token):
    """Both are named at once."""
    expected = {"name": ["This field is required."], "query": ["This field is required."]}
    assert wrong_fields(site.post(EXPORTS, json={}, token=token)) == expected
    assert wrong_fields(site.post(QUERIES, json={}, token=token)) == {"name": ["This field is required."]}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"7", b'"x"', b"[" * 100_000, b"\xff\xfe"])
def test_a_body_that_is_no_object_is_refused_with_400(site, token, body):
    """Broken JSON, and JSON of another kind, on every route that takes a body."""
    query = save(site, token)
    for method, path in (("POST", EXPORTS), ("POST", QUERIES), ("PUT", f"{QUERIES}/{query}")):
        headers = {"Content-Type": "application/json"}
        answer = site.request(method, path, content=body, headers=headers, token=token)
        assert answer.status_code == 400
        assert answer.json().keys() <= {"detail", "non_field_errors"}


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "after=x", "after=-1", f"after={10**30}"])
def test_bad_pages_are_refused_with_the_parameter(site, token, query):
    """400, in both lists."""
    for path in (EXPORTS, QUERIES):
        assert wrong_fields(site.get(f"{path}?{query}", token=token)).keys() == {query.partition("=")[0]}


def test_other_requests_below_the_path_are_refused_in_the_same_shape(site, token):
    """Unknown and twisted paths, other methods, huge bodies."""
    for path in ("", "/", "/history", "/exports/%2e%2e", "/exports/1/2", "/exports/%00", "/exports/a%2Fb",
                 "/exports/'--", f"/exports/{'a' * 5000}", "/queries/%2e%2e/"):  # fmt: skip
        refused(site.get(f"/analytics{path}", token=token), 404)
    refused(site.delete(EXPORTS, token=token), 405)
    refused(site.get("/analytics/export", token=token), 405)
    status, found = announce(site, "POST", EXPORTS)
    assert (status, found.keys()) == (413, {"detail"})


def test_a_full_queue_is_told_with_a_time_to_come_again(tmp_path):
    """429 with Retry-After, as for too many requests."""
    with served(tmp_path, events=EVENTS, exports={"queued_per_key": 1, "running_per_key": 1}) as site:
        token = site.key(scopes=["exports"])
        body = {"name": "x", "query": save(site, token)}
        answers = [site.post(EXPORTS, json=body, token=token) for _ in range(5)]
        full = [answer for answer in answers if answer.status_code != 201]
        assert full
        refused(full[0], 429)
        assert int(full[0].headers["retry-after"]) >= 1
