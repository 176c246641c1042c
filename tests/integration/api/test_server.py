"""The server as such: health, errors, headers, limits, its log."""

import socket

import pytest
from tests.builders import events, wait_until
from tests.served import served

from eventferry.api.access_log import shown_query
from eventferry.errors import LedgerError
from eventferry.ledger import Ledger
from eventferry.ledger.database import set_meta


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with served(tmp_path_factory.mktemp("server"), events=events(10), api={"dialects": []}) as site:
        yield site


def test_health_needs_no_key_and_readiness_names_what_is_wrong(site):
    """/healthz as long as the process lives; /readyz fails while the daemon is silent."""
    assert site.get("/healthz").json() == {"status": "ok"}
    assert site.get("/readyz").json() == {"status": "ok", "checks": {"ledger": "ok", "daemon": "ok"}}
    with site.ledger.write() as tx:
        set_meta(tx, "heartbeat_ms", 1)
    answer = site.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]["ledger"]) == (503, "ok")
    assert "1970-01-01" in answer.json()["checks"]["daemon"]
    wait_until(lambda: site.get("/readyz").status_code == 200, 20, "the next heartbeat")


def test_readiness_says_nothing_of_the_machine(site, monkeypatch, capsys):
    """Anybody may ask: the path of a ledger that fails is for the log."""

    def fail() -> None:
        raise LedgerError(f"{site.ledger.path} cannot be read: disk I/O error")

    monkeypatch.setattr(Ledger, "check", lambda _: fail())
    answer = site.get("/readyz")
    assert (answer.status_code, set(answer.json()["checks"])) == (503, {"ledger", "daemon"})
    assert "log" in answer.json()["checks"]["ledger"]
    assert str(site.ledger.path) not in answer.text
    assert "disk I/O" not in answer.text


@pytest.mark.parametrize("path", ["/healthz", "/v1/exports", "/nothing", "/openapi.json"])
def test_every_answer_carries_the_safe_headers(site, path):
    """Successes, refusals and what is nowhere."""
    headers = site.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "default-src 'none'" in headers["content-security-policy"]


def test_what_is_nowhere_is_told_as_problem_details(site):
    """404 and 405 with RFC 9457 members; 405 names what is allowed."""
    nowhere, never = site.get("/v1/nothing"), site.request("PATCH", "/v1/exports", token=site.key())
    assert nowhere.headers["content-type"] == "application/problem+json"
    assert nowhere.json()["type"] == "urn:eventferry:problem:not-found"
    assert (nowhere.status_code, nowhere.json()["instance"]) == (404, "/v1/nothing")
    assert (never.status_code, never.json()["status"]) == (405, 405)
    assert {"GET", "POST"} & set(never.headers["allow"].replace(" ", "").split(","))


@pytest.mark.parametrize("path", ["/v1/exports/../../etc/passwd", "/v1/exports/%2e%2e%2f%2e%2e", "/v1/exports/%00",
                                  "/v1/exports/x/files/..%2f..%2fledger.db", "/v1/exports/" + "x" * 5000,
                                  "/v1/events/%ff%fe", "/v1//exports", "/v1/queries/%F0%9F%92%A9"])  # fmt: skip
def test_tricks_with_paths_lead_nowhere(site, path):
    """404 or 422, never a file, never a 500."""
    host, port = site.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:  # as it is: clients tidy paths up
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Api-Key: {site.key()}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.split(b" ")[1] in (b"404", b"422"), answer[:300]
    assert b"application/problem+json" in answer


def test_a_body_above_the_limit_is_refused_announced_or_not(site):
    """413 in the native shape, also where the length is not said."""
    token = site.key()
    large = b'{"name": "' + b"x" * 2_000_000 + b'"}'
    for content in (large, iter([large[:1_000_000], large[1_000_000:]])):
        answer = site.post("/v1/exports", token=token, content=content)
        assert (answer.status_code, answer.json()["status"]) == (413, 413), answer.text
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        (b"{", 400, "body"),
        (b"[1]", 422, "body"),
        (b'"x"', 422, "body"),
        (b'{"nam": "x"}', 422, "body.nam"),
        (b'{"name": 7}', 422, "body.name"),
        (b'{"output": {"format": "xml"}}', 422, "body.output.format"),
        (b'{"output": {"latest": "7"}}', 422, "body.output.latest"),
        (b'{"output": {"fields": ["a..b"]}}', 422, "body.output.fields[0]"),
        (b'{"filter": [{"field": "n", "larger": 1}]}', 422, "body.filter[0].larger"),
        (b'{"filter": "n > 1"}', 422, None),
        (b'{"timeframe": "someday"}', 422, "body.timeframe"),
        (b'{"timeframe": {"start": "2026-02-31"}}', 422, "body.timeframe.start"),
        (b'{"timeframe": {"start": "2026-01-03", "end": "2026-01-02"}}', 422, "body.timeframe.end"),
        (b'{"timezone": "Mars/Phobos"}', 422, "body.timezone"),
        (b'{"notify": {"email": ["ana@example.com"]}}', 422, "body.notify.email"),
        (b'{"destination": {"kind": "ftp"}}', 422, "body.destination"),
        (b'{"query": "x", "filter": [{"field": "n", "eq": 1}]}', 422, "body.filter"),
        (b'{"tags": ["' + b"x" * 51 + b'"]}', 422, "body.tags[0]"),
        (b"[" * 100_000, 400, "body"),
        (b'{"filter": ' + b'{"not":' * 5000 + b"[]" + b"}" * 5001, 422, None),
        (b'{"name": "\xff"}', 400, "body"),
    ],
)
def test_a_bad_body_is_answered_with_its_place(site, body, status, where):
    """Never a 500; each mistake names where it stands and what to do."""
    headers = {"Content-Type": "application/json"}
    answer = site.post("/v1/exports", token=site.key(), content=body, headers=headers)
    assert answer.headers["content-type"] == "application/problem+json"
    if where is None:
        assert answer.status_code in (400, 422), answer.text
        return
    assert answer.status_code == status, answer.text
    assert where in [each["where"] for each in answer.json()["errors"]], answer.text
    assert where in answer.json()["detail"] or where == "body", answer.text


def test_ten_thousand_filters_are_refused_at_once(site):
    """The limit of comparisons holds, with its place."""
    body = {"filter": [{"field": "n", "eq": each} for each in range(10_000)]}
    answer = site.post("/v1/exports", token=site.key(), json=body)
    assert (answer.status_code, answer.json()["errors"][0]["where"]) == (422, "body.filter[1000].eq")


def test_a_key_above_its_rate_waits_and_others_do_not(tmp_path):
    """429 with Retry-After for this key only; too many invalid ones from an address: the same, valid keys pass."""
    with served(tmp_path, api={"dialects": [], "rate": 5}, failures=3) as site:
        greedy, other = site.key(), site.key()
        answers = [site.get("/v1/exports", token=greedy) for _ in range(8)]
        assert [each.status_code for each in answers].count(429) >= 2
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert answers[-1].json()["type"].endswith(":too-many")
        assert [site.get("/v1/exports", token="no").status_code for _ in range(5)] == [401, 401, 401, 429, 429]
        assert site.get("/v1/exports", token=other).status_code == 200


def test_a_refusal_says_how_to_ask(site):
    """401 names the ways; 403 names the scope that is missing; a limited admin is not told of everything."""
    unknown = site.get("/v1/exports")
    assert unknown.headers["www-authenticate"].startswith("Bearer")
    assert "admin" in site.get("/v1/status", token=site.key()).json()["detail"]
    assert site.get("/v1/status", token=site.key(scopes=["admin"], tenants=["acme"])).status_code == 403
    status = site.get("/v1/status", token=site.key(scopes=["admin"])).json()
    assert (status["sources"][0]["name"], status["sources"][0]["events"]) == ("events", 10)


def test_the_log_shows_requests_without_what_opens_something():
    """Values of keys and signatures are masked; the rest stays readable."""
    shown = shown_query(b"expires=12&key=ab&signature=SECRET1&api_key=SECRET2&date=2026-01-02")
    assert "SECRET" not in shown
    assert "date=2026-01-02" in shown and "api_key=***" in shown
    assert len(shown_query(b"x=" + b"y" * 10_000)) <= 300
