"""Clients that are slow, greedy or odd: nobody else notices, and nothing they send comes back to hurt."""

import socket
import threading
from base64 import b64encode
from typing import Any

import httpx
import pytest
from tests.builders import events, wait_until
from tests.served import served

from eventferry.api import connections, errors, running, threads
from eventferry.api.access_log import shown_query, without_tokens
from eventferry.api.native import properties


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with served(tmp_path_factory.mktemp("hostile"), events=events(10), api={"dialects": ["altis"]}) as site:
        yield site


def connected(site) -> socket.socket:
    host, port = site.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def is_closed(connection: socket.socket) -> bool:
    connection.settimeout(0.2)
    try:
        return connection.recv(65536) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def sent(site, data: bytes) -> bytes:
    """All that is answered, read only after all was sent."""
    with connected(site) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("text", ["\xff===", "\xe9", "=", "AA", b64encode(b"\xff:\xff").decode(), "\x80" * 5000])
@pytest.mark.parametrize("path", ["/v1/exports", "/wp-json/analytics/v1/events/2026-01-02"])
def test_basic_credentials_that_are_none_are_refused_as_missing(site, path, text):
    """401, never a 500, whatever stands after the scheme."""
    answer = sent(
        site,
        f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic {text}\r\n\r\n".encode("latin-1"),
    )
    assert answer.split(b" ", 2)[1] == b"401", answer[:200]


@pytest.mark.parametrize("is_announced", [True, False])
def test_whoever_sends_too_much_reads_the_refusal_and_no_reset(site, is_announced):
    """The rest of the body is taken and dropped, up to a bound, before the connection is closed."""
    piece = b"x" * 60_000
    head = f"POST /v1/exports HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Api-Key: {site.key()}\r\n".encode()
    head += b"Content-Type: application/json\r\n"
    if is_announced:
        whole = head + b"Content-Length: 6000000\r\n\r\n" + piece * 100
    else:
        whole = (
            head + b"Transfer-Encoding: chunked\r\n\r\n" + (b"%x\r\n%b\r\n" % (len(piece), piece)) * 100 + b"0\r\n\r\n"
        )
    answer = sent(site, whole)
    assert answer.split(b" ", 2)[1] == b"413", answer[:200]
    assert b"max_body" in answer


def test_an_announced_body_beyond_all_bounds_is_refused_unread(site):
    """So is one whose sender asks first, or waits for the answer."""
    for length, extra in ((10**12, ""), (5_000_000, "Expect: 100-continue\r\n"), (5_000_000, "")):
        with connected(site) as connection:
            head = f"POST /v1/exports HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{extra}\r\n"
            connection.sendall(head.encode())
            assert connection.recv(65536).split(b" ", 2)[1] == b"413"


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: ",
        b"POST /v1/exports HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHo",
    ],
)
def test_a_request_that_never_arrives_wholly_is_ended(site, monkeypatch, begun):
    """A client that sends a byte now and then keeps no connection for ever."""
    monkeypatch.setattr(connections, "ARRIVAL_SECONDS", 0.3)
    with connected(site) as connection:
        connection.sendall(begun)
        wait_until(lambda: is_closed(connection), 10, "the connection's end")


def test_a_connection_that_waits_between_two_requests_is_left_alone(site, monkeypatch):
    """Only what has begun to come must come."""
    monkeypatch.setattr(connections, "ARRIVAL_SECONDS", 0.3)
    ask = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with connected(site) as connection:
        for _ in range(2):
            connection.sendall(ask)
            assert b"200 OK" in connection.recv(65536)
            assert not any(is_closed(connection) for _ in range(4))  # 0.8 s


def test_where_all_places_are_taken_the_longest_waiting_connection_makes_room(tmp_path, monkeypatch):
    """Silent connections, however many, keep nobody out."""
    monkeypatch.setattr(running, "CONNECTIONS", 20)
    with served(tmp_path, api={"dialects": []}) as site:
        silent = [connected(site) for _ in range(60)]
        assert httpx.get(f"{site.url}/healthz").status_code == 200
        wait_until(lambda: is_closed(silent[0]), 10, "the oldest one's end")
        assert not is_closed(silent[-1])
        for each in silent:
            each.close()


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """More events than the buffers of two sockets hold."""
    content = events(20_000, pad="x" * 600)
    with served(tmp_path_factory.mktemp("large"), events=content, api={"dialects": []}) as site:
        yield site


def stalled(site, token: str) -> socket.socket:
    """A reader of all events that has read the answer's begin."""
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.settimeout(20)
    host, port = site.url.removeprefix("http://").split(":")
    reader.connect((host, int(port)))
    ask = f"GET /v1/events?start=2000-01-01&format=ndjson HTTP/1.1\r\nHost: x\r\nX-Api-Key: {token}\r\n\r\n"
    reader.sendall(ask.encode())
    assert b"200 OK" in reader.recv(1000)
    return reader


def test_a_reader_that_stops_is_given_up(large, monkeypatch):
    """What it would have got is no longer held for it, and the key has its place back."""
    monkeypatch.setattr(connections, "STALL_SECONDS", 0.2)
    monkeypatch.setattr(threads, "MOST_OPEN_OF_KEY", 1)
    token = large.key()
    with stalled(large, token):
        ask = {"path": "/v1/events", "params": {"date": "2001-01-01"}, "token": token}
        wait_until(lambda: large.get(**ask).status_code == 200, 20, "the end of the answer that nobody reads")


def test_a_key_has_so_many_answers_with_events_under_way_and_no_more(large, monkeypatch):
    """429 for one more; of other keys, and of what needs no events, nothing is refused."""
    monkeypatch.setattr(threads, "MOST_OPEN_OF_KEY", 3)
    token, other = large.key(), large.key()
    readers = [stalled(large, token) for _ in range(3)]
    refused = large.get("/v1/events", params={"date": "2001-01-01"}, token=token)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
    assert large.get("/v1/exports", token=token).status_code == 200
    assert large.get("/v1/events", params={"date": "2001-01-01"}, token=other).status_code == 200
    for each in readers:
        each.close()
    wait_until(
        lambda: large.get("/v1/events", params={"date": "2001-01-01"}, token=token).status_code == 200, 20, "room"
    )


def test_long_reads_keep_neither_health_nor_other_keys_waiting(site, monkeypatch):
    """Sixty scans of one key that do not end: short answers, and the scans of other keys, come at once."""
    end, begun = threading.Event(), threading.Semaphore(0)
    look = properties.distinct

    def look_long(bodies, path, limit):
        if path == ("endless",):
            begun.release()
            end.wait(30)
        return look(bodies, path, limit)

    monkeypatch.setattr(properties, "distinct", look_long)
    greedy, honest = site.key(), site.key()

    def ask(field: str, token: str) -> httpx.Response:
        how = {"params": {"field": field, "start": "2000-01-01"}, "headers": {"X-Api-Key": token}}
        return httpx.get(f"{site.url}/v1/values", timeout=30, **how)

    asking = [threading.Thread(target=ask, args=("endless", greedy)) for _ in range(60)]
    for each in asking:
        each.start()
    try:
        assert all(begun.acquire(timeout=10) for _ in range(threads.MOST_OF_KEY))
        assert httpx.get(f"{site.url}/healthz", timeout=5).status_code == 200
        assert httpx.get(f"{site.url}/v1/exports", headers={"X-Api-Key": greedy}, timeout=5).status_code == 200
        assert ask("n", honest).json()["all"] is True
        assert not begun.acquire(blocking=False)
    finally:
        end.set()
        for each in asking:
            each.join(30)


@pytest.mark.parametrize(
    "destination",
    [
        {"secret_key": "CANARY", "url": "s3://bucket/x", "access_key": "CANARY"},
        {"kind": "s3", "url": "s3://bucket/x", "access_key": ["CANARY"], "secret_key": {"x": "CANARY"}},
        {"kind": "s3", "url": "s3://bucket/x", "access_key": "CANARY" * 60, "secret_key": "CANARY" * 300},
    ],
)
def test_what_is_wrong_with_credentials_is_said_without_them(site, destination):
    """Clients write into their logs what they are answered."""
    form = {"destination": destination, "notify": {"webhook": "ftp://CANARY"}}
    answer = site.post("/v1/exports", token=site.key(), json=form)
    assert answer.status_code == 422
    assert "destination" in answer.text
    assert "CANARY" not in answer.text


def test_a_token_in_the_wrong_place_is_not_logged():
    """In a path, or in a parameter of another name: its secret is masked, and what names the key stays."""
    token = f"ef_{'h' * 12}_{'S' * 49}"
    for path in (f"/v1/exports/{token}", f"/{token}x"):
        assert without_tokens(path).startswith(path.partition("S")[0])
        assert "SSS" not in without_tokens(path)
    for query in (f"apikey={token}", f"x;api_key={token}", f"a={'y' * 220}&b={token}", f"{token}={token}"):
        assert "SSS" not in shown_query(query.encode())
        assert "ef_hhhhhhhhhhhh_" in shown_query(query.encode())


def test_a_client_that_leaves_in_the_middle_of_its_request_is_no_failure(tmp_path, monkeypatch):
    """Nobody is told of an error that is none."""
    told: list[Any] = []
    monkeypatch.setattr(errors, "_from_failure", lambda error: told.append(error))
    with served(tmp_path, api={"dialects": ["keen"]}) as site:
        head = b"POST /2.0/projects/a/b/_extract HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
        for _ in range(3):
            with connected(site) as connection:
                connection.sendall(head)
                assert not is_closed(connection)
        assert site.get("/healthz").status_code == 200
    assert told == []


def test_what_is_wrong_with_the_store_names_no_file_of_it(tmp_path):
    """Keys and paths may name other tenants, and the machine."""
    with served(tmp_path, events={"2026/01/02/03/globex.gz": events(5)}, api={"dialects": []}) as site:
        token = site.key()
        next((tmp_path / "events").rglob("globex.gz")).unlink()
        gone = site.get("/v1/events", params={"start": "2000-01-01"}, token=token)
        (tmp_path / "events").rename(tmp_path / "away")
        (tmp_path / "events").write_text("no folder")
        dead = site.get("/v1/events", params={"start": "2000-01-01"}, token=token)
    assert gone.status_code == 410 and "5 events" in gone.json()["detail"]
    assert dead.status_code in (410, 503)
    for each in (gone, dead):
        assert "globex" not in each.text and str(tmp_path) not in each.text, each.text
