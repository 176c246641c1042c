"""The client of every sink that speaks HTTP, against real servers on loopback."""

import contextlib
import os
import socket
import ssl
import threading
import traceback

import pytest
import trustme
from tests.contract.receiver import dripping, nobody, receiving

from eventferry import clock
from eventferry.sink import BatchRejected, SinkMisconfigured, SinkUnavailable
from eventferry.sink.http import ANSWER_LIMIT, HttpClient, basic_auth


def _client(**options):
    return contextlib.closing(HttpClient(**{"timeout": 5.0, **options}))


@contextlib.contextmanager
def _within(seconds):
    started = clock.monotonic()
    yield
    assert clock.monotonic() - started < seconds


DRIPS = {
    "nothing at all": (b"", b""),
    "status line": (b"HTTP/1.1 200 O", b"K"),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a body with a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", b"x"),
    "a body in chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "a body until the end": (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"x"),
}


@pytest.mark.parametrize("what", DRIPS)
def test_a_dripping_server_is_cut_at_the_deadline(what):
    """However a server drips, the call ends in time, and its outcome is unknown even after a 200."""
    with dripping(*DRIPS[what]) as url, _client(timeout=0.3) as client, _within(1.3):
        with pytest.raises(SinkUnavailable, match=r"within 0\.3 s") as caught:
            client.send("POST", url, b"{}\n")
        assert not caught.value.untouched


def test_a_body_nobody_reads_is_cut_at_the_deadline():
    """A receiver that takes the connection and reads nothing cannot hold a large body."""
    with socket.create_server(("127.0.0.1", 0)) as listener, _client(timeout=0.3) as client, _within(1.3):
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(SinkUnavailable, match=r"within 0\.3 s"):
            client.send("POST", url, b"x" * 50_000_000)


def test_a_silent_tls_handshake_is_cut_at_the_deadline():
    """TLS that never answers ends in time too."""
    with dripping(b"", b"") as url, _client(timeout=0.3) as client, _within(1.3), pytest.raises(SinkUnavailable):
        client.send("POST", url.replace("http:", "https:"), b"{}\n")


def test_a_connection_that_is_not_taken_is_untouched():
    """A full backlog, where even the connection hangs: nothing was sent."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for one in fillers:
            one.setblocking(False)
            one.connect_ex(address)
        with _client(timeout=0.3) as client, _within(1.3), pytest.raises(SinkUnavailable) as caught:
            client.send("POST", f"http://127.0.0.1:{address[1]}/", b"{}\n")
        assert caught.value.untouched
        for one in fillers:
            one.close()


def test_a_refused_connection_and_an_unknown_name_are_untouched():
    """Nothing was sent where nobody listens or the name is unknown."""
    with nobody() as url, _client() as client:
        for place in (url, "http://no-such-host.invalid/"):
            with pytest.raises(SinkUnavailable) as caught:
                client.send("POST", place, b"{}\n")
            assert caught.value.untouched


def test_the_client_works_on_after_a_deadline():
    """The next call opens a new connection, and the old deadline does not reach it."""
    with dripping(b"", b"") as hanging, receiving() as receiver, _client(timeout=0.3) as client:
        with pytest.raises(SinkUnavailable):
            client.send("POST", hanging, b"{}\n")
        for _ in range(3):
            client.send("POST", receiver.url, b"{}\n", {"Content-Type": "application/x-ndjson"})
        assert len({one.peer for one in receiver.requests}) == 1, "the connection is kept"


def test_nothing_is_left_after_close():
    """Descriptors and threads do not grow with calls, whether they end well or not."""
    with receiving() as receiver, nobody() as url:
        before = threading.active_count()

        def once():
            with _client(timeout=0.1) as client:
                client.send("POST", receiver.url, b"")
                with pytest.raises(SinkUnavailable):
                    client.send("POST", url, b"")
                return sum(1 for _ in os.scandir("/proc/self/fd"))

        counts = [once() for _ in range(10)]
        # The receiver, in this process too, has up to one connection per call that it did not see end yet.
        assert max(counts[5:]) <= max(counts[:5]) + 2
        assert threading.active_count() <= before + 3


def test_redirects_are_not_followed():
    """Events go nowhere but to the configured URL."""
    with receiving() as other, receiving(lambda request: (307, {"Location": other.url}, b"")) as first:
        with _client() as client, pytest.raises(SinkMisconfigured, match="points to http://127"):
            client.send("POST", first.url, b"{}\n")
        assert other.requests == []


def test_the_environment_changes_nothing(monkeypatch, tmp_path):
    """Neither proxies nor .netrc of whoever started the daemon reach a request."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with nobody() as proxy, receiving() as receiver, _client() as client:
        monkeypatch.setenv("http_proxy", proxy)
        client.send("POST", receiver.url, b"{}\n")
        assert "authorization" not in receiver.requests[0].headers


def test_a_long_answer_is_read_to_its_limit():
    """An endless answer costs 64 KiB, and the status still counts."""
    with receiving(lambda request: (200, {}, b"x" * 1_000_000)) as receiver, _client() as client:
        assert len(client.send("POST", receiver.url, b"").body) == ANSWER_LIMIT
        client.send("POST", receiver.url, b"")


def test_a_refusal_quotes_the_receiver_and_hides_secrets():
    """The receiver's words are on one line, and what it echoes of our credentials is masked."""
    secret = basic_auth("user", "geheim").partition(" ")[2]

    def refuse(request):
        return 400, {}, f"bad\nfield\x1b[31m; you sent {request.headers['authorization']}".encode()

    options = {"headers": {"Authorization": basic_auth("user", "geheim")}, "secrets": ["geheim", secret]}
    with receiving(refuse) as receiver, _client(**options) as client, pytest.raises(BatchRejected) as caught:
        client.send("POST", receiver.url + "?token=geheim", b"{}\n")
    assert "bad field [31m; you sent Basic ***" in str(caught.value)
    text = "".join(traceback.format_exception_only(caught.value))
    assert secret not in text
    assert "geheim" not in text


def test_a_reset_connection_is_unknown():
    """A connection that ends without an answer may have delivered."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up():
            connection, _ = listener.accept()
            connection.recv(65536)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with _client() as client, pytest.raises(SinkUnavailable, match="unknown") as caught:
            client.send("POST", f"http://127.0.0.1:{listener.getsockname()[1]}/", b"{}\n")
        thread.join()
        assert not caught.value.untouched


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def _tls(authority, name, highest=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    if highest:
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = highest
    return lambda sock: context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)


def test_certificates_are_verified(authority, tmp_path):
    """An unknown authority or another name is a case for a person; with ca_file the private authority is trusted."""
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    with receiving(wrap=_tls(authority, "127.0.0.1")) as receiver:
        with _client() as client, pytest.raises(SinkMisconfigured, match="ca_file"):
            client.send("POST", receiver.url, b"{}\n")
        with _client(ca_file=ca_file) as client:
            assert client.send("POST", receiver.url, b"{}\n").status == 200
    other = receiving(wrap=_tls(authority, "other.example"))
    wrong = pytest.raises(SinkMisconfigured, match="certificate")
    with other as receiver, _client(ca_file=ca_file) as client, wrong:
        client.send("POST", receiver.url, b"{}\n")
    with pytest.raises(SinkMisconfigured, match="not there"):
        HttpClient(timeout=1, ca_file=tmp_path / "none.pem")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_tls_is_refused(authority, tmp_path):
    """TLS 1.1 is not spoken."""
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    with receiving(wrap=_tls(authority, "127.0.0.1", ssl.TLSVersion.TLSv1_1)) as receiver:
        with _client(ca_file=ca_file) as client, pytest.raises(SinkUnavailable):
            client.send("POST", receiver.url, b"{}\n")
        assert receiver.requests == []


def test_an_impossible_request_is_for_a_person():
    """A URL or a header that no request can be made of does not retry for ever."""
    with _client() as client:
        for url in ("http://", "http://exa mple/", "nothing"):
            with pytest.raises((SinkMisconfigured, SinkUnavailable)) as caught:
                client.send("POST", url, b"{}\n")
            assert isinstance(caught.value, SinkMisconfigured), url
        with pytest.raises(SinkMisconfigured):
            client.send("POST", "http://127.0.0.1:9/", b"", {"X": "a\r\nb"})


def test_a_body_in_pieces_arrives_whole_or_not_at_all():
    """It is sent as it is made; where making it fails, the error is that one, and the receiver got no request."""

    def broken():
        yield b"some"
        raise BatchRejected("an event is not UTF-8")

    with receiving() as receiver, _client() as client:
        client.send("POST", receiver.url, iter([b"a" * 100_000, b"b\n"]))
        with pytest.raises(BatchRejected):
            client.send("POST", receiver.url, broken())
        client.send("POST", receiver.url, b"c\n")
        assert [len(request.raw) for request in receiver.requests] == [100_002, 2]
