"""What the URL guard lets through, what it refuses, and which address it hands on."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import pytest

from geco_core.config.run import FetchConfig
from geco_core.errors import BadItem, ConfigError, Reason, Retryable
from infra.fetch.guard import UrlGuard

PUBLIC = "93.184.215.14"


def guard(
    *addresses: str, allow: Sequence[str] = (), schemes: Sequence[str] = ("http", "https")
) -> UrlGuard:
    config = FetchConfig(schemes=tuple(schemes), allow_hosts=tuple(allow))
    return UrlGuard(config, lambda host, port: list(addresses or (PUBLIC,)))


def refusal(url: str, checker: UrlGuard | None = None) -> BadItem:
    with pytest.raises(BadItem) as caught:
        (checker or guard()).check(url, "i1")
    assert caught.value.item_id == "i1"
    assert caught.value.remedy
    return caught.value


def test_a_public_url_passes_with_its_addresses() -> None:
    target = guard().check("HTTPS://Images.Example.org/a b".replace(" ", "%20") + "?x=1#f", None)
    assert (target.scheme, target.host, target.port) == ("https", "images.example.org", 443)
    assert target.path == "/a%20b?x=1"
    assert target.addresses == (PUBLIC,)
    assert target.text == "HTTPS://Images.Example.org/a%20b"
    assert target.host_header == "images.example.org"


def test_names_beyond_ascii_are_encoded() -> None:
    target = guard().check("http://bücher.example/größe.png", None)
    assert target.host == "xn--bcher-kva.example"
    assert target.path == "/gr%C3%B6%C3%9Fe.png"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://127.0.0.1/", "loopback"),
        ("http://169.254.169.254/latest/meta-data", "metadata"),
        ("http://metadata.google.internal/", "metadata"),
        ("http://METADATA.google.internal./", "metadata"),
        ("http://[::1]/", "loopback"),
        ("http://[::ffff:10.0.0.1]/", "IPv6 form"),
        ("http://[fe80::1%25eth0]/", "plainly"),
        ("http://2130706433/", "plainly"),
        ("http://0x7f.0.0.1/", "plainly"),
        ("http://0177.0.0.1/", "plainly"),
        ("http://127.1/", "plainly"),
        ("http://１２７.0.0.1/", "loopback"),
        ("http://127。0。0。1/", "loopback"),
        ("http://127%2e0.0.1/", "plainly"),
        ("http://a..b/", "plainly"),
        (f"http://{'a' * 64}.org/", "plainly"),
        ("http://user:secret@example.org/", "user or password"),
        ("http://example.org@127.0.0.1/", "user or password"),
        ("http://example.org:22/", "port 22"),
        ("http://example.org:0/", "port 0"),
        ("ftp://example.org/x", "fetch.schemes"),
    ],
)
def test_refused_urls(url: str, text: str) -> None:
    error = refusal(url)
    assert error.reason is Reason.URI_REFUSED
    assert text in error.message
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http://[",
        "http:///x",
        "http://example.org:99999/",
        "http://example.org:x/",
        "http://example.org/a b",
        "http://example.org\\@127.0.0.1/",
        "http://example.org/\r\nHost: x",
        "http://exa\tmple.org/",
        "http://example.org/" + "x" * 9000,
        "http://example.org/\ud800",
    ],
)
def test_texts_that_are_no_urls(url: str) -> None:
    assert refusal(url).reason is Reason.UNSUPPORTED_INPUT


@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "fd00::1", "169.254.169.254"])
def test_names_are_refused_by_what_they_resolve_to(address: str) -> None:
    assert address in refusal("http://rebound.example/", guard(address)).message
    assert refusal("http://mixed.example/", guard(PUBLIC, address)).reason is Reason.URI_REFUSED


def test_a_name_is_resolved_once() -> None:
    answers = [[PUBLIC], ["127.0.0.1"]]
    checker = UrlGuard(FetchConfig(schemes=("http",)), lambda host, port: answers.pop(0))
    assert checker.check("http://twice.example/", None).addresses == (PUBLIC,)
    assert answers == [["127.0.0.1"]]


def test_hosts_may_be_listed() -> None:
    checker = guard(allow=["images.example.org", "*.cdn.example"])
    for host in ("images.example.org", "IMAGES.example.org.", "a.cdn.example", "a.b.cdn.example"):
        assert checker.check(f"http://{host}/", None)
    for host in ("example.org", "cdn.example", "xcdn.example", "images.example.org.evil.example"):
        assert "fetch.allow_hosts" in refusal(f"http://{host}/", checker).message
    assert "fetch.allow_hosts" in refusal("http://8.8.8.8/", checker).message


def test_an_internal_address_has_to_be_named() -> None:
    by_name = guard("10.2.0.7", allow=["images.internal"])
    assert "private" in refusal("http://images.internal/", by_name).message
    by_both = guard("10.2.0.7", allow=["images.internal", "10.2.0.0/16"])
    assert by_both.check("http://images.internal/", None).addresses == ("10.2.0.7",)
    assert by_both.check("http://10.2.0.9/", None).addresses == ("10.2.0.9",)
    assert refusal("http://10.3.0.9/", by_both).reason is Reason.URI_REFUSED
    loose = guard(allow=["0.0.0.0/0"])
    assert "metadata" in refusal("http://169.254.169.254/", loose).message


@pytest.mark.parametrize("entry", ["", "*", "a b", "http://x.org", "*.*.org", "-/-"])
def test_entries_that_are_neither_host_nor_address(entry: str) -> None:
    with pytest.raises(ConfigError, match="allow_hosts"):
        guard(allow=[entry])


def test_https_alone_may_be_allowed() -> None:
    checker = guard(schemes=("https",))
    assert checker.check("https://example.org/", None)
    assert "fetch.schemes" in refusal("http://example.org/", checker).message


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (socket.gaierror(socket.EAI_NONAME, "unknown"), BadItem),
        (socket.gaierror(socket.EAI_AGAIN, "later"), Retryable),
        (UnicodeError("label"), Retryable),
    ],
)
def test_names_that_do_not_resolve(error: Exception, kind: type[Exception]) -> None:
    def failing(host: str, port: int) -> list[str]:
        raise error

    with pytest.raises(kind, match="can not be resolved"):
        UrlGuard(FetchConfig(schemes=("http",)), failing).check("http://gone.example/?key=1", None)
