"""Which network addresses a requester may send this machine to: public ones, and nothing that only looks like one.

`ipaddress.is_global` is not enough: it takes NAT64, 6to4 and compatible forms of private addresses for public ones.
"""

import ipaddress
from typing import Literal

from eventferry.config.endpoints import Address, Network

Kind = Literal["public", "private", "special"]

# One's own stores may be here, where they are allowed by their name.
_PRIVATE = ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
# Nobody's store is here: metadata services above all. Allowed only where the address itself, or its network, is named.
_SPECIAL = (
    "0.0.0.0/8",  # this host
    "168.63.129.16/32",  # Azure's platform services
    "169.254.0.0/16",  # link-local: metadata of most clouds
    "100.100.100.200/32",  # Alibaba's metadata
    "192.0.0.0/24",  # IETF; Oracle's metadata
    "192.0.2.0/24",  # documentation
    "192.88.99.0/24",  # 6to4 relays
    "198.18.0.0/15",  # benchmarks
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, broadcast
    "::/128",
    "::/96",  # IPv4-compatible
    "100::/64",  # discarded
    "64:ff9b:1::/48",  # local NAT64
    "2001::/23",  # Teredo, benchmarks, ORCHID
    "2001:db8::/32",  # documentation
    "2002::/16",  # 6to4
    "3fff::/20",  # documentation
    "5f00::/16",  # segment routing
    "fd00:ec2::/32",  # metadata of AWS
    "fd20:ce::/32",  # metadata of Google
    "fe80::/10",  # link-local
    "fec0::/10",  # site-local
    "ff00::/8",  # multicast
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_UNICAST = ipaddress.IPv6Network("2000::/3")  # all that is public in IPv6

_private: tuple[Network, ...] = tuple(ipaddress.ip_network(text) for text in _PRIVATE)
_special: tuple[Network, ...] = tuple(ipaddress.ip_network(text) for text in _SPECIAL)


def read_address(text: str) -> Address:
    """The address, an IPv4 one where IPv6 only wraps it (`::ffff:10.0.0.1`). Raises ValueError."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def kind_of(address: Address) -> Kind:
    """public; private: in one's own network; special: of no use to a requester, and often dangerous."""
    if isinstance(address, ipaddress.IPv6Address) and address in _NAT64:
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return "public" if kind_of(inner) == "public" else "special"
    if special_network(address) is not None and address != ipaddress.IPv6Address("::1"):
        return "special"
    if any(address in network for network in _private):
        return "private"
    if isinstance(address, ipaddress.IPv6Address) and address not in _UNICAST:
        return "special"
    return "public"


def special_network(address: Address) -> Network | None:
    """The smallest special network of the address; None where it is in none."""
    found = [network for network in _special if address in network]
    return max(found, key=lambda network: network.prefixlen, default=None)
