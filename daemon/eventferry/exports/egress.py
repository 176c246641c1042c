"""Where requesters may send this machine to: their stores and webhooks, never into the network that it stands in.

A URL is read once, strictly, because libraries read odd ones differently. A host's name is looked up once, every
address is judged, and the connection is made to exactly those: a name that means another address at the second look
gains nothing. There are no redirects and no proxies from the environment.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from eventferry.config.endpoints import Address, EndpointRule, parse_endpoint_rule
from eventferry.errors import ConfigError, EventferryError
from eventferry.exports.addresses import kind_of, read_address, special_network
from eventferry.sink.http import Answer, HttpClient
from eventferry.sink.safe import safe_text
from eventferry.sink.wire import Watchdog, connect_to, resolve

PORTS: Final = (443, 8443, 9000, 9443)  # of hosts that nobody has allowed by name
LONGEST_URL = 2048

_URL = re.compile(r"(https?)://([^/?#]*)([/?][^#]*)?", re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::([1-9][0-9]{0,4}))?")
_NAME = re.compile(r"([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


class EgressRefused(EventferryError):
    """Nobody is sent there. Its text is fit for the requester: it names the host, and never what its address is."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a URL leads: lower-case host (IPv6 without brackets), port, and whether in clear."""

    scheme: str
    host: str
    port: int

    @property
    def is_address(self) -> bool:
        """Whether the host is an address, not a name."""
        return ":" in self.host or _NUMBER.fullmatch(self.host.rpartition(".")[2]) is not None


class Egress:
    """The rules of one installation: `allow` is `[exports] allow_endpoints`. Raises ConfigError for a bad one."""

    def __init__(self, allow: Iterable[str] = ()) -> None:
        try:
            self._rules: tuple[EndpointRule, ...] = tuple(parse_endpoint_rule(text) for text in allow)
        except ValueError as error:
            raise ConfigError(f"exports.allow_endpoints: {error}") from None

    def check(self, url: str) -> Endpoint:
        """Where the URL leads, as far as its text tells; nothing is looked up. Raises EgressRefused."""
        endpoint = parse_url(url)
        own = self.is_own(endpoint)
        if endpoint.scheme == "http" and not own and not any(rule.network for rule in self._rules):
            raise EgressRefused(f"{endpoint.host}: only https:// is allowed")
        if endpoint.is_address:
            self._judge(endpoint, [read_address(endpoint.host)])
        elif not own and endpoint.port not in PORTS and not any(rule.network for rule in self._rules):
            raise EgressRefused(_wrong_port(endpoint))
        return endpoint

    def is_own(self, endpoint: Endpoint) -> bool:
        """Whether the operator has allowed this very host, by its name or, where it is an address, its network."""
        if endpoint.is_address:
            return self._is_in_network(read_address(endpoint.host), endpoint.port)
        return any(rule.names(endpoint.host, endpoint.port) for rule in self._rules)

    def connect(self, endpoint: Endpoint, watchdog: Watchdog) -> socket.socket:
        """A connection to an address of the endpoint, each of them judged. Raises EgressRefused, OSError."""
        found = resolve(endpoint.host, endpoint.port, watchdog.remaining())
        self._judge(endpoint, [read_address(address[0]) for *_, address in found])
        return connect_to(found, watchdog)

    def exchange(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float,
        secrets: Iterable[str] = (),
    ) -> Answer:
        """Send one request, such as a webhook, within `timeout` seconds, and return whatever was answered.

        Raises EgressRefused where nobody is sent there; SinkUnavailable, SinkMisconfigured as sinks do.
        """
        line = GuardedLine(self)
        line.aim(url)
        client = HttpClient(timeout=timeout, secrets=secrets, connect=line)
        try:
            return client.exchange(method, url, body, headers)
        finally:
            client.close()

    def _judge(self, endpoint: Endpoint, addresses: list[Address]) -> None:
        """Raise EgressRefused unless every address may be connected to."""
        named = not endpoint.is_address and self.is_own(endpoint)
        for address in addresses:
            if self._is_in_network(address, endpoint.port):
                continue
            kind = kind_of(address)
            if kind == "special" or (kind == "private" and not named):
                raise EgressRefused(
                    f"{endpoint.host}: it is not on the public internet; the operator can allow a store of one's own "
                    "in [exports] allow_endpoints"
                )
            if endpoint.scheme == "http" and not named:
                raise EgressRefused(f"{endpoint.host}: only https:// is allowed")
            if endpoint.port not in PORTS and not named:
                raise EgressRefused(_wrong_port(endpoint))

    def _is_in_network(self, address: Address, port: int) -> bool:
        """Whether a rule names the address or its network; a special one only where the rule is about just that."""
        special = special_network(address) if kind_of(address) == "special" else None
        for rule in self._rules:
            if rule.network is None or not rule.holds(address, port):
                continue
            if kind_of(address) != "special" or (special is not None and _is_within(rule, special)):
                return True
        return False


class GuardedLine:
    """Makes the connections of one client, to where it was last aimed and nowhere else. For one thread at a time."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._endpoint: Endpoint | None = None

    def aim(self, url: str) -> None:
        """From now on connect to where this URL leads. Raises EgressRefused."""
        self._endpoint = None
        self._endpoint = self._egress.check(url)

    def __call__(self, host: str, port: int, watchdog: Watchdog) -> socket.socket:
        """As wire.connect does. Raises EgressRefused, also where the client read the URL otherwise."""
        endpoint = self._endpoint
        if endpoint is None or (host.strip("[]").lower(), port) != (endpoint.host, endpoint.port):
            raise EgressRefused(f"{safe_text(host, 100)}: it is not where the URL leads")
        return self._egress.connect(endpoint, watchdog)


def parse_url(url: str) -> Endpoint:
    """Where an http:// or https:// URL leads. Raises EgressRefused for all that libraries may read differently."""
    if len(url) > LONGEST_URL:
        raise EgressRefused(f"a URL of {len(url)} characters is too long; at most {LONGEST_URL} are allowed")
    shown = safe_text(url.partition("?")[0].rpartition("@")[2], 100)
    if "\\" in url or not url.isascii() or not url.isprintable() or " " in url:
        raise EgressRefused(f"{shown!r} is not a URL: it holds a backslash, a blank, or a character beyond ASCII")
    found = _URL.fullmatch(url)
    if found is None:
        raise EgressRefused(f"{shown!r} is not a URL; write https://host/path, without a fragment")
    if "@" in found[2]:
        raise EgressRefused(f"{shown!r}: a URL may not hold a user name or password")
    authority = _AUTHORITY.fullmatch(found[2].lower())
    if authority is None:
        raise EgressRefused(f"{shown!r}: what stands for the host is none")
    scheme = found[1].lower()
    port = int(authority[2] or (443 if scheme == "https" else 80))
    return Endpoint(scheme, _read_host(authority[1]), _checked_port(port, shown))


def _read_host(host: str) -> str:
    """The host without brackets, an address in its one spelling. Raises EgressRefused."""
    try:
        if host.startswith("["):
            return str(ipaddress.IPv6Address(host[1:-1]))
        if _NUMBER.fullmatch(host.rpartition(".")[2]):  # 127.1, 2130706433 and 0x7f.1 are addresses to some
            return str(ipaddress.IPv4Address(host))
    except ValueError:
        raise EgressRefused(f"{host!r} is not an address; write it as 203.0.113.7 or [2001:db8::7]") from None
    if not _NAME.fullmatch(host):
        raise EgressRefused(f"{host!r} is not the name of a host")
    return host


def _checked_port(port: int, shown: str) -> int:
    if port > 65535:
        raise EgressRefused(f"{shown!r}: there is no port {port}")
    return port


def _wrong_port(endpoint: Endpoint) -> str:
    return f"{endpoint.host}: port {endpoint.port} is not allowed; use {', '.join(map(str, PORTS))}"


def _is_within(rule: EndpointRule, special: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    network = rule.network
    if isinstance(network, ipaddress.IPv4Network) and isinstance(special, ipaddress.IPv4Network):
        return network.subnet_of(special)
    if isinstance(network, ipaddress.IPv6Network) and isinstance(special, ipaddress.IPv6Network):
        return network.subnet_of(special)
    return False
