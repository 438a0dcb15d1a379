"""Every kind of address that is not a public one is told apart."""

from __future__ import annotations

import ipaddress

import pytest

from infra.fetch.addresses import admitted, closed, literal

CLOSED = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "100.100.100.200",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2001::1",
    "2001:db8::1",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "4000::1",
]


@pytest.mark.parametrize("text", CLOSED)
def test_addresses_that_are_not_public_are_closed(text: str) -> None:
    assert closed(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1"]
)
def test_public_addresses_are_open(text: str) -> None:
    assert closed(ipaddress.ip_address(text)) is None


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "127.1",
        "0177.0.0.1",
        "127.0.0.01",
        "1.2.3.4.5",
        "256.1.1.1",
        "fe80::1%eth0",
        "example.0x7f",
        "::g",
    ],
)
def test_unusual_spellings_are_refused(host: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        literal(host)


def test_names_are_no_literals() -> None:
    assert literal("example.org") is None
    assert literal("1.example") is None
    assert str(literal("127.0.0.1")) == "127.0.0.1"
    assert str(literal("2606:4700:0:0::1111")) == "2606:4700::1111"


def test_only_named_addresses_are_admitted_and_metadata_never() -> None:
    networks = [ipaddress.ip_network(n) for n in ("10.0.0.0/8", "0.0.0.0/0", "::/0")]
    assert admitted(ipaddress.ip_address("10.1.2.3"), networks[:1])
    assert not admitted(ipaddress.ip_address("192.168.0.1"), networks[:1])
    for text in ("169.254.169.254", "169.254.1.1", "100.100.100.200", "fe80::1", "fd00:ec2::254"):
        assert not admitted(ipaddress.ip_address(text), networks)


def test_an_address_that_carries_another_is_judged_by_both() -> None:
    networks = [ipaddress.ip_network(n) for n in ("::/0", "64:ff9b::/96")]
    for text in ("::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1"):
        assert not admitted(ipaddress.ip_address(text), networks)
    private = ipaddress.ip_address("64:ff9b::10.2.0.7")
    assert not admitted(private, networks)
    assert admitted(private, [*networks, ipaddress.ip_network("10.2.0.0/16")])
    assert admitted(ipaddress.ip_address("64:ff9b::8.8.8.8"), networks)
