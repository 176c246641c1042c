"""The native routes that answer with events at once, over real HTTP."""

import csv
import datetime as dt
import gzip
import io
import json
import os
import socket
import zlib

import httpx
import pytest
from tests.builders import event, events, put, wait_until
from tests.served import lines, served

DAY = "2026-01-02"
FIRST = 1_767_323_000_000  # the time of event 0, on that day


def at(moment: str) -> int:
    return int(dt.datetime.fromisoformat(moment).timestamp() * 1000)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Events of 2 January, two around its ends among them, of two tenants."""
    edges = [("2026-01-01T23:59:59.999Z", -2), ("2026-01-02T00:00:00.000Z", -1), ("2026-01-03T00:00:00.000Z", 900)]
    files = {
        "acme/2026/01/02/03/a.gz": events(100, page={"url": "/x"}),
        "acme/2026/01/02/23/b.gz": b"".join(event(n, event_timestamp=at(when)) for when, n in edges),
        "other/2026/01/02/03/c.gz": events(10, 500),
    }
    pattern = r"^(?P<tenant>[^/]+)/(?P<date>\d{4}/\d{2}/\d{2}/\d{2})/"
    with served(tmp_path_factory.mktemp("events"), events=files, api={"dialects": []},
                sources={"events": {"key_pattern": pattern}}) as site:  # fmt: skip
        yield site


@pytest.fixture(scope="module")
def token(site):
    return site.key()


def test_a_day_has_its_first_and_lacks_the_next_days_first_instant(site, token):
    """JSON array, half-open; X-Total is the number of events, X-Complete says that all are there."""
    answer = site.get(f"/v1/events/{DAY}", token=token)
    found = sorted(each["n"] for each in answer.json())
    assert found == [-1, *range(100), *range(500, 510)]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-total"] == "111"
    wait_until(lambda: site.get(f"/v1/events/{DAY}", token=token).headers["x-complete"] == "true")


@pytest.mark.parametrize(
    "query",
    [
        f"date={DAY}",
        "start=2026-01-02T00:00:00Z&end=2026-01-03",
        'timeframe={"start":"2026-01-02","end":"2026-01-03"}',
        "start=2026-01-01T18:00:00&end=2026-01-02T18:00:00&timezone=America/Chicago",
    ],
)
def test_every_form_of_a_day_is_the_same_day(site, token, query):
    """date, start with end, a timeframe, a timezone."""
    assert len(site.get(f"/v1/events?format=json&{query}", token=token).json()) == 111


def test_the_formats_hold_the_same_events(site, token):
    """JSON, NDJSON and CSV, asked for by name or by the Accept header; JSON keeps the bytes of each event."""
    path = f"/v1/events/{DAY}"
    json_ = site.get(path, token=token).json()
    ndjson = site.get(f"{path}?format=ndjson", token=token)
    accepted = site.get(path, token=token, headers={"Accept": "application/x-ndjson, */*;q=0.1"})
    assert lines(ndjson) == lines(accepted) == json_
    assert event(0, page={"url": "/x"}) in ndjson.content
    table = list(csv.DictReader(io.StringIO(site.get(f"{path}?format=csv", token=token).text)))
    assert [int(row["n"]) for row in table] == [each["n"] for each in json_]
    assert {row["page.url"] for row in table} == {"/x", ""}
    refused = site.get(path, token=token, headers={"Accept": "image/png"})
    assert refused.status_code == 406


def test_fields_and_filters_leave_the_rest_out(site, token):
    """Only the named fields, only what satisfies the filter."""
    query = {"filter": json.dumps([{"field": "n", "in": [1, 2]}]), "fields": "n,page.url", "format": "ndjson"}
    answer = site.get(f"/v1/events/{DAY}", token=token, params=query)
    assert answer.content == b'{"n":1,"page":{"url":"/x"}}\n{"n":2,"page":{"url":"/x"}}\n'


def test_a_tenants_key_sees_its_own_events_and_nothing_else(site):
    """Without saying so, and another tenant is 404 whether or not it exists."""
    token = site.key(tenants=["acme"])
    assert len(site.get(f"/v1/events/{DAY}", token=token).json()) == 101
    assert len(site.get(f"/v1/events/{DAY}?tenant=acme", token=token).json()) == 101
    other, never = (site.get(f"/v1/events/{DAY}?tenant={name}", token=token) for name in ("other", "never"))
    assert (other.status_code, other.text.replace("other", "never")) == (404, never.text)


def test_a_keys_filter_holds_for_everything_that_it_asks(site):
    """Events, values and properties."""
    from eventferry.query import parse_filter

    token = site.key(filter=parse_filter([{"field": "n", "gte": 500}]))
    query = f"date={DAY}"
    assert [each["n"] for each in site.get(f"/v1/events?{query}", token=token).json()] == list(range(500, 510))
    assert site.get(f"/v1/values?field=n&{query}", token=token).json()["values"] == list(range(500, 510))
    fields = [each["field"] for each in site.get(f"/v1/schema?{query}", token=token).json()["properties"]]
    assert "page.url" not in fields


def test_values_are_unique_sorted_and_bounded(site, token):
    """`all` says whether there are more."""
    shown = site.get(f"/v1/values?field=page.url&date={DAY}", token=token).json()
    assert shown == {"field": "page.url", "all": True, "values": ["/x"]}
    few = site.get(f"/v1/values?field=n&limit=5&date={DAY}", token=token).json()
    assert (len(few["values"]), few["all"]) == (5, False)


def test_a_schema_names_each_property_with_its_types_and_counts(site, token):
    """Nested ones by their paths."""
    shown = site.get(f"/v1/schema?date={DAY}", token=token).json()
    assert shown["events"] == 111
    found = {each["field"]: each["types"] for each in shown["properties"]}
    assert found["n"] == {"integer": 111}
    assert found["page.url"] == {"string": 100}


def test_the_answer_is_packed_on_the_wire_where_the_client_takes_it(site, token):
    """gzip, whole to its trailer; none where it is refused."""
    with site.client.stream("GET", f"{site.url}/v1/events/{DAY}",
                            headers={"X-Api-Key": token, "Accept-Encoding": "gzip"}) as answer:  # fmt: skip
        assert answer.headers["content-encoding"] == "gzip"
        assert len(json.loads(gzip.decompress(b"".join(answer.iter_raw())))) == 111
    plain = site.get(f"/v1/events/{DAY}", token=token, headers={"Accept-Encoding": "gzip;q=0, identity"})
    assert "content-encoding" not in plain.headers
    assert len(plain.json()) == 111


def test_a_day_without_events_is_an_empty_array_and_an_empty_table(site, token):
    """Success, zero rows."""
    empty = site.get("/v1/events/2026-01-20", token=token)
    assert (empty.status_code, empty.json(), empty.headers["x-total"]) == (200, [], "0")
    assert site.get("/v1/events/2026-01-20?format=ndjson", token=token).content == b""


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("/v1/events/2026-02-31", "path.date"),
        ("/v1/events/2026-1-2", "path.date"),
        ("/v1/events/..%2f..%2fetc", None),
        ("/v1/events", "query.date"),
        ("/v1/events?date=2026-02-31", "query.date"),
        ("/v1/events?date=2026-01-02&timeframe=today", "query.timeframe"),
        ("/v1/events?start=2026-01-03&end=2026-01-02", "query.timeframe.end"),
        ("/v1/events?start=yesterdayish", "query.start"),
        ("/v1/events?timeframe=last_0_days", "query.timeframe"),
        ("/v1/events?timeframe={", "query.timeframe"),
        ("/v1/events?date=2026-01-02&timezone=Mars/Phobos", "query.timezone"),
        ("/v1/events?date=2026-01-02&filter=[{", "query.filter"),
        ("/v1/events?date=2026-01-02&filter=NaN", "query.filter"),
        ("/v1/events?date=2026-01-02&filter=" + "[" * 5000, "query.filter"),
        ('/v1/events?date=2026-01-02&filter=[{"field":"n","larger":1}]', "query.filter[0].larger"),
        ("/v1/events?date=2026-01-02&format=xml", "query.format"),
        ("/v1/events?date=2026-01-02&fields=a..b", "query.fields[0]"),
        ("/v1/events?date=2026-01-02&dat=2026-01-02", "query.dat"),
        ("/v1/events?date=2026-01-02&date=2026-01-03", "query.date"),
        ("/v1/values?date=2026-01-02", "query.field"),
        ("/v1/values?date=2026-01-02&field=n&limit=0", "query.limit"),
        ("/v1/exports?state=lost", "query.state"),
        ("/v1/exports?cursor=xyz", "query.cursor"),
        ("/v1/exports?created_from=2026-02-31", "query.created_from"),
    ],
)
def test_bad_questions_are_answered_with_their_place(site, token, query, where):
    """Never a 500; problem details name the parameter."""
    answer = site.get(query, token=token)
    assert answer.headers["content-type"] == "application/problem+json"
    if where is None:
        assert answer.status_code in (404, 422)
        return
    assert answer.status_code == 422, answer.text
    assert [each["where"] for each in answer.json()["errors"]] == [where], answer.text


@pytest.mark.parametrize("path", ["/v1/events/17-11-2026", "/v1/events?date=17-11-2026"])
def test_what_is_no_day_is_told_how_a_day_is_written(site, token, path):
    """Not how an instant is."""
    assert "'17-11-2026' is not a day; write 2026-01-02" in site.get(path, token=token).json()["detail"]


def test_values_of_nothing_are_told_all_that_is_missing(site, token):
    """The field and the time at once."""
    shown = site.get("/v1/values", token=token).json()
    assert [each["where"] for each in shown["errors"]] == ["query.field", "query.date"]
    assert all(each["where"] in shown["detail"] for each in shown["errors"])


def test_a_day_is_incomplete_while_a_file_of_it_waits_for_a_person(tmp_path):
    """X-Complete is false for that day, and true for its neighbours."""
    files = {"2026/01/02/03/a.gz": events(10), "2026/01/03/03/b.gz": events(10)}
    with served(tmp_path, events=files, api={"dialects": []}, sources={"events": {"unreadable_after": "0s"}}) as site:
        token = site.key()
        wait_until(lambda: site.get(f"/v1/events/{DAY}", token=token).headers["x-complete"] == "true")
        whole = gzip.compress(events(1000))
        put(tmp_path / "events", "2026/01/02/04/torn.gz", whole[: len(whole) // 2], packed=False)
        wait_until(lambda: site.get(f"/v1/events/{DAY}", token=token).headers["x-complete"] == "false")
        assert site.get("/v1/events/2026-01-03", token=token).headers["x-complete"] == "true"
        today = dt.datetime.now(dt.UTC).date().isoformat()
        assert site.get(f"/v1/events/{today}", token=token).headers["x-complete"] == "false"


def test_an_answer_that_cannot_go_on_never_seems_complete(tmp_path):
    """A file that vanishes mid-way ends the connection without the body's end; one that was gone before is told."""
    big = b"".join(event(n, pad=os.urandom(600).hex()) for n in range(20_000))
    files = {f"2026/01/02/0{hour}/a.gz": big for hour in range(3, 6)}
    with served(tmp_path, events=files, api={"dialects": []}) as site:
        token = site.key()
        headers = {"X-Api-Key": token, "Accept-Encoding": "identity"}
        with pytest.raises(httpx.RemoteProtocolError):  # noqa: SIM117
            with site.client.stream("GET", f"{site.url}/v1/events/{DAY}", headers=headers) as answer:
                pieces = answer.iter_raw()
                assert next(pieces).startswith(b"[")
                (tmp_path / "events/2026/01/02/05/a.gz").unlink()
                for _ in pieces:
                    pass
        (tmp_path / "events/2026/01/02/03/a.gz").unlink()
        gone = site.get(f"/v1/events/{DAY}", token=token)
        assert (gone.status_code, gone.headers["content-type"]) == (410, "application/problem+json")


def test_reading_stops_when_the_client_leaves_and_slow_ones_delay_nobody(tmp_path):
    """Clients that read nothing leave other requests alone; nothing is read for them beyond what they take."""
    big = b"".join(event(n, pad=os.urandom(600).hex()) for n in range(20_000))
    files = {f"2026/01/02/{hour:02}/a.gz": big for hour in range(3, 7)}
    with served(tmp_path, events=files, api={"dialects": []}) as site:
        token = site.key()
        host, port = site.url.removeprefix("http://").split(":")
        slow = []
        for _ in range(60):  # more than there are threads
            connection = socket.create_connection((host, int(port)))
            connection.sendall(f"GET /v1/events/{DAY} HTTP/1.1\r\nHost: x\r\nX-Api-Key: {token}\r\n\r\n".encode())
            slow.append(connection)
        assert site.get("/healthz").status_code == 200
        assert len(site.get("/v1/events/2026-01-20", token=token).json()) == 0
        for connection in slow:
            connection.close()
        assert site.get("/healthz").status_code == 200


def test_a_packed_answer_can_be_read_while_it_comes(site, token):
    """Each piece is flushed: what was sent can be unpacked without the rest."""
    with site.client.stream("GET", f"{site.url}/v1/events/{DAY}",
                            headers={"X-Api-Key": token, "Accept-Encoding": "gzip"}) as answer:  # fmt: skip
        first = next(answer.iter_raw())
        assert zlib.decompressobj(47).decompress(first).startswith(b"[")
