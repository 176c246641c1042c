"""Altis' events endpoint as its document has it, over HTTP against a daemon and its server."""

import base64
import csv
import datetime as dt
import io
import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.acceptance.announced import announce
from tests.builders import event, events
from tests.served import Site, served

from eventferry.query.native import parse_filter

DAY = "/wp-json/analytics/v1/events"


def at(text: str) -> int:
    """Epoch ms of a time in UTC."""
    return int(dt.datetime.fromisoformat(f"{text}+00:00").timestamp() * 1000)


def page_view(number: int, time: str, tenant: str = "acme", **more: Any) -> bytes:
    """An event as the tracker of Altis sends it."""
    attributes = {"url": f"https://ex.test/{number}/", "tags": ["a", number], **more}
    return event(number, event_timestamp=at(time), tenant=tenant, attributes=attributes)


TIMES = (
    "2026-01-01T23:59:59.999",
    "2026-01-02T00:00:00",
    "2026-01-02T12:00:00",
    "2026-01-02T23:59:59.999",
    "2026-01-03T00:00:00",
)
EVENTS = b"".join(page_view(n, time) for n, time in enumerate(TIMES))
THEIRS = b"".join(page_view(n, time, "umbra", secret="x") for n, time in enumerate(TIMES, 100))
BY_TENANT = {"events": {"tenant_field": "tenant"}}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served(tmp_path_factory.mktemp("altis"), events=EVENTS + THEIRS, sources=BY_TENANT) as each:
        yield each


@pytest.fixture(scope="module")
def token(site: Site) -> str:
    """The application password of a person of tenant acme."""
    return site.key(scopes=["events"], tenants=["acme"], owner="Ana Lee")


@pytest.fixture(scope="module")
def ana(token: str) -> tuple[str, str]:
    """What `curl -u` takes."""
    return ("Ana Lee", token)


def numbers(answer: httpx.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [each["n"] for each in answer.json()]


def rows(answer: httpx.Response) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.text, newline=""), strict=True))


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The data of a refusal in WordPress' shape."""
    assert answer.status_code == status, answer.text
    found = answer.json()
    assert found.keys() == {"code", "message", "data"}
    assert (found["code"], found["data"]["status"]) == (code, status)
    assert found["message"]
    return dict(found["data"])


def pieces(site: Site, path: str, auth: tuple[str, str]) -> list[bytes]:
    """The pieces in which the body of an answer goes out."""
    credential = base64.b64encode(":".join(auth).encode()).decode()
    host, port = site.url.removeprefix("http://").split(":")
    head = (f"GET {path} HTTP/1.1", f"Host: {host}", f"Authorization: Basic {credential}", "Connection: close", "", "")
    with socket.create_connection((host, int(port)), 20) as wire:
        wire.sendall("\r\n".join(head).encode())
        received = b"".join(iter(lambda: wire.recv(65536), b""))
    head, _, rest = received.partition(b"\r\n\r\n")
    assert b"200" in head.split(b"\r\n")[0]
    assert b"chunked" in head.lower()
    found = []
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if int(size, 16) == 0:
            return found
        found.append(rest[: int(size, 16)])
        rest = rest[int(size, 16) + 2 :]


# -- the document's own words -----------------------------------------------------------------------------------------


def test_the_events_of_a_day_are_an_array_of_them_as_they_came(site, ana):
    """JSON by default: every event of the day, in UTC, from its first millisecond to its last, untouched."""
    answer = site.get(f"{DAY}/2026-01-02", auth=ana)
    assert numbers(answer) == [1, 2, 3]
    assert answer.headers["content-type"] == "application/json; charset=UTF-8"
    assert answer.json() == [json.loads(line) for line in EVENTS.splitlines()[1:4]]


def test_the_example_of_the_document_downloads_csv(site, ana):
    """`curl -u "<username>:<password>" …/events/<YYYY-MM-DD>?format=csv` answers with a table of the day."""
    answer = site.get(f"{DAY}/2026-01-02?format=csv", auth=ana)
    found = rows(answer)
    assert answer.headers["content-type"] == "text/csv; charset=UTF-8"
    assert [row["n"] for row in found] == ["1", "2", "3"]
    assert list(found[0]) == sorted(found[0])
    assert (found[0]["attributes.url"], found[0]["attributes.tags"]) == ("https://ex.test/1/", "a;1")


def test_the_newer_name_of_the_endpoint_works_too(site, ana):
    """accelerate/v1 gives what analytics/v1 gives, also with a slash at the end."""
    older = site.get(f"{DAY}/2026-01-02", auth=ana)
    for path in ("/wp-json/accelerate/v1/events/2026-01-02", f"{DAY}/2026-01-02/"):
        assert site.get(path, auth=ana).content == older.content


def test_format_is_json_or_csv(site, ana):
    """JSON is the default; any other word is refused, naming the parameter."""
    assert numbers(site.get(f"{DAY}/2026-01-02?format=json", auth=ana)) == [1, 2, 3]
    for word in ("xml", "CSV", "", "ndjson", "csv,json", "%00"):
        data = refused(site.get(f"{DAY}/2026-01-02?format={word}", auth=ana), 400, "rest_invalid_param")
        assert data["params"].keys() == {"format"}


@pytest.mark.parametrize(
    ("accept", "format", "kind"),
    [
        ("text/csv", "json", "text/csv"),
        ("text/csv", None, "text/csv"),
        ("TEXT/CSV; q=1.0", "json", "text/csv"),
        ("*/*", None, "application/json"),
        ("*/*", "csv", "text/csv"),
        ("application/json", "csv", "text/csv"),
        ("text/csv;q=0.5, application/json", None, "application/json"),
        ("text/csv;q=0.5, application/json;q=0.4", None, "text/csv"),
        ("text/csv;q=0.5, */*;q=0.8", None, "application/json"),
        ("text/csv, */*", "json", "text/csv"),
        ("application/json, text/csv", None, "application/json"),
        ("text/csv, application/json", None, "text/csv"),
        ("text/*", None, "text/csv"),
        ("text/csv;q=0", "json", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", None, "application/json"),
        ("text/csv;q=high", None, "application/json"),
        (",;q=1,,", "csv", "text/csv"),
        ("", None, "application/json"),
    ],
)
def test_an_accept_header_that_prefers_csv_goes_before_format(site, ana, accept, format, kind):
    """By quality, then by how specific it is, then by its place; */* leaves it to `format`."""
    query = "" if format is None else f"?format={format}"
    answer = site.get(f"{DAY}/2026-01-02{query}", auth=ana, headers={"Accept": accept})
    assert answer.headers["content-type"].startswith(kind)


def test_the_total_is_told_before_the_events(site, ana):
    """X-WP-Total counts the events of the answer, and no proxy is to hold the answer back."""
    for query in ("", "?format=csv"):
        answer = site.get(f"{DAY}/2026-01-02{query}", auth=ana)
        assert answer.headers["x-wp-total"] == "3"
        assert answer.headers["x-accel-buffering"] == "no"
    assert site.get(f"{DAY}/2026-01-01", auth=ana).headers["x-wp-total"] == "1"


def test_a_day_without_events_is_an_empty_array_and_an_empty_table(site, ana):
    """Nothing to tell is no error, and the JSON is valid."""
    answer = site.get(f"{DAY}/2020-02-29", auth=ana)
    assert (numbers(answer), answer.headers["x-wp-total"]) == ([], "0")
    answer = site.get(f"{DAY}/2020-02-29?format=csv", auth=ana)
    assert (rows(answer), answer.headers["x-wp-total"]) == ([], "0")


def test_chunk_size_is_how_many_events_go_out_at_a_time(tmp_path):
    """3,000 by default, as many as asked for between 1 and 10,000, and never more or less than these."""
    with served(tmp_path, events=events(12_000)) as site:
        ana = ("ana", site.key(scopes=["events"]))

        def sizes(query: str) -> list[int]:
            found = pieces(site, f"{DAY}/2026-01-02{query}", ana)
            assert [each["n"] for each in json.loads(b"".join(found))] == list(range(12_000))
            return [piece.count(b'"n":') for piece in found if b'"n":' in piece]

        assert sizes("") == [3000] * 4
        assert sizes("?chunk_size=5000") == [5000, 5000, 2000]
        assert sizes("?chunk_size=10000") == sizes("?chunk_size=10001") == sizes("?chunk_size=1e300") == [10_000, 2000]
        assert sizes("?chunk_size=2500.9") == [2500, 2500, 2500, 2500, 2000]
        assert sizes("?chunk_size=1") == sizes("?chunk_size=0") == sizes("?chunk_size=-7") == [1] * 12_000


@pytest.mark.parametrize("text", ["many", "", "nan", "inf", "-inf", "1e999", "0x10", "3,000", "[]", "%F0"])
def test_a_chunk_size_that_is_no_number_is_refused(site, ana, text):
    """WordPress' own words for a parameter of the wrong type."""
    data = refused(site.get(f"{DAY}/2026-01-02?chunk_size={text}", auth=ana), 400, "rest_invalid_param")
    assert data["params"].keys() == {"chunk_size"}


def test_arguments_that_the_endpoint_does_not_know_are_ignored(site, ana):
    """As WordPress does, where plugins and caches add their own."""
    assert numbers(site.get(f"{DAY}/2026-01-02?_locale=user&per_page=1&nocache=7", auth=ana)) == [1, 2, 3]


def test_a_day_is_marked_incomplete_while_events_of_it_may_come(tmp_path):
    """X-Complete says whether the day is over and wholly indexed."""
    today = dt.datetime.now(dt.UTC)
    key = f"{today:%Y/%m/%d/%H}/a.gz"
    with served(tmp_path, events={key: event(1, event_timestamp=int(today.timestamp() * 1000))}) as site:
        ana = ("ana", site.key(scopes=["events"]))
        answer = site.get(f"{DAY}/{today:%Y-%m-%d}", auth=ana)
        assert (numbers(answer), answer.headers["x-complete"]) == ([1], "false")
        assert site.get(f"{DAY}/{today - dt.timedelta(days=3):%Y-%m-%d}", auth=ana).headers["x-complete"] == "true"


def test_the_answer_is_packed_where_the_client_unpacks(site, ana):
    """gzip on the wire, the same events, the same total."""
    packed = site.get(f"{DAY}/2026-01-02", auth=ana, headers={"Accept-Encoding": "gzip"})
    plain = site.get(f"{DAY}/2026-01-02", auth=ana, headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.content == plain.content


# -- who may ask ------------------------------------------------------------------------------------------------------


def test_requests_are_authenticated_by_an_application_password(site, token):
    """Basic with the owner's name, in whatever case, and the key, in which blanks mean nothing."""
    spaced = " ".join(re.findall(".{1,4}", token))
    for user, password in (("Ana Lee", token), ("ana lee", token), ("ANA LEE", f" {spaced} ")):
        assert numbers(site.get(f"{DAY}/2026-01-02", auth=(user, password))) == [1, 2, 3]


def test_whoever_is_not_the_owner_is_refused(site, token):
    """No, a wrong, a revoked, an expired password, another user's name, another way to present it: all 401."""
    revoked = site.key(scopes=["events"], owner="Ana Lee")
    site.revoke(revoked)
    for how in (
        {},
        {"auth": ("Ana Lee", "nonsense")},
        {"auth": ("Ana Lee", token[:-1] + ("a" if token[-1] != "a" else "b"))},
        {"auth": ("Ana Lee", revoked)},
        {"auth": ("Bob", token)},
        {"auth": ("", token)},
        {"auth": ("Ana Lee", "")},
        {"headers": {"Authorization": f"Bearer {token}"}},
        {"headers": {"Authorization": token}},
        {"headers": {"Authorization": "Basic %%%"}},
        {"headers": {"Authorization": "Basic " + base64.b64encode(b"\xff:\xff").decode()}},
        {"headers": {"X-Api-Key": token}},
    ):
        answer = site.get(f"{DAY}/2026-01-02", **how)
        refused(answer, 401, "rest_forbidden")
        assert answer.headers["www-authenticate"].startswith("Basic ")


def test_a_password_without_the_right_is_refused(site):
    """Whoever is known and may not read events gets 403."""
    ana = ("ana", site.key(scopes=["exports"]))
    refused(site.get(f"{DAY}/2026-01-02", auth=ana), 403, "rest_forbidden")


def test_events_of_another_tenant_never_appear(site, ana):
    """Neither they nor their number nor the columns that only they have."""
    umbra = ("umbra", site.key(scopes=["events"], tenants=["umbra"], owner="umbra"))
    assert numbers(site.get(f"{DAY}/2026-01-02", auth=umbra)) == [101, 102, 103]
    assert "attributes.secret" in rows(site.get(f"{DAY}/2026-01-02?format=csv", auth=umbra))[0]
    mine = site.get(f"{DAY}/2026-01-02?format=csv", auth=ana)
    assert "attributes.secret" not in rows(mine)[0]
    assert "umbra" not in mine.text
    both = ("root", site.key(scopes=["events"], owner="root"))
    assert site.get(f"{DAY}/2026-01-02", auth=both).headers["x-wp-total"] == "6"


def test_the_filter_of_a_key_is_laid_over_the_day(site):
    """What the key must not see is neither there nor counted."""
    filtered = ("f", site.key(scopes=["events"], owner="f", filter=parse_filter([{"field": "n", "gte": 3}])))
    answer = site.get(f"{DAY}/2026-01-02", auth=filtered)
    assert (numbers(answer), answer.headers["x-wp-total"]) == ([3, 101, 102, 103], "4")


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("day", ["2026-02-31", "2026-13-01", "2026-00-10", "2025-02-29", "0000-01-01", "9999-99-99"])
def test_what_is_no_day_of_the_calendar_is_refused_with_400(site, ana, day):
    """It neither rolls over into the next month nor fails."""
    data = refused(site.get(f"{DAY}/{day}", auth=ana), 400, "rest_invalid_param")
    assert data["params"].keys() == {"date"}


@pytest.mark.parametrize("day", ["0001-01-01", "1969-12-31", "9999-12-31"])
def test_any_day_of_the_calendar_can_be_asked_for(site, ana, day):
    """However far away."""
    assert numbers(site.get(f"{DAY}/{day}", auth=ana)) == []


@pytest.mark.parametrize(
    "path",
    [
        f"{DAY}/today", f"{DAY}/20260102", f"{DAY}/2026-1-2", f"{DAY}/2026-01-02T00", f"{DAY}/%2e%2e", f"{DAY}/%00",
        f"{DAY}/２０２６-01-02", f"{DAY}/2026-01-02%0A", f"{DAY}/{'1' * 5000}", f"{DAY}/2026-01-02/x", DAY, f"{DAY}/",
        "/wp-json/analytics/v2/events/2026-01-02", "/wp-json/", "/wp-json/wp/v2/users", f"{DAY}/2026-01-02%2F..%2F",
    ],
)  # fmt: skip
def test_a_path_that_is_no_route_is_answered_as_wordpress_does(site, ana, path):
    """404 with rest_no_route."""
    refused(site.get(path, auth=ana), 404, "rest_no_route")


def test_other_methods_are_refused(site, ana):
    """Events are only read here."""
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = site.request(method, f"{DAY}/2026-01-02", auth=ana)
        refused(answer, 405, "rest_no_route")
        assert "GET" in answer.headers["allow"]
    status, found = announce(site, "POST", f"{DAY}/2026-01-02")
    assert (status, found["code"], found["data"]) == (413, "rest_too_large", {"status": 413})


def test_too_many_requests_are_refused_for_a_while(tmp_path):
    """Above the limit of the key: 429 and when to come again."""
    with served(tmp_path, events=EVENTS, api={"rate": 2}) as site:
        ana = ("ana", site.key(scopes=["events"]))
        answers = [site.get(f"{DAY}/2026-01-02", auth=ana) for _ in range(4)]
        refused(answers[-1], 429, "rest_too_many")
        assert int(answers[-1].headers["retry-after"]) >= 1
