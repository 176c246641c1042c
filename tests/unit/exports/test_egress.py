"""Requesters send this machine to the public internet and to what its operator allows, and nowhere else."""

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.receivers import HttpReceiver, Reply, http_receiver

from eventferry.errors import ConfigError
from eventferry.exports import egress as module
from eventferry.exports.addresses import kind_of, read_address
from eventferry.exports.egress import Egress, EgressRefused, Endpoint, parse_url
from eventferry.sink.errors import SinkUnavailable

PUBLIC = "93.184.215.14"

ADDRESSES = {
    "public": """
        93.184.215.14 8.8.8.8 1.1.1.1 172.15.255.255 172.32.0.1 100.63.255.255 100.128.0.1 169.253.255.255 192.0.1.1
        198.17.255.255 198.20.0.1 223.255.255.255 168.63.129.15 2606:4700:4700::1111 2a00:1450:4001:82a::200e
        ::ffff:8.8.8.8 64:ff9b::808:808
    """,
    "private": """
        10.0.0.1 10.255.255.255 127.0.0.1 127.255.255.254 172.16.0.1 172.31.255.255 192.168.0.1 192.168.255.255
        100.64.0.1 100.127.255.255 ::1 fc00::1 fd12:3456:789a::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:a00:1
    """,
    "special": """
        0.0.0.0 0.1.2.3 169.254.169.254 169.254.0.1 168.63.129.16 100.100.100.200 192.0.0.192 192.0.0.8 192.0.2.1
        192.88.99.1 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.7 224.0.0.1 239.255.255.255 240.0.0.1
        255.255.255.255 :: ::127.0.0.1 ::8.8.8.8 ::ffff:169.254.169.254 ::ffff:0.0.0.0 64:ff9b::a9fe:a9fe
        64:ff9b::7f00:1 64:ff9b::a00:1 64:ff9b:1::1 2002:7f00:1:: 2002:808:808:: 2001:0:4136:e378:8000:63bf:3fff:fdd2
        2001:2::1 2001:10::1 2001:db8::1 3fff::1 100::1 fe80::1 fe80::1%lo fec0::1 ff02::1 fd00:ec2::254
        fd20:ce::254 5f00::1 4000::1 ::ffff:0:127.0.0.1
    """,
}
ROWS = [(kind, address) for kind, text in ADDRESSES.items() for address in text.split()]


def answer(*addresses: str) -> Callable[..., list[Any]]:
    """A resolver that gives these for every name."""

    def getaddrinfo(_host: str, port: int, **_: Any) -> list[Any]:
        six = socket.AF_INET6, socket.SOCK_STREAM, 6, ""
        four = socket.AF_INET, socket.SOCK_STREAM, 6, ""
        return [(*six, (each, port, 0, 0)) if ":" in each else (*four, (each, port)) for each in addresses]

    return getaddrinfo


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that were connected to; none of them is."""
    made: list[str] = []

    def connect_to(found: list[Any], _: Any) -> socket.socket:
        made.extend(address[0] for *_, address in found)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(module, "connect_to", connect_to)
    return made


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with http_receiver() as made:
        yield made


def local(receiver: HttpReceiver) -> str:
    """The receiver's `host:port`."""
    return receiver.url.split("/")[2]


def test_the_table_has_more_than_sixty_rows() -> None:
    """Each of them is a way in that somebody has found somewhere."""
    assert len(ROWS) > 70


@pytest.mark.parametrize(("kind", "address"), ROWS)
def test_each_address_is_of_its_kind(kind: str, address: str) -> None:
    """Whatever wraps it."""
    assert kind_of(read_address(address)) == kind


@pytest.mark.parametrize(("kind", "address"), ROWS)
def test_only_public_addresses_are_connected_to(
    connected: list[str], monkeypatch: pytest.MonkeyPatch, kind: str, address: str
) -> None:
    """A name that means another one is refused before a packet is sent; so is one public address with another one."""
    for answers in ([address], [PUBLIC, address]):
        monkeypatch.setattr(socket, "getaddrinfo", answer(*answers))
        connected.clear()
        with pytest.raises(SinkUnavailable if kind == "public" else EgressRefused):
            Egress().exchange("POST", "https://hooks.example.com/x", b"{}", timeout=5)
        assert connected == (answers if kind == "public" else [])


@pytest.mark.parametrize(("kind", "address"), [(kind, address) for kind, address in ROWS if "%" not in address])
def test_an_address_in_a_url_is_judged_before_anything_is_done(kind: str, address: str) -> None:
    """By its text alone; also one that stands in the URL as IPv6."""
    url = f"https://[{address}]/" if ":" in address else f"https://{address}/"
    if kind == "public":
        assert Egress().check(url).is_address
    else:
        with pytest.raises(EgressRefused, match="not on the public internet"):
            Egress().check(url)


def test_a_name_that_changes_its_address_gains_nothing(
    connected: list[str], receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One look-up for a connection, and the connection goes to what was judged: public, then 127.0.0.1, and again."""
    looked_up = 0

    def rebinding(host: str, port: int, **more: Any) -> list[Any]:
        nonlocal looked_up
        looked_up += 1
        return answer(PUBLIC if looked_up % 2 else "127.0.0.1")(host, port, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    port = local(receiver).split(":")[1]
    monkeypatch.setattr(module, "PORTS", (int(port),))
    for _ in range(200):
        with pytest.raises((SinkUnavailable, EgressRefused)):
            Egress().exchange("POST", f"https://rebind.example.com:{port}/", b"", timeout=5)
    assert looked_up == 200
    assert connected == [PUBLIC] * 100
    assert receiver.requests == []


def test_a_name_that_means_this_machine_is_not_connected_to(
    receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the real connection, to a port where somebody listens."""
    port = int(local(receiver).split(":")[1])
    monkeypatch.setattr(module, "PORTS", (port,))
    for host in ("localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"):
        with pytest.raises(EgressRefused):
            Egress().exchange("GET", f"https://{host}:{port}/", timeout=5)
    assert receiver.requests == []


DIFFERENTIAL = [
    "http://a.com\\@b.com/",
    "https://a.com\\.b.com/",
    "https://user@example.com/",
    "https://user:pass@example.com/",
    "https://a.com@127.0.0.1/",
    "https://a.com#@b.com/",
    "https://127.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.1/",
    "https://0177.0.0.1/",
    "https://127.0.0.01/",
    "https://1.2.3.4.5/",
    "https://example.0x/",
    "https://①②⑦.⓪.⓪.①/",
    "https://bücher.example/",
    "https://example。com/",
    "https://exa\tmple.com/",
    "https://exa\nmple.com/",
    "https://example.com\r\nHost: b/",
    "https://exam ple.com/",
    "https://example.com\0.b.com/",
    "https://%31%32%37.0.0.1/",
    "https://example.com:/",
    "https://example.com:0443/",
    "https://example.com:70000/",
    "https://example.com:443:80/",
    "https://example.com./",
    "https://.example.com/",
    "https://exam..ple.com/",
    "https://-a.com/",
    "https://[::1%25lo]/",
    "https://[::1/",
    "https://[127.0.0.1]/",
    "https://[]/",
    "https:///x",
    "https://?x",
    "https:/example.com/",
    "//example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "example.com",
    "https://example.com/" + "x" * 2048,
    "",
]


@pytest.mark.parametrize("url", DIFFERENTIAL, ids=lambda url: repr(url)[:40])
def test_what_libraries_read_differently_is_no_url(url: str) -> None:
    """The text is refused; nobody gets to choose which reading counts."""
    with pytest.raises(EgressRefused):
        Egress(["0.0.0.0/0", "*.com"]).check(url)


def test_what_a_url_says_is_read_in_one_way() -> None:
    """Case, default ports, addresses in their one spelling."""
    assert parse_url("HTTPS://Example.COM/Path?q=1") == Endpoint("https", "example.com", 443)
    assert parse_url("http://example.com") == Endpoint("http", "example.com", 80)
    assert parse_url("https://[2606:4700:4700:0::1111]:8443/") == Endpoint("https", "2606:4700:4700::1111", 8443)


@given(url=st.text() | st.from_regex(r"https://[ -~]{1,30}", fullmatch=True))
def test_no_url_crashes(url: str) -> None:
    """It is read, or refused in words that hold no line end."""
    try:
        Egress(["10.0.0.0/8"]).check(url)
    except EgressRefused as error:
        assert str(error).isprintable()


def test_only_https_and_a_few_ports_unless_the_operator_allows_more() -> None:
    """A host of one's own may be asked in clear, at any port or at the one that is named."""
    for url in ("http://example.com/", "https://example.com:22/", "https://example.com:8080/"):
        with pytest.raises(EgressRefused):
            Egress().check(url)
        with pytest.raises(EgressRefused):
            Egress(["other.com", "*.example.com", "xexample.com"]).check(url)
        assert Egress(["example.com"]).check(url)
        assert Egress(["*.com"]).check(url)
    assert Egress(["minio.internal:9000"]).check("http://minio.internal:9000/")
    with pytest.raises(EgressRefused):
        Egress(["minio.internal:9000"]).check("http://minio.internal:9001/")


@pytest.mark.parametrize(
    ("rule", "host", "addresses", "allowed"),
    [
        ("store.internal", "store.internal", ["10.1.2.3"], True),
        ("store.internal", "store.internal", ["127.0.0.1", "::1"], True),
        ("store.internal", "store.internal", ["169.254.169.254"], False),
        ("store.internal", "store.internal", ["10.1.2.3", "169.254.169.254"], False),
        ("store.internal", "other.internal", ["10.1.2.3"], False),
        ("*.internal", "a.b.internal", ["10.1.2.3"], True),
        ("*.internal", "internal", ["10.1.2.3"], False),
        ("10.0.0.0/8", "store.internal", ["10.1.2.3"], True),
        ("10.0.0.0/8", "store.internal", ["::ffff:10.1.2.3"], True),
        ("10.0.0.0/8", "store.internal", ["10.1.2.3", "192.168.1.1"], False),
        ("10.0.0.0/8", "store.internal", ["64:ff9b::a00:1"], False),
        ("10.1.2.3:443", "store.internal", ["10.1.2.3"], True),
        ("10.1.2.3:9000", "store.internal", ["10.1.2.3"], False),
        ("[fd00::1]:443", "store.internal", ["fd00::1"], True),
        ("fd00::/8", "store.internal", ["fd00:1::1"], True),
        ("fd00::/8", "store.internal", ["fd00:ec2::254"], False),
        ("0.0.0.0/0", "store.internal", ["169.254.169.254"], False),
        ("0.0.0.0/0", "store.internal", ["10.1.2.3"], True),
        ("169.254.169.254", "store.internal", ["169.254.169.254"], True),
    ],
)
def test_allowed_are_names_addresses_and_networks(
    connected: list[str], monkeypatch: pytest.MonkeyPatch, rule: str, host: str, addresses: list[str], allowed: bool
) -> None:
    """A rule opens what it names; metadata services only where it names just them."""
    monkeypatch.setattr(socket, "getaddrinfo", answer(*addresses))
    with pytest.raises(SinkUnavailable if allowed else EgressRefused):
        Egress([rule]).exchange("POST", f"https://{host}/", b"", timeout=5)
    assert connected == (addresses if allowed else [])


def test_a_network_allows_no_plain_http_beyond_it(connected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheme and the port are judged with the address."""
    for address, port, allowed in (("10.1.2.3", 8080, True), (PUBLIC, 8080, False), (PUBLIC, 443, False)):
        monkeypatch.setattr(socket, "getaddrinfo", answer(address))
        with pytest.raises(SinkUnavailable if allowed else EgressRefused):
            Egress(["10.0.0.0/8"]).exchange("POST", f"http://a.example.com:{port}/", b"", timeout=5)
    assert connected == ["10.1.2.3"]


@pytest.mark.parametrize(
    "rule", ["", "https://minio:9000", "a b", "*", "a:0", "a:99999", "127.1", "10.0.0.1/8", "a/b", "é.com"]
)
def test_a_rule_that_means_nothing_is_a_mistake_of_the_configuration(rule: str) -> None:
    """And says how to write one."""
    with pytest.raises(ConfigError, match=r"minio\.internal"):
        Egress([rule])


def test_redirects_are_not_followed(receiver: HttpReceiver) -> None:
    """The answer is what the first host said."""
    with http_receiver() as other:
        receiver.reply = Reply(302, {"Location": other.url})
        said = Egress([local(receiver)]).exchange("POST", receiver.url, b"{}", timeout=5)
        assert said.status == 302
        assert len(receiver.requests) == 1
        assert other.requests == []


def test_the_host_header_is_the_name(receiver: HttpReceiver) -> None:
    """The connection goes to an address, the request to the name."""
    port = local(receiver).split(":")[1]
    Egress(["localhost"]).exchange("POST", f"http://localhost:{port}/a", b"{}", {"X-Id": "7"}, timeout=5)
    (request,) = receiver.requests
    assert request.headers["Host"] == f"localhost:{port}"
    assert (request.headers["X-Id"], request.body, request.path) == ("7", b"{}", "/a")


def test_proxies_of_the_environment_are_not_used(receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would look the name up once more, and elsewhere."""
    with http_receiver() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.lower(), proxy.url)
        Egress(["127.0.0.0/8"]).exchange("POST", receiver.url, b"{}", timeout=5)
        assert proxy.requests == []
    assert len(receiver.requests) == 1


def test_an_answer_that_does_not_come_is_given_up(receiver: HttpReceiver) -> None:
    """At the total deadline."""
    receiver.reply = Reply(hang=True)
    with pytest.raises(SinkUnavailable, match=r"within 0\.3 s"):
        Egress(["127.0.0.1"]).exchange("POST", receiver.url, b"{}", timeout=0.3)


def test_a_name_that_cannot_be_looked_up_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be there later."""

    def unknown(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(SinkUnavailable, match="cannot be resolved"):
        Egress().exchange("POST", "https://nowhere.example.com/", b"", timeout=5)


def test_what_is_refused_never_tells_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A requester learns nothing of the network that names lead into."""
    monkeypatch.setattr(socket, "getaddrinfo", answer("10.20.30.40"))
    with pytest.raises(EgressRefused) as refused:
        Egress().exchange("POST", "https://intranet.example.com/?token=hidden", b"", timeout=5)
    assert "10.20" not in str(refused.value)
    assert "hidden" not in str(refused.value)


def test_threads_do_not_share_where_they_are_aimed(receiver: HttpReceiver) -> None:
    """Each exchange has a line of its own."""
    egress, said = Egress(["127.0.0.1"]), []
    threads = [
        threading.Thread(target=lambda: said.append(egress.exchange("POST", receiver.url, timeout=10).status))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == [200] * 8
