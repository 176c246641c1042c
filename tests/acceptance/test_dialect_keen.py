"""Keen's extractions and unique values over real HTTP: what its document says, and what it leaves open."""

import csv
import gzip
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from tests.acceptance.announced import announce
from tests.builders import wait_until
from tests.receivers import MailServer, mail_server
from tests.served import Site, served

from eventferry import clock

NAMES = ("_extract", "_extracts")
# The two bodies of the document, to the letter: both lack a comma, the first is a pattern besides.
PATTERN = """{
    \t"filters": [],
    \t"timeframe": <timeframe>
    \t"email": <email_address>
    }"""
SAMPLE = """{
        "filters": [
            {
                "property_name": "body:amount",
                "operator": "gt",
                "property_value": 3.50
            }
        ],
        "timeframe": "last_4_days"
        "email": "alert@keen.io"
    }"""


def line(number: int, **more: Any) -> bytes:
    event = {"keen": {"timestamp": "2012-08-13T19:00:00.000Z"}, "n": number, **more}
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


def days_ago(days: int) -> dict[str, str]:
    moment = datetime.fromtimestamp(clock.now_ms() / 1000 - days * 86_400, UTC)
    return {"timestamp": moment.isoformat()}


SALES = b"".join(
    [
        line(1, amount=3.5, user={"email": "ana@example.com"}),
        line(2, amount=4, user={"email": "ben@example.com"}, keen=days_ago(2)),
        line(3, amount=5.25, user={"email": "ana@example.com"}, tags=["a", "b"], keen=days_ago(2)),
        line(4, user={"email": "=1+1"}, keen=days_ago(0)),
        line(5, amount="many"),
    ]
)


@contextmanager
def office(home: Path, files: dict[str, bytes] | None = None, **top: Any) -> Iterator[Site]:
    """Files `<project>/<collection>/<name>`, by default the collection sales of the project p1."""
    keys = {"key_pattern": r"^(?P<project>[^/]+)/(?P<collection>[^/]+)/"}
    files = {"p1/sales/a.gz": SALES} if files is None else files
    with served(home, events=files, sources={"events": keys}, **top) as site:
        yield site


@contextmanager
def with_mail(home: Path, **how: Any) -> Iterator[tuple[Site, MailServer]]:
    """The office with a way to send letters."""
    with mail_server(home, "none") as server:
        channel = {
            "name": "mail", "type": "email", "host": "127.0.0.1", "port": server.port, "security": "none",
            "from": "ferry@example.com", "to": ["ops@example.com"],
        }  # fmt: skip
        with office(home / "ferry", alerts={"channels": [channel]}, **how) as site:
            yield site, server


def auth(token: str) -> dict[str, str]:
    return {"Authorization": token}


def extract(site: Site, token: str, body: object, name: str = "_extract", place: str = "p1/sales") -> httpx.Response:
    content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    how = {**auth(token), "Content-Type": "application/json"}
    return site.post(f"/2.0/projects/{place}/{name}", content=content, headers=how)


def hold(site: Site) -> None:
    """From now on no extraction begins."""
    site.service._scheduler.pause()


def ended(site: Site, token: str, made: httpx.Response, seconds: float = 30) -> dict[str, str]:
    """The row of an extraction once it is no longer `not started`."""
    assert made.status_code == 200, made.text
    row: dict[str, str] = {}

    def has_ended() -> bool:
        row.clear()
        row.update(site.get(f"/2.0/projects/p1/sales/_extract/{made.json()['_id']}", headers=auth(token)).json())
        assert ("results_url" in row) is (row["status"] == "complete")
        return row["status"] != "not started"

    wait_until(has_ended, seconds, "the end of the extraction")
    return row


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def extracted(site: Site, token: str, body: object) -> list[int]:
    """The numbers of the events in the CSV."""
    row = ended(site, token, extract(site, token, body))
    answer = httpx.get(row["results_url"])
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/csv")
    return [int(each["n"]) for each in rows_of(answer.text)]


def refused(response: httpx.Response, status: int, code: str) -> str:
    """The message of an error, whose shape and code are checked."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.json().keys() == {"message", "error_code"}
    assert response.json()["error_code"] == code, response.text
    message: str = response.json()["message"]
    return message


# -- 2.0: extraction to a file -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_an_extraction_is_requested_looked_up_and_downloaded(tmp_path: Path, name: str) -> None:
    """POST answers {"_id", "status": "not started"}; in the end there is a link to a CSV with every property."""
    with office(tmp_path) as site:
        token = site.key(scopes=["exports"])
        made = extract(site, token, {"filters": []}, name)
        assert made.status_code == 200
        assert made.json() == {"_id": made.json()["_id"], "status": "not started"}
        row = ended(site, token, made)
        assert row.keys() == {"_id", "status", "results_url"}
        assert (row["_id"], row["status"]) == (made.json()["_id"], "complete")
        answer = httpx.get(row["results_url"])
    events = rows_of(answer.text)
    assert [each["n"] for each in events] == ["1", "2", "3", "4", "5"]
    assert {*events[0]} == {"n", "amount", "user.email", "tags", "keen.timestamp"}
    assert (events[0]["user.email"], events[0]["amount"], events[2]["tags"]) == ("ana@example.com", "3.5", "a;b")


EXTRACTED: list[tuple[object, list[int]]] = [
    ({"filters": [], "timeframe": None}, [1, 2, 3, 4, 5]),
    ({"filters": [{"property_name": "body:amount", "operator": "gt", "value": 3.50}]}, [2, 3]),
    ({"filters": [{"property_name": "body:user:email", "operator": "eq", "property_value": "ana@example.com"},
                  {"property_name": "body:amount", "operator": "gt", "property_value": 4}]}, [3]),
    ({"filters": [{"property_name": "body:amount", "operator": "exists", "property_value": False}]}, [4]),
    ({"filters": [], "timeframe": "last_4_days"}, [2, 3]),
    ({"filters": [], "timeframe": {"start": "2012-08-13T19:00Z", "end": "2012-08-13T19:01Z"}}, [1, 5]),
    ({"filters": [{"property_name": "body:n", "operator": "gt", "property_value": 99}]}, []),
]  # fmt: skip


def test_filters_and_timeframe_narrow_what_is_extracted(tmp_path: Path) -> None:
    """Filters are ANDed, the value of one has either name, and without a timeframe every event counts."""
    with office(tmp_path, exports={"workers": 6, "running_per_key": 6}) as site:
        token = site.key()
        made = [(body, extract(site, token, body), numbers) for body, numbers in EXTRACTED]
        for body, answer, numbers in made:
            text = httpx.get(ended(site, token, answer)["results_url"]).text
            assert [int(each["n"]) for each in rows_of(text)] == numbers, body


def test_the_sample_body_is_400_naming_the_place_and_works_when_corrected(tmp_path: Path) -> None:
    """The documented bodies lack a comma: the message names line and column of the fault and what is missing there."""
    with with_mail(tmp_path) as (site, server):
        token = site.key()
        said = refused(extract(site, token, SAMPLE), 400, "InvalidJSONError")
        assert "comma" in said and "line 10, column 9" in said
        said = refused(extract(site, token, PATTERN), 400, "InvalidJSONError")
        assert "line 3, column 19" in said
        corrected = SAMPLE.replace('"last_4_days"\n', '"last_4_days",\n')
        row = ended(site, token, extract(site, token, corrected))
        assert [each["n"] for each in rows_of(httpx.get(row["results_url"]).text)] == ["2", "3"]
        wait_until(lambda: server.letters, 20, "the letter")
        assert server.recipients == [["alert@keen.io"]]


@pytest.mark.parametrize("name", ["email", "email_address"])
def test_an_email_is_sent_when_the_extraction_is_complete(tmp_path: Path, name: str) -> None:
    """The parameter has two names. The letter's link leads to the CSV, in which no cell is a formula."""
    with with_mail(tmp_path) as (site, server):
        token = site.key()
        ended(site, token, extract(site, token, {"filters": [], name: "ana@example.com"}))
        wait_until(lambda: server.letters, 20, "the letter")
        body = server.letters[0].get_body(("plain",))
        assert body is not None
        link = re.search(rf"{re.escape(site.url)}/\S+", body.get_content())
        assert link is not None, body.get_content()
        answer = httpx.get(link[0])
        assert answer.status_code == 200
    assert server.recipients == [["ana@example.com"]]
    assert [each["n"] for each in rows_of(answer.text)] == ["1", "2", "3", "4", "5"]
    assert rows_of(answer.text)[3]["user.email"] == "'=1+1"


def test_both_names_of_the_email_may_be_given_if_they_agree(tmp_path: Path) -> None:
    """Two different addresses are a mistake."""
    with with_mail(tmp_path) as (site, _):
        token = site.key()
        body = {"filters": [], "email": "ana@example.com", "email_address": "ana@example.com"}
        assert extract(site, token, body).status_code == 200
        said = refused(extract(site, token, {**body, "email": "ben@example.com"}), 400, "InvalidRequestFieldError")
        assert "email_address" in said


def test_without_a_way_to_send_letters_an_email_is_refused(tmp_path: Path) -> None:
    """Better than a letter that never comes."""
    with office(tmp_path) as site:
        answer = extract(site, site.key(), {"filters": [], "email": "ana@example.com"})
    assert "email" in refused(answer, 400, "InvalidRequestFieldError")


def test_a_running_extraction_is_not_started_and_has_no_results_url(tmp_path: Path) -> None:
    """The document knows no word between the two: the link is there once the status is complete."""
    with office(tmp_path) as site:
        hold(site)
        token = site.key()
        made = extract(site, token, {"filters": []})
        path = f"/2.0/projects/p1/sales/_extract/{made.json()['_id']}"
        assert site.get(path, headers=auth(token)).json() == {"status": "not started", "_id": made.json()["_id"]}
        with site.ledger.write() as tx:
            from eventferry.ledger import exports

            exports.start(tx, made.json()["_id"])
        assert site.get(path, headers=auth(token)).json() == {"status": "not started", "_id": made.json()["_id"]}


def test_a_failed_extraction_says_so_with_the_reason(tmp_path: Path) -> None:
    """`failed` is a word of ours; a cancelled one has failed, too, and an expired one is complete without its link."""
    from eventferry.ledger import exports

    with office(tmp_path) as site:
        hold(site)
        token = site.key()
        ids = [extract(site, token, {"filters": []}).json()["_id"] for _ in range(3)]
        with site.ledger.write() as tx:
            exports.fail(tx, ids[0], "its store is gone")
            exports.ask_cancel(tx, ids[1])
            exports.complete(tx, ids[2], [], keep_ms=0)
            exports.expire(tx, ids[2])
        shown = [site.get(f"/2.0/projects/p1/sales/_extracts/{each}", headers=auth(token)).json() for each in ids]
    assert [each["status"] for each in shown] == ["failed", "failed", "complete"]
    assert shown[0]["reason"] == "its store is gone"
    assert all(each["reason"] and "results_url" not in each for each in shown)


@pytest.mark.parametrize("name", NAMES)
def test_the_list_holds_the_extractions_of_the_collection(tmp_path: Path, name: str) -> None:
    """An array of rows, newest first; HEAD answers like GET, without the body; other collections have their own."""
    with office(tmp_path) as site:
        token = site.key()
        path = f"/2.0/projects/p1/sales/{name}"
        assert site.get(path, headers=auth(token)).json() == []
        first, second = (extract(site, token, {"filters": []}) for _ in range(2))
        for each in (first, second):
            ended(site, token, each)
        extract(site, token, {"filters": []}, place="p1/other")
        listed = site.get(path, headers=auth(token))
        assert [each["_id"] for each in listed.json()] == [second.json()["_id"], first.json()["_id"]]
        assert {each["status"] for each in listed.json()} == {"complete"}
        assert httpx.get(listed.json()[0]["results_url"]).status_code == 200
        for where in (path, f"{path}/{first.json()['_id']}"):
            head = site.request("HEAD", where, headers=auth(token))
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-type"] == "application/json"
        answer = site.delete(path, headers=auth(token))
        refused(answer, 405, "MethodNotAllowedError")


def test_a_job_starts_within_2_s_and_100_000_events_are_ready_in_under_a_minute(tmp_path: Path) -> None:
    """Typically under a minute, says the document; here it is seconds."""
    body = b"".join(b'{"keen":{"timestamp":%d},"n":%d}\n' % (1_700_000_000_000 + n, n) for n in range(100_000))
    with office(tmp_path, {"p1/sales/a.gz": body}) as site:
        token = site.key()
        began = clock.monotonic()
        made = extract(site, token, {"filters": []})
        shown = site.get(f"/v1/exports/{made.json()['_id']}", token=token)
        wait_until(lambda: _native(site, token, made)["started"] is not None, 10, "the start")
        row = ended(site, token, made, seconds=60)
        took = clock.monotonic() - began
        native = _native(site, token, made)
        text = httpx.get(row["results_url"]).text
    assert shown.status_code == 200
    created, started = (datetime.fromisoformat(native[name]) for name in ("created", "started"))
    assert (started - created).total_seconds() <= 2
    assert took < 60
    assert text.count("\r\n") == 100_001 and rows_of(text)[-1]["n"] == "99999"


def _native(site: Site, token: str, made: httpx.Response) -> Any:
    return site.get(f"/v1/exports/{made.json()['_id']}", token=token).json()


def test_the_nightly_file_is_in_the_inbox(tmp_path: Path) -> None:
    """What the document suggests to build is a table of the configuration: the file is made and mailed by itself."""
    from eventferry.ledger import export_schedules

    nightly = {
        "name": "nightly", "cron": "0 3 * * *", "timeframe": {"previous": {"days": 4}}, "collections": ["sales"],
        "email": ["ana@example.com"],
    }  # fmt: skip
    with with_mail(tmp_path, exports={"schedules": [nightly]}) as (site, server):
        yesterday = clock.now_ms() - 86_400_000
        with site.ledger.write() as tx:
            export_schedules.note_fired(tx, "nightly", "0 3 * * * UTC", yesterday)
        wait_until(lambda: server.letters, 30, "the letter")
        body = server.letters[0].get_body(("plain",))
        assert body is not None
        link = re.search(rf"{re.escape(site.url)}/\S+", body.get_content())
        assert link is not None
        events = rows_of(httpx.get(link[0]).text)
    assert [each["n"] for each in events] == ["2", "3"]
    assert server.recipients == [["ana@example.com"]]


def test_a_link_lives_as_long_as_configured_and_is_made_anew_at_each_view(tmp_path: Path) -> None:
    """A forged or truncated one is refused; it needs no key."""
    with office(tmp_path, exports={"link_life": "10m"}) as site:
        token = site.key()
        made = extract(site, token, {"filters": []})
        link = ended(site, token, made)["results_url"]
        expires = int(re.findall(r"expires=(\d+)", link)[0])
        assert 590 <= expires - clock.now_ms() / 1000 <= 600
        assert httpx.get(link).status_code == 200
        for bad in (link[:-1], link.replace(f"expires={expires}", f"expires={expires + 999}"), link.partition("?")[0]):
            assert httpx.get(bad).status_code in (401, 403, 404)


BAD_BODIES: dict[str, tuple[str, str]] = {
    "nothing": ("", "InvalidJSONError"),
    "half an object": ('{"filters": [', "InvalidJSONError"),
    "a list": ("[]", "InvalidRequestFieldError"),
    "no filters": ("{}", "MissingRequiredRequestFieldError"),
    "null filters": ('{"filters": null}', "MissingRequiredRequestFieldError"),
    "filters that are no list": ('{"filters": {}}', "FilterDefinitionError"),
    "a filter that is no object": ('{"filters": [1]}', "FilterDefinitionError"),
    "an unknown operator": (
        '{"filters": [{"property_name": "body:a", "operator": "above", "property_value": 1}]}', "FilterDefinitionError"
    ),
    "an operator of 3.0": (
        '{"filters": [{"property_name": "body:a", "operator": "contains", "property_value": "x"}]}',
        "FilterDefinitionError",
    ),
    "no operand": ('{"filters": [{"property_name": "body:a", "operator": "eq"}]}', "FilterDefinitionError"),
    "a wrong operand": (
        '{"filters": [{"property_name": "body:a", "operator": "gte", "property_value": "x"}]}', "FilterDefinitionError"
    ),
    "10,000 filters": (
        json.dumps({"filters": [{"property_name": "body:a", "operator": "eq", "property_value": 1}] * 10_000}),
        "FilterDefinitionError",
    ),
    "an unknown word": ('{"filters": [], "timeframe": "last_blue_moon"}', "TimeframeDefinitionError"),
    "an absurd word": ('{"filters": [], "timeframe": "last_99999999999_days"}', "TimeframeDefinitionError"),
    "a word of 3.0": ('{"filters": [], "timeframe": "previous_3_days"}', "TimeframeDefinitionError"),
    "a number as timeframe": ('{"filters": [], "timeframe": 7}', "TimeframeDefinitionError"),
    "an end before the start": (
        '{"filters": [], "timeframe": {"start": "2012-08-14", "end": "2012-08-13"}}', "TimeframeDefinitionError"
    ),
    "a day that does not exist": (
        '{"filters": [], "timeframe": {"start": "2012-02-31", "end": "2012-08-13"}}', "TimeframeDefinitionError"
    ),
    "an unknown member": ('{"filters": [], "timezone": "UTC"}', "UnknownRequestFieldError"),
    "a misspelt member": ('{"filters": [], "time_frame": "today"}', "UnknownRequestFieldError"),
    "an email that is a number": ('{"filters": [], "email": 7}', "InvalidRequestFieldError"),
    "an email with a line end": ('{"filters": [], "email": "a@b.ch\\nBcc: c@d.ch"}', "InvalidRequestFieldError"),
    "deep nesting": ('{"filters": ' + "[" * 50_000, "InvalidJSONError"),
    "a number that is none": ('{"filters": NaN}', "InvalidJSONError"),
    "thousands of digits": ('{"filters": ' + "9" * 5000 + "}", "InvalidJSONError"),
    "half a character": (
        '{"filters": [{"property_name": "body:a", "operator": "eq", "property_value": "\\ud800"}]}',
        "FilterDefinitionError",
    ),
}  # fmt: skip


def test_a_bad_body_is_400_with_a_message_and_a_code(tmp_path: Path) -> None:
    """In the one shape of errors; a body that is too large is 413."""
    with with_mail(tmp_path) as (site, server):
        token = site.key()
        for name, (body, code) in BAD_BODIES.items():
            assert refused(extract(site, token, body), 400, code), name
        status, said = announce(site, "POST", "/2.0/projects/p1/sales/_extract")
        assert (status, said["error_code"]) == (413, "RequestTooLargeError")
        assert site.get("/2.0/projects/p1/sales/_extract", headers=auth(token)).json() == []
    assert server.letters == []


# -- who may -----------------------------------------------------------------------------------------------------------


def test_the_api_key_goes_bare_into_the_authorization_header(tmp_path: Path) -> None:
    """Any other way, and any other key, is 401 in the same words."""
    with office(tmp_path) as site:
        token, revoked = site.key(), site.key()
        site.revoke(revoked)
        path = "/2.0/projects/p1/sales/_extract"
        assert site.get(path, headers=auth(token)).status_code == 200
        answers = [
            site.get(path, headers=auth("ef_wrong")),
            site.get(path, headers=auth(revoked)),
            site.get(path, headers=auth(token[:-1])),
        ]
        assert len({refused(each, 401, "InvalidApiKeyError") for each in answers}) == 1
        for how in ({}, {"Authorization": "Basic eDp5"}, {"X-Api-Key": token}):
            refused(site.get(path, headers=how), 401, "InvalidApiKeyError")
        refused(site.get(path, params={"api_key": token}), 401, "InvalidApiKeyError")


def test_a_key_without_the_scope_is_403(tmp_path: Path) -> None:
    """Extractions to files are exports; what is answered at once is reading."""
    with office(tmp_path) as site:
        events, exports = site.key(scopes=["events"]), site.key(scopes=["exports"])
        refused(extract(site, events, {"filters": []}), 403, "AccessDeniedError")
        refused(site.get("/2.0/projects/p1/sales/_extract", headers=auth(events)), 403, "AccessDeniedError")
        for path in ("/2.0/projects/p1/sales/_select_unique", "/3.0/projects/p1/queries/extraction"):
            refused(site.get(path, headers=auth(exports)), 403, "AccessDeniedError")
        body = {"event_collection": "sales", "email": "ana@example.com"}
        answer = site.post("/3.0/projects/p1/queries/extraction", json=body, headers=auth(events))
        refused(answer, 403, "AccessDeniedError")


def test_what_is_of_another_project_collection_or_key_does_not_exist(tmp_path: Path) -> None:
    """404 in the same words, whether it is there or not."""
    with office(tmp_path, {"p1/sales/a.gz": SALES, "p2/sales/a.gz": line(7)}) as site:
        hold(site)
        token, other = site.key(), site.key(projects=["p2"])
        name = extract(site, token, {"filters": []}).json()["_id"]
        for path in (f"p1/other/_extract/{name}", f"p2/sales/_extract/{name}", "p1/sales/_extract/..%2f..%2fetc",
                     "p1/sales/_extract/%00", "p1/sales/_extract/nothing"):  # fmt: skip
            refused(site.get(f"/2.0/projects/{path}", headers=auth(token)), 404, "ResourceNotFoundError")
        refused(site.get(f"/2.0/projects/p2/sales/_extract/{name}", headers=auth(other)), 404, "ResourceNotFoundError")
        said = set()
        for project in ("p1", "nobody", "%2e%2e"):
            for path in (f"/2.0/projects/{project}/sales/_extract", f"/2.0/projects/{project}/sales/_extract/{name}",
                         f"/2.0/projects/{project}/sales/_select_unique", f"/3.0/projects/{project}/queries/extraction",
                         f"/3.0/projects/{project}/queries/select_unique"):  # fmt: skip
                said.add(refused(site.get(path, headers=auth(other)), 404, "ResourceNotFoundError"))
            refused(extract(site, other, {"filters": []}, place=f"{project}/sales"), 404, "ResourceNotFoundError")
        assert len(said) == 1
        for path in ("/2.0/", "/3.0/projects/p1/queries/count", "/2.0/projects/p1/sales/_nothing"):
            refused(site.get(path, headers=auth(token)), 404, "ResourceNotFoundError")


def test_the_filter_of_a_key_is_anded_to_every_query(tmp_path: Path) -> None:
    """To extractions, to events at once, to unique values."""
    from eventferry.query import parse_filter

    with office(tmp_path) as site:
        token = site.key(filter=parse_filter([{"field": "user.email", "eq": "ana@example.com"}]))
        assert extracted(site, token, {"filters": []}) == [1, 3]
        assert at_once(site, token, event_collection="sales") == [1, 3]
        values = site.get(
            "/2.0/projects/p1/sales/_select_unique", params={"distinct_property": "body:user:email"},
            headers=auth(token),
        )  # fmt: skip
        assert values.json() == {"results": ["ana@example.com"]}


# -- 2.0: unique values ------------------------------------------------------------------------------------------------


VALUES: list[tuple[dict[str, str], list[Any]]] = [
    ({"distinct_property": '["body:user:email"]'}, ["=1+1", "ana@example.com", "ben@example.com"]),
    ({"distinct_property": "body:user:email"}, ["=1+1", "ana@example.com", "ben@example.com"]),
    ({"distinct_property": '["body:amount"]'}, [3.5, 4, 5.25, "many"]),
    ({"distinct_property": '["body:tags"]'}, ["a", "b"]),
    ({"distinct_property": '["body:nothing"]'}, []),
    ({"distinct_property": '["body:user:email"]', "timeframe": "last_4_days",
      "filters": '[{"property_name":"body:amount","operator":"gt","property_value":4}]'}, ["ana@example.com"]),
    ({"distinct_property": '["body:n"]', "timeframe": '{"start":"2012-08-13T19:00Z","end":"2012-08-13T20:00Z"}'},
     [1, 5]),
]  # fmt: skip


def test_select_unique_lists_the_values_of_a_property(tmp_path: Path) -> None:
    """GET with api_key and a JSON array of one path, or the path alone, filters and a timeframe."""
    with office(tmp_path) as site:
        token = site.key()
        for more, values in VALUES:
            answer = site.get("/2.0/projects/p1/sales/_select_unique", params={"api_key": token, **more})
            assert (answer.status_code, answer.json()) == (200, {"results": values}), more


BAD_VALUES: list[tuple[dict[str, str], str]] = [
    ({}, "MissingRequiredRequestFieldError"),
    ({"distinct_property": '["a"'}, "InvalidJSONError"),
    ({"distinct_property": "[]"}, "InvalidRequestFieldError"),
    ({"distinct_property": '["a","b"]'}, "InvalidRequestFieldError"),
    ({"distinct_property": "[1]"}, "InvalidPropertyNameError"),
    ({"distinct_property": "a::b"}, "InvalidPropertyNameError"),
    ({"distinct_property": "header:timestamp"}, "InvalidPropertyNameError"),
    ({"distinct_property": "a", "filters": "{"}, "InvalidJSONError"),
    ({"distinct_property": "a", "filters": "{}"}, "FilterDefinitionError"),
    ({"distinct_property": "a", "timeframe": "soon"}, "TimeframeDefinitionError"),
    ({"distinct_property": "a", "filter": "[]"}, "UnknownRequestFieldError"),
]


def test_a_bad_select_unique_is_400(tmp_path: Path) -> None:
    """Missing, broken, unknown parameters and those of wrong types."""
    with office(tmp_path, {}) as site:
        token = site.key()
        for more, code in BAD_VALUES:
            answer = site.get("/2.0/projects/p1/sales/_select_unique", params=more, headers=auth(token))
            refused(answer, 400, code)


# -- 3.0 ---------------------------------------------------------------------------------------------------------------


def at_once(site: Site, token: str, method: str = "POST", **body: Any) -> list[int]:
    """The numbers of the events in the answer."""
    return [event["n"] for event in answered(site, token, method, **body)]


def answered(site: Site, token: str, method: str = "POST", **body: Any) -> list[Any]:
    answer = asked(site, token, method, **body)
    assert answer.status_code == 200, answer.text
    assert list(answer.json()) == ["result"]
    result: list[Any] = answer.json()["result"]
    return result


def asked(site: Site, token: str, method: str = "POST", **body: Any) -> httpx.Response:
    path = "/3.0/projects/p1/queries/extraction"
    if method == "POST":
        return site.post(path, json=body, headers=auth(token))
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in body.items()}
    return site.get(path, params={**texts, "api_key": token})


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_extraction_without_an_email_answers_with_the_events(tmp_path: Path, method: str) -> None:
    """By the later names: the collection is a parameter, filters and timeframe are optional, paths have dots."""
    with office(tmp_path) as site:
        token = site.key(scopes=["events"])
        assert answered(site, token, method, event_collection="sales") == [
            json.loads(each) for each in SALES.splitlines()
        ]
        amount = {"property_name": "amount", "operator": "gte", "property_value": 4}
        email = {"property_name": "user.email", "operator": "contains", "property_value": "ben"}
        either = {"operator": "or", "operands": [amount, email]}
        ask = {"event_collection": "sales"}
        assert at_once(site, token, method, **ask, filters=[amount]) == [2, 3]
        assert at_once(site, token, method, **ask, filters=[amount, email]) == [2]
        assert at_once(site, token, method, **ask, filters=[either]) == [2, 3]
        assert at_once(site, token, method, **ask, timeframe="previous_4_days", timezone="UTC") == [2, 3]
        times = {"start": "2012-08-13T19:00Z", "end": "2012-08-13T20:00Z"}
        assert at_once(site, token, method, **ask, timeframe=times, timezone=-28800) == [1, 5]
        assert at_once(site, token, method, **ask, content_type="application/json") == [1, 2, 3, 4, 5]
        assert at_once(site, token, method, event_collection="nothing") == []


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_property_names_and_latest_narrow_the_answer(tmp_path: Path, method: str) -> None:
    """property_names keeps some properties, latest the newest events, the newest of them last."""
    with office(tmp_path) as site:
        token, ask = site.key(), {"event_collection": "sales"}
        assert answered(site, token, method, **ask, property_names=["n", "user.email"])[0] == {
            "n": 1, "user": {"email": "ana@example.com"},
        }  # fmt: skip
        assert answered(site, token, method, **ask, property_names="n")[-1] == {"n": 5}
        kept = answered(site, token, method, **ask, property_names=["keen.timestamp"])[0]
        assert kept == {"keen": {"timestamp": "2012-08-13T19:00:00.000Z"}}
        assert at_once(site, token, method, **ask, latest=1) == [4]
        assert at_once(site, token, method, **ask, latest=3) == [2, 3, 4]
        assert at_once(site, token, method, **ask, latest=100) == [1, 5, 2, 3, 4]


def test_more_than_100_000_events_at_once_are_413(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit, here lowered: the message names it and the ways out."""
    from eventferry.api.dialects import keen_three

    assert keen_three.MOST_AT_ONCE == 100_000
    monkeypatch.setattr(keen_three, "MOST_AT_ONCE", 4)
    with office(tmp_path) as site:
        token = site.key()
        said = refused(asked(site, token, event_collection="sales"), 413, "ResultTooLargeError")
        assert "more than 4 events" in said and "email" in said
        assert at_once(site, token, event_collection="sales", latest=4) == [5, 2, 3, 4]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_extraction_with_an_email_is_processed_and_mailed(tmp_path: Path, method: str) -> None:
    """The answer is the sentence of the documents; the letter links to CSV, or to JSON, gzipped where asked."""
    with with_mail(tmp_path) as (site, server):
        token = site.key()
        ask = {"event_collection": "sales", "email": "ana@example.com", "property_names": ["n"], "latest": 2}
        for number, more in enumerate([{}, {"content_type": "application/json", "content_encoding": "gzip"}], 1):
            answer = asked(site, token, method, **ask, **more)
            said = "Processing. Check the specified email for the extraction results."
            assert (answer.status_code, answer.json()) == (200, {"result": said})
            wait_until(lambda number=number: len(server.letters) >= number, 20, "the letter")
        texts = []
        for letter in server.letters:
            body = letter.get_body(("plain",))
            assert body is not None
            link = re.search(rf"{re.escape(site.url)}/\S+", body.get_content())
            assert link is not None
            texts.append(httpx.get(link[0]).content)
    assert texts[0] == b"n\r\n3\r\n4\r\n"
    assert json.loads(gzip.decompress(texts[1])) == [{"n": 3}, {"n": 4}]


BAD_EXTRACTIONS: list[tuple[dict[str, Any], str]] = [
    ({}, "MissingRequiredRequestFieldError"),
    ({"event_collection": 7}, "InvalidRequestFieldError"),
    ({"event_collection": "sales", "filters": "x"}, "FilterDefinitionError"),
    ({"event_collection": "sales", "filters": [{"property_name": "a", "operator": "within", "property_value": 1}]},
     "FilterDefinitionError"),
    ({"event_collection": "sales", "filters": [{"property_name": "a", "operator": "regex", "property_value": "("}]},
     "FilterDefinitionError"),
    ({"event_collection": "sales", "timeframe": "sometime"}, "TimeframeDefinitionError"),
    ({"event_collection": "sales", "timeframe": "today", "timezone": "Mars/Olympus"}, "TimeframeDefinitionError"),
    ({"event_collection": "sales", "timeframe": "today", "timezone": 10**9}, "TimeframeDefinitionError"),
    ({"event_collection": "sales", "latest": 0}, "InvalidRequestFieldError"),
    ({"event_collection": "sales", "latest": 10**12}, "InvalidRequestFieldError"),
    ({"event_collection": "sales", "latest": True}, "InvalidRequestFieldError"),
    ({"event_collection": "sales", "property_names": {"a": 1}}, "InvalidRequestFieldError"),
    ({"event_collection": "sales", "property_names": ["a..b"]}, "InvalidPropertyNameError"),
    ({"event_collection": "sales", "property_names": ["a"] * 5000}, "InvalidRequestFieldError"),
    ({"event_collection": "sales", "content_type": "text/csv"}, "InvalidRequestFieldError"),
    ({"event_collection": "sales", "content_encoding": "gzip"}, "InvalidRequestFieldError"),
    ({"event_collection": "sales", "email": "a@b.ch", "content_type": "text/html"}, "InvalidRequestFieldError"),
    ({"event_collection": "sales", "email": "nobody"}, "InvalidRequestFieldError"),
    ({"event_collection": "sales", "group_by": "a"}, "UnknownRequestFieldError"),
]  # fmt: skip


def test_a_bad_extraction_is_400(tmp_path: Path) -> None:
    """Each parameter has its rules, which are the same in a URL and in a body."""
    with office(tmp_path) as site:
        token = site.key()
        for body, code in BAD_EXTRACTIONS:
            refused(asked(site, token, **body), 400, code)
            if body.get("event_collection") != 7:  # in a URL everything is text
                answer = asked(site, token, "GET", **body)
                assert (answer.status_code, answer.json().keys()) == (400, {"message", "error_code"}), body


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_select_unique_by_its_later_name(tmp_path: Path, method: str) -> None:
    """`result`, as every client of Keen's reads it; the property is target_property, with dots."""
    ask = {"event_collection": "sales", "target_property": "user.email"}
    path = "/3.0/projects/p1/queries/select_unique"
    with office(tmp_path) as site:
        token = site.key()
        if method == "POST":
            answer = site.post(path, json={**ask, "timeframe": "previous_4_days"}, headers=auth(token))
            bad = site.post(path, json={"event_collection": "sales"}, headers=auth(token))
        else:
            answer = site.get(
                f"{path}?timeframe=previous_4_days", params={**ask, "api_key": token, "timeframe": "previous_4_days"}
            )
            bad = site.get(f"{path}?event_collection=sales&api_key={quote(token)}")
    assert answer.json() == {"result": ["ana@example.com", "ben@example.com"]}
    assert "target_property" in refused(bad, 400, "MissingRequiredRequestFieldError")


def test_more_values_than_can_be_listed_are_413(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of unique values, here lowered."""
    from eventferry.api.dialects import keen_project

    monkeypatch.setattr(keen_project, "MOST_VALUES", 2)
    with office(tmp_path) as site:
        more = {"distinct_property": "body:n", "api_key": site.key()}
        said = refused(site.get("/2.0/projects/p1/sales/_select_unique", params=more), 413, "ResultTooLargeError")
    assert "more than 2 values" in said
