"""Which IP addresses a public URL may lead to.

Refused is everything that is not an ordinary public address: loopback, private and shared networks,
link-local, multicast, documentation and reserved ranges, and every IPv6 form that carries an IPv4
address inside (mapped, 6to4, Teredo, NAT64). The tables are written out, since what Python calls
global changed between patch releases. Sources: the IANA special-purpose address registries.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_CLOSED_V4 = {
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "a private network",
    "100.64.0.0/10": "a carrier's shared network",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link-local",
    "172.16.0.0/12": "a private network",
    "192.0.0.0/24": "reserved for protocols",
    "192.0.2.0/24": "reserved for documentation",
    "192.31.196.0/24": "reserved for protocols",
    "192.52.193.0/24": "reserved for protocols",
    "192.88.99.0/24": "a 6to4 relay",
    "192.168.0.0/16": "a private network",
    "192.175.48.0/24": "reserved for protocols",
    "198.18.0.0/15": "reserved for benchmarks",
    "198.51.100.0/24": "reserved for documentation",
    "203.0.113.0/24": "reserved for documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
}
_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")
_CLOSED_V6 = {
    "2001::/23": "reserved for protocols",
    "2001:db8::/32": "reserved for documentation",
    "2002::/16": "a 6to4 form of an IPv4 address",
    "2620:4f:8000::/48": "reserved for protocols",
    "3fff::/20": "reserved for documentation",
}
_KNOWN_V6 = {
    "::1/128": "loopback",
    "::ffff:0:0/96": "an IPv6 form of an IPv4 address",
    "64:ff9b::/96": "a NAT64 form of an IPv4 address",
    "64:ff9b:1::/48": "a NAT64 form of an IPv4 address",
    "fc00::/7": "a private network",
    "fe80::/10": "link-local",
    "ff00::/8": "multicast",
}
_CLOSED = [(ipaddress.ip_network(n), why) for n, why in {**_CLOSED_V4, **_CLOSED_V6}.items()]
_KNOWN = [(ipaddress.ip_network(n), why) for n, why in _KNOWN_V6.items()]

# Where clouds answer with credentials. No setting admits these.
_METADATA = {
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.169.253",
        "169.254.170.2",
        "169.254.170.23",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
    )
}
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_METADATA_NETWORKS = [ipaddress.ip_network("169.254.0.0/16"), ipaddress.ip_network("fe80::/10")]
_NUMBER = re.compile(r"^(0[xX][0-9a-fA-F]*|[0-9]+)$")


def literal(host: str) -> Address | None:
    """The address a host is written as, or None when it is a name.

    Raises:
        ValueError: neither: a decimal, octal, hexadecimal or shortened spelling of an IPv4 address,
            or an IPv6 address with a zone.
    """
    if ":" in host:
        if "%" in host:
            raise ValueError("IPv6 zones are not read")
        return ipaddress.IPv6Address(host)
    last = host.rstrip(".").rpartition(".")[2]
    if not _NUMBER.match(last):
        return None
    return ipaddress.IPv4Address(host)


def closed(address: Address) -> str | None:
    """Why an address is not public, in words, or None when it is."""
    if address in _METADATA:
        return "a cloud's metadata service"
    for network, why in _CLOSED:
        if address in network:
            return why
    if address.version == 4 or address in _PUBLIC_V6:
        return None
    return next((why for network, why in _KNOWN if address in network), "reserved")


def admitted(address: Address, networks: Sequence[Network]) -> bool:
    """Whether `networks` name this address; metadata services and link-local never are.

    An IPv6 address that carries an IPv4 address leads to that one, which has to be public or named
    as well.
    """
    if address in _METADATA or any(address in network for network in _METADATA_NETWORKS):
        return False
    inner = _carried(address)
    if inner is not None and closed(inner) is not None and not admitted(inner, networks):
        return False
    return any(address in network for network in networks)


def _carried(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address inside of an IPv6 one; None when there is none."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
