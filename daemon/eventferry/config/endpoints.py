"""Which hosts of one's own requesters may have us send to: names, addresses and networks, with or without a port."""

import ipaddress
import re
from dataclasses import dataclass

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PORT = re.compile(r"(?s)(.*):([1-9][0-9]{0,4})")
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(\*\.)?({_LABEL}\.)*{_LABEL}", re.ASCII)
_REMEDY = (
    'write a name "minio.internal", "*.stores.internal", an address or network "10.1.0.0/16", each with ":9000" or not'
)


@dataclass(frozen=True, slots=True)
class EndpointRule:
    """Hosts that are allowed: those of a name, of all names below one (`*.`), or of a network. Port None: any port."""

    name: str | None = None
    network: Network | None = None
    port: int | None = None

    def names(self, host: str, port: int) -> bool:
        """Whether this name (lower case) at this port is allowed by its name."""
        if self.name is None or self.port not in (None, port):
            return False
        return host.endswith(self.name[1:]) if self.name.startswith("*.") else host == self.name

    def holds(self, address: Address, port: int) -> bool:
        """Whether this address at this port is of the network."""
        return self.network is not None and self.port in (None, port) and address in self.network


def parse_endpoint_rule(text: str) -> EndpointRule:
    """The rule that `text` states. Raises ValueError with a remedy."""
    plain = text.strip().lower()
    try:
        return EndpointRule(network=ipaddress.ip_network(plain))
    except ValueError:
        pass
    found = _PORT.fullmatch(plain)
    host, port = (found[1], int(found[2])) if found else (plain, None)
    if port is not None and port > 65535:
        raise ValueError(f"{text!r} names a port that there is not; {_REMEDY}")
    try:
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if bare == host and ":" in host:
            raise ValueError
        return EndpointRule(network=ipaddress.ip_network(bare), port=port)
    except ValueError:
        pass
    last = host.rpartition(".")[2]
    if not _NAME.fullmatch(host) or len(host) > 253 or last.isdigit():
        raise ValueError(f"{text!r} is not a host; {_REMEDY}")
    return EndpointRule(name=host, port=port)
