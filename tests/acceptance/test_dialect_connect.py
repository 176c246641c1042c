"""Connect's export of events over real HTTP: what its document says, and what it leaves open."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from structlog.testing import capture_logs
from tests.acceptance.announced import announce
from tests.builders import wait_until
from tests.served import Site, served
from tests.servers import S3Server, s3_server

from eventferry import clock

PROPERTIES = [
    "filename", "collection", "status", "created", "started", "finished", "error", "percentDone", "transferredBytes",
    "totalBytes",
]  # fmt: skip
SECRET = "SECRETTEST"
NOT_TELLING = "NOT_TELLING-3f9c"


def line(number: int, **more: Any) -> bytes:
    event = {"id": f"e{number}", "timestamp": "2015-07-28T00:00:30.295Z", "name": "test", "n": number, **more}
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


def numbered(count: int, **more: Any) -> bytes:
    return b"".join(line(number, **more) for number in range(count))


PURCHASES = b"".join(
    [
        line(1, product="apple", price=1, user={"city": "Basel"}),
        line(2, product="apple", price=2, timestamp=datetime.now(UTC).isoformat()),
        line(3, product="pear", price=3, timestamp=datetime.now(UTC).isoformat()),
        line(4, product="pineapple", price=1234567890123456789012),
    ]
)


@contextmanager
def shop(home: Path, files: dict[str, bytes] | None = None, **top: Any) -> Iterator[Site]:
    """Files `<project>/<collection>/<name>`, by default the collection purchases of the project shop."""
    keys = {"key_pattern": r"^(?P<project>[^/]+)/(?P<collection>[^/]+)/"}
    files = {"shop/purchases/a.gz": PURCHASES} if files is None else files
    with served(home, events=files, sources={"events": keys}, **top) as site:
        yield site


def headers(token: str, project: str = "shop") -> dict[str, str]:
    return {"X-Project-Id": project, "X-Api-Key": token}


def export(site: Site, token: str, query: object = None, collection: str = "purchases", project: str = "shop"):  # type: ignore[no-untyped-def]
    """The small export."""
    text = {} if query is None else {"query": query if isinstance(query, str) else json.dumps(query)}
    return site.get(f"/events/{collection}/export", params=text, headers=headers(token, project))


def found(response: httpx.Response) -> list[int]:
    """The numbers of the events in the answer."""
    assert response.status_code == 200, response.text
    assert list(response.json()) == ["results"]
    return [event["n"] for event in response.json()["results"]]


def post(site: Site, token: str, body: object, collection: str = "purchases", project: str = "shop"):  # type: ignore[no-untyped-def]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return site.post(f"/events/{collection}/export", content=content, headers=headers(token, project))


def to_s3(store: S3Server, query: object = None, **more: Any) -> dict[str, Any]:
    path = f"{store.endpoint.rstrip('/')}/my-bucket/exports/"
    keys = {"s3Path": path, "s3AccessKeyId": store.access_key, "s3SecretAccessKey": store.secret_key}
    return {**({} if query is None else {"query": query}), **keys, **more}


@contextmanager
def with_store(home: Path, **how: Any) -> Iterator[tuple[Site, S3Server]]:
    """The shop beside a store of one's own that exports may go to."""
    (home / "s3" / "my-bucket").mkdir(parents=True)
    with s3_server(home / "s3") as store:
        port = urlsplit(store.endpoint).port
        with shop(home / "ferry", exports={"allow_endpoints": [f"127.0.0.1:{port}"]}, **how) as site:
            yield site, store


def hold(site: Site) -> None:
    """From now on no export begins."""
    site.service._scheduler.pause()


def monitored(site: Site, token: str, location: str) -> dict[str, Any]:
    """The monitor of an export once it has ended."""
    shown: dict[str, Any] = {}

    def has_ended() -> bool:
        answer = httpx.get(location, headers=headers(token))
        assert answer.status_code == 200, answer.text
        shown.update(answer.json())
        assert list(shown) == PROPERTIES
        return shown["status"] in ("Complete", "Failed")

    wait_until(has_ended, 30, "the end of the export")
    return shown


def wrong(response: httpx.Response) -> dict[str, str]:
    """The fields that a 422 names, and what is wrong with each."""
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == ["errors"]
    assert all(each.keys() == {"field", "description"} for each in response.json()["errors"])
    return {each["field"]: each["description"] for each in response.json()["errors"]}


# -- small exports ----------------------------------------------------------------------------------------------------


def test_a_small_export_answers_with_the_raw_events(tmp_path: Path) -> None:
    """What comes back is each event as it was pushed, every digit kept, in `results`."""
    with shop(tmp_path) as site:
        answer = export(site, site.key())
        assert answer.headers["content-type"].startswith("application/json")
        assert found(answer) == [1, 2, 3, 4]
        assert answer.json()["results"] == [json.loads(each) for each in PURCHASES.splitlines()]
        assert "1234567890123456789012" in answer.text


SELECTED: list[tuple[object, list[int]]] = [
    ({"filter": {"product": "apple"}, "timeframe": "today"}, [2]),
    ({"filter": {"product": "apple"}}, [1, 2]),
    ({"filter": {"product": {"eq": "apple"}, "price": {"gte": 2}}}, [2]),
    ({"filter": {"user.city": "Basel"}}, [1]),
    ({"filter": {"user.city": {"exists": False}}}, [2, 3, 4]),
    ({"filter": {"product": {"contains": "apple", "neq": "apple"}}}, [4]),
    ({"filter": {"product": {"in": ["pear", "plum"]}}}, [3]),
    ({"timeframe": "today"}, [2, 3]),
    ({"timeframe": {"current": {"days": 2}}, "timezone": 10}, [2, 3]),
    ({"timeframe": {"start": "2015-07-28T00:00:00Z", "end": "2015-07-29T00:00:00Z"}}, [1, 4]),
    ({}, [1, 2, 3, 4]),
]


def test_filters_and_timeframes_select_the_events(tmp_path: Path) -> None:
    """The query language of exports: filters, timeframes of every form, a timezone with relative ones."""
    with shop(tmp_path) as site:
        token = site.key()
        for query, numbers in SELECTED:
            assert found(export(site, token, query)) == numbers, query


def test_without_a_query_every_event_is_exported(tmp_path: Path) -> None:
    """An empty `query` is no filter and all time."""
    with shop(tmp_path) as site:
        token = site.key()
        assert found(export(site, token)) == found(export(site, token, "")) == [1, 2, 3, 4]


def test_a_collection_without_events_is_empty_whatever_its_name(tmp_path: Path) -> None:
    """Nothing tells a collection that was never pushed to from one that is not the key's."""
    with shop(tmp_path) as site:
        token = site.key()
        for name in ("nothing", "%2e%2e", "a b", "purchases%00", "%F0%9F%8D%8F", "PURCHASES", "x" * 2000):
            answer = site.get(f"/events/{name}/export", headers=headers(token))
            assert answer.status_code in (200, 404), name
            assert answer.json() in ({"results": []}, {"errorMessage": "there is nothing at this path"}), name


def test_exactly_10_000_events_are_answered_and_one_more_is_413(tmp_path: Path) -> None:
    """The limit of the small export, and the way to more than that in its message."""
    files = {"shop/just/a.gz": numbered(10_000), "shop/over/a.gz": numbered(10_001)}
    with shop(tmp_path, files) as site:
        token = site.key()
        assert len(found(export(site, token, collection="just"))) == 10_000
        assert len(found(export(site, token, {"filter": {"n": {"gte": 1}}}, collection="over"))) == 10_000
        answer = export(site, token, collection="over")
    assert answer.status_code == 413
    assert list(answer.json()) == ["errorMessage"]
    assert "10,000" in answer.json()["errorMessage"] and "Amazon S3" in answer.json()["errorMessage"]


BAD_QUERIES = {
    "no JSON": "{filter",
    "a list": "[]",
    "a word": '"today"',
    "select": {"select": {"count": "count"}},
    "groupBy": {"groupBy": "product"},
    "interval": {"interval": "daily"},
    "an unknown operator": {"filter": {"price": {"above": 3}}},
    "an or": {"filter": {"or": [{"product": "apple"}]}},
    "a wrong operand": {"filter": {"price": {"gt": "3"}}},
    "an in without a list": {"filter": {"price": {"in": 3}}},
    "a filter that is a list": {"filter": [1]},
    "an unknown word": {"timeframe": "last_blue_moon"},
    "an unknown unit": {"timeframe": {"current": {"fortnights": 1}}},
    "an absurd number": {"timeframe": {"previous": {"years": 10**9}}},
    "no number": {"timeframe": {"previous": {"days": "three"}}},
    "an end before the start": {"timeframe": {"start": "2015-07-29", "end": "2015-07-28"}},
    "a day that does not exist": {"timeframe": {"start": "2015-02-31", "end": "2015-03-28"}},
    "a time before time": {"timeframe": {"start": "0001-01-01", "end": "2015-03-28"}},
    "a timezone without a timeframe": {"timezone": 10},
    "a timezone with absolute times": {"timeframe": {"start": "2015-07-28", "end": "2015-07-29"}, "timezone": 10},
    "an unknown timezone": {"timeframe": "today", "timezone": "Mars/Olympus"},
    "an absurd timezone": {"timeframe": "today", "timezone": 10_000},
    "10,000 filters": {"filter": {f"p{number}": 1 for number in range(3000)}},
    "deep nesting": '{"filter":' + "[" * 5000 + "]" * 5000 + "}",
    "no number at all": '{"filter": {"price": NaN}}',
    "half a character": '{"filter": {"product": "\\ud800"}}',
}


def test_a_bad_query_is_422_and_names_the_query(tmp_path: Path) -> None:
    """Each is told as an error of the field `query`, in a sentence, in both kinds of exports."""
    with shop(tmp_path, {}) as site:
        token = site.key()
        for name, query in BAD_QUERIES.items():
            assert wrong(export(site, token, query)).keys() == {"query"}, name
            if not isinstance(query, str):
                body = {"query": query, "s3Path": "s3://bucket/", "s3AccessKeyId": "a", "s3SecretAccessKey": "b"}
                assert wrong(post(site, token, body)).keys() == {"query"}, name


def test_a_query_key_that_exports_do_not_know_is_named(tmp_path: Path) -> None:
    """Where an aggregate query is sent, the message says which part cannot be exported and what can."""
    with shop(tmp_path, {}) as site:
        token = site.key()
        said = wrong(export(site, token, {"select": {}, "timeframe": "today"}))["query"]
        assert "select" in said and "filter, timeframe, timezone" in said
        answer = site.get("/events/purchases/export", params={"filter": "{}"}, headers=headers(token))
        assert wrong(answer).keys() == {"filter"}


# -- exports to S3 ----------------------------------------------------------------------------------------------------


def test_an_export_to_s3_is_created_monitored_and_uploaded(tmp_path: Path) -> None:
    """201 with an absolute Location, whose ten properties end in Complete; `<id>.json` holds one line per event."""
    before = clock.now_ms() // 1000 * 1000
    with with_store(tmp_path) as (site, store):
        token = site.key(scopes=["exports"])
        path = f"{store.endpoint.rstrip('/')}/my-bucket/my%20exports/"
        made = post(site, token, to_s3(store, {"filter": {"product": "apple"}}, s3Path=path))
        assert (made.status_code, made.content) == (201, b"")
        location = made.headers["Location"]
        assert location.startswith(f"{site.url}/events/purchases/export/")
        shown = monitored(site, token, location)
        file = store.folder / "my-bucket" / "my exports" / shown["filename"]
        assert [json.loads(each)["n"] for each in file.read_bytes().splitlines()] == [1, 2]
        assert file.read_bytes() == b"".join(PURCHASES.splitlines(keepends=True)[:2])
        size = file.stat().st_size
    assert shown["filename"] == f"{location.rpartition('/')[2]}.json"
    assert (shown["collection"], shown["status"], shown["error"]) == ("purchases", "Complete", None)
    assert (shown["percentDone"], shown["transferredBytes"], shown["totalBytes"]) == (100, size, size)
    times = [datetime.strptime(shown[name], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC) for name in PROPERTIES[3:6]]
    assert sorted(times) == times and all(len(shown[name]) == 24 for name in PROPERTIES[3:6])
    assert times[0].timestamp() * 1000 >= before


def test_an_export_that_has_not_begun_is_pending(tmp_path: Path) -> None:
    """Before its worker begins, started and finished are null, and nothing is done."""
    with with_store(tmp_path) as (site, store):
        hold(site)
        token = site.key()
        shown = httpx.get(post(site, token, to_s3(store)).headers["Location"], headers=headers(token)).json()
    assert list(shown) == PROPERTIES
    assert datetime.fromisoformat(shown.pop("created")).tzinfo is not None
    assert shown.pop("filename").endswith(".json")
    assert shown == {
        "collection": "purchases", "status": "Pending", "started": None, "finished": None, "error": None,
        "percentDone": 0, "transferredBytes": 0, "totalBytes": 0,
    }  # fmt: skip


def test_a_running_export_tells_how_far_it_is(tmp_path: Path) -> None:
    """Started but not finished; the transfer, which comes last, is the last fifth of the percentage."""
    from eventferry.ledger import exports

    with with_store(tmp_path) as (site, store):
        hold(site)
        token = site.key()
        location = post(site, token, to_s3(store)).headers["Location"]
        seen = []
        for percent in (40, 90):
            with site.ledger.write() as tx:
                exports.start(tx, location.rpartition("/")[2])
                exports.note_progress(tx, location.rpartition("/")[2], events=4, bytes_=1000, percent=percent)
            seen.append(httpx.get(location, headers=headers(token)).json())
    assert [each["status"] for each in seen] == ["Running", "Running"]
    assert all(each["started"] and each["finished"] is None and each["error"] is None for each in seen)
    assert [(each["percentDone"], each["transferredBytes"], each["totalBytes"]) for each in seen] == [
        (40, 0, 1000),
        (90, 500, 1000),
    ]


def test_an_export_of_nothing_is_an_empty_object(tmp_path: Path) -> None:
    """Where nothing is selected the export is a success with an empty file."""
    with with_store(tmp_path) as (site, store):
        token = site.key()
        shown = monitored(site, token, post(site, token, to_s3(store, {"filter": {"n": 99}})).headers["Location"])
        file = store.folder / "my-bucket" / "exports" / shown["filename"]
        assert (shown["status"], shown["totalBytes"], file.read_bytes()) == ("Complete", 0, b"")


def test_wrong_credentials_fail_the_export_with_a_reason(tmp_path: Path) -> None:
    """Failed, finished, with what the store said, and nothing in the bucket: no other key is ever tried."""
    with with_store(tmp_path) as (site, store):
        token = site.key()
        body = to_s3(store, s3AccessKeyId="AKIDTEST", s3SecretAccessKey=NOT_TELLING)
        shown = monitored(site, token, post(site, token, body).headers["Location"])
        assert list((store.folder / "my-bucket").rglob("*.json")) == []
    assert shown["status"] == "Failed" and shown["finished"] is not None
    assert isinstance(shown["error"], str) and len(shown["error"]) > 10
    assert NOT_TELLING not in json.dumps(shown)


def test_more_than_1_000_000_events_fail_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of an export to S3, here lowered: the reason tells it, and nothing is uploaded."""
    from eventferry.api.dialects import connect

    assert connect.MOST_TO_S3 == 1_000_000
    monkeypatch.setattr(connect, "MOST_TO_S3", 3)
    with with_store(tmp_path) as (site, store):
        token = site.key()
        shown = monitored(site, token, post(site, token, to_s3(store)).headers["Location"])
        assert list((store.folder / "my-bucket").rglob("*.json")) == []
    assert shown["status"] == "Failed" and "3" in shown["error"]


def test_a_cancelled_export_is_failed(tmp_path: Path) -> None:
    """Connect knows no cancelling: what was cancelled through the native API has failed here, with that reason."""
    with with_store(tmp_path) as (site, store):
        hold(site)
        token = site.key()
        location = post(site, token, to_s3(store)).headers["Location"]
        site.post(f"/v1/exports/{location.rpartition('/')[2]}/cancel", token=token).raise_for_status()
        shown = httpx.get(location, headers=headers(token)).json()
    assert (shown["status"], shown["error"]) == ("Failed", "the export was cancelled")


def test_credentials_are_in_no_answer_no_log_and_not_in_the_ledger(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """They are encrypted while the export needs them, and gone when it has ended, whether well or not."""
    caplog.set_level(logging.DEBUG)
    with with_store(tmp_path) as (site, store):
        token = site.key()
        texts = []
        for secret in (SECRET, NOT_TELLING):
            made = post(site, token, to_s3(store, s3SecretAccessKey=secret))
            assert _ledger_bytes(tmp_path, secret) == []
            shown = monitored(site, token, made.headers["Location"])
            texts += [made.text, str(made.headers), json.dumps(shown)]
            texts.append(site.get(f"/v1/exports/{shown['filename'][:-5]}", token=token).text)
        bad = post(site, token, to_s3(store, s3SecretAccessKey=["SECRETTEST"], s3AccessKeyId={"a": NOT_TELLING}))
        assert wrong(bad).keys() == {"s3SecretAccessKey", "s3AccessKeyId"}
        texts.append(bad.text)
        with site.ledger.read() as tx:
            assert [row[0] for row in tx.exec_driver_sql("select credentials from exports")] == [None, None]
    said = capfd.readouterr()
    everything = "\n".join([*texts, caplog.text, said.out, said.err])
    assert SECRET not in everything and NOT_TELLING not in everything
    assert _ledger_bytes(tmp_path, SECRET) == _ledger_bytes(tmp_path, NOT_TELLING) == []


def _ledger_bytes(home: Path, secret: str) -> list[Path]:
    """The files of the state directory that hold the secret."""
    files = [path for path in (home / "ferry" / "state").rglob("*") if path.is_file()]
    assert any("ledger" in path.name for path in files)
    return [path for path in files if secret.encode() in path.read_bytes()]


BAD_PATHS = [
    "", "bucket", "/tmp/x", "file:///etc/passwd", "ftp://host/bucket", "https://", "s3://", "s3:///prefix",
    "https://s3.amazonaws.com/", "https://user:pw@bucket.s3.amazonaws.com/", "s3://bucket/a/../b",
    "https://bucket.s3.amazonaws.com/?acl", "http://169.254.169.254/latest/meta-data/", "http://localhost:1/b/",
    "https://example.com/bucket/", "https://[::1]:1/b/", "http://2130706433/b/", "s3://bucket/a\nb", "x" * 5000,
    "https://bucket.s3.amazonaws.com\\@evil/",
]  # fmt: skip


def test_a_bad_s3_path_is_422_and_named(tmp_path: Path) -> None:
    """No place in S3, a place that is not allowed, tricks: each is an error of the field `s3Path`."""
    with shop(tmp_path, {}) as site:
        token = site.key()
        for path in BAD_PATHS:
            body = {"query": {}, "s3Path": path, "s3AccessKeyId": "a", "s3SecretAccessKey": "b"}
            assert wrong(post(site, token, body)).keys() == {"s3Path"}, path


def test_the_sample_of_the_document_is_taken(tmp_path: Path) -> None:
    """The very body of the page is well-formed: 201, and a bucket of Amazon's is allowed."""
    sample = b"""{
"query": {
"timeframe": "today"
},
"s3Path": "https://my-bucket.s3.amazonaws.com/exports/",
"s3AccessKeyId": "NOT_TELLING",
"s3SecretAccessKey": "NOT_TELLING"
}"""
    with shop(tmp_path, {}) as site:
        hold(site)  # nothing is sent there
        assert post(site, site.key(), sample).status_code == 201


BAD_BODIES: list[tuple[bytes, set[str]]] = [
    (b"", {"body"}),
    (b"{", {"body"}),
    (b"[]", {"body"}),
    (b"\xff\xfe", {"body"}),
    (b"[" * 100_000, {"body"}),
    (b"{}", {"s3Path", "s3AccessKeyId", "s3SecretAccessKey"}),
    (b'{"s3Path": 1, "s3AccessKeyId": "a", "s3SecretAccessKey": "b"}', {"s3Path"}),
    (b'{"s3Path": "s3://bucket/", "s3AccessKeyId": "", "s3SecretAccessKey": "b\\n"}',
     {"s3AccessKeyId", "s3SecretAccessKey"}),
    (b'{"s3Path": "s3://bucket/", "s3AccessKeyId": "a", "s3SecretAccessKey": "b", "format": "csv"}', {"format"}),
    (b'{"query": "today", "s3Path": "s3://bucket/", "s3AccessKeyId": "a", "s3SecretAccessKey": "b"}', {"query"}),
]  # fmt: skip


def test_a_bad_request_for_an_export_names_every_wrong_field(tmp_path: Path) -> None:
    """Broken JSON, missing, empty, unknown fields and those of wrong types; a body that is too large is 413."""
    with shop(tmp_path, {}) as site:
        token = site.key()
        for body, fields in BAD_BODIES:
            assert wrong(post(site, token, body)).keys() == fields, body[:80]
        status, said = announce(site, "POST", "/events/purchases/export")
    assert status == 413 and list(said) == ["errorMessage"]


# -- who may --------------------------------------------------------------------------------------------------------


def test_a_wrong_project_is_refused_as_a_wrong_key_is(tmp_path: Path) -> None:
    """401 in the same words for no key, a wrong one, a revoked one, and the right one for another project."""
    with shop(tmp_path) as site:
        token, revoked = site.key(projects=["shop"]), site.key()
        site.revoke(revoked)
        attempts = [
            {}, {"X-Api-Key": token}, {"X-Project-Id": "shop"}, headers("ef_wrong"), headers(token, "other"),
            headers(token, "nobody"), headers(revoked), {"Authorization": f"Bearer {token}"},
        ]  # fmt: skip
        answers = [site.get("/events/purchases/export", headers=each) for each in attempts]
        assert export(site, token).status_code == 200
    assert {(each.status_code, each.text) for each in answers} == {(401, answers[0].text)}
    assert list(answers[0].json()) == ["errorMessage"]


def test_header_names_are_case_insensitive(tmp_path: Path) -> None:
    """Samples write X-API-Key, the documents X-Api-Key."""
    with shop(tmp_path) as site:
        names = {"x-project-id": "shop", "X-API-KEY": site.key(projects=["shop"])}
        assert found(site.get("/events/purchases/export", headers=names)) == [1, 2, 3, 4]


def test_a_key_without_the_scope_is_403(tmp_path: Path) -> None:
    """Reading events is one scope, exporting to S3 and its monitor the other."""
    with shop(tmp_path) as site:
        events, exports = site.key(scopes=["events"]), site.key(scopes=["exports"])
        answers = [
            export(site, exports),
            post(site, events, {}),
            site.get("/events/purchases/export/x", headers=headers(events)),
        ]
    assert [(each.status_code, list(each.json())) for each in answers] == [(403, ["errorMessage"])] * 3


def test_the_filter_of_a_key_is_anded_to_every_query(tmp_path: Path) -> None:
    """A filtered key sees its events only, in small exports and in those to S3."""
    from eventferry.query import parse_filter

    with with_store(tmp_path) as (site, store):
        token = site.key(filter=parse_filter([{"field": "product", "eq": "apple"}]))
        assert found(export(site, token)) == [1, 2]
        assert found(export(site, token, {"filter": {"product": "pear"}})) == []
        shown = monitored(
            site, token, post(site, token, to_s3(store, {"filter": {"n": {"gt": 1}}})).headers["Location"]
        )
        file = store.folder / "my-bucket" / "exports" / shown["filename"]
        assert [json.loads(each)["n"] for each in file.read_bytes().splitlines()] == [2]


def test_what_is_of_another_project_collection_or_key_does_not_exist(tmp_path: Path) -> None:
    """A monitor is there under its own collection and project only; elsewhere it is 404, as an id of nothing is."""
    files = {"shop/purchases/a.gz": PURCHASES, "bank/purchases/a.gz": numbered(7)}
    with shop(tmp_path, files) as site:
        hold(site)
        token, other = site.key(), site.key(projects=["bank"])
        body = {"query": {}, "s3Path": "s3://bucket/", "s3AccessKeyId": "a", "s3SecretAccessKey": "b"}
        location = post(site, token, body).headers["Location"]
        name = location.rpartition("/")[2]
        assert httpx.get(location, headers=headers(token)).status_code == 200
        attempts = [
            (f"/events/other/export/{name}", headers(token)),
            (f"/events/purchases/export/{name}", headers(token, "bank")),
            (f"/events/purchases/export/{name}", headers(other, "bank")),
            ("/events/purchases/export/00000000-0000-4000-8000-000000000000", headers(token)),
            ("/events/purchases/export/..%2f..%2fetc%2fpasswd", headers(token)),
            ("/events/purchases/export/%00", headers(token)),
        ]
        for path, how in attempts:
            answer = site.get(path, headers=how)
            assert answer.status_code == 404, path
            assert list(answer.json()) == ["errorMessage"], path
            assert answer.json()["errorMessage"].replace(path.rpartition("/")[2], "") in (
                "there is no export ", "there is nothing at this path", "there is no export \0",
            )  # fmt: skip
        assert len(found(export(site, token))) == 4
        assert len(found(export(site, other, project="bank"))) == 7


def test_other_methods_are_405_and_other_paths_404_in_the_same_shape(tmp_path: Path) -> None:
    """Also where no route answers."""
    with shop(tmp_path, {}) as site:
        answer = site.delete("/events/purchases/export", headers=headers(site.key()))
        assert answer.status_code == 405 and list(answer.json()) == ["errorMessage"]
        assert {each.strip() for each in answer.headers["Allow"].split(",")} >= {"GET"}
        answer = site.get("/events/purchases/nothing")
        assert answer.status_code == 404 and list(answer.json()) == ["errorMessage"]


def test_a_failure_of_the_server_is_500_with_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the shape of the document, in both kinds of exports, and without a word of its reasons."""
    from eventferry.api.dialects import connect

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(f"a mistake in {tmp_path}")

    monkeypatch.setattr(connect.inline, "gather", fail)
    monkeypatch.setattr(connect.requests, "create", fail)
    with shop(tmp_path) as site, capture_logs() as logged:
        token = site.key()
        body = {"query": {}, "s3Path": "s3://bucket/", "s3AccessKeyId": "a", "s3SecretAccessKey": NOT_TELLING}
        for answer in (export(site, token), post(site, token, body)):
            assert (answer.status_code, list(answer.json())) == (500, ["errorMessage"])
            assert str(tmp_path) not in answer.text and NOT_TELLING not in answer.text
    assert [each["event"] for each in logged].count("request.failed") == 2
    assert NOT_TELLING not in str(logged)


def test_what_the_server_cannot_do_is_told_in_a_message(tmp_path: Path) -> None:
    """Here the events' file is gone: an error of its own, in the shape of the document, and no half an answer."""
    with shop(tmp_path) as site:
        token = site.key()
        (site.home / "events" / "shop" / "purchases" / "a.gz").unlink()
        answer = export(site, token)
    assert answer.status_code in (410, 500)
    assert list(answer.json()) == ["errorMessage"]
    assert "Traceback" not in answer.text and str(tmp_path) not in answer.text
