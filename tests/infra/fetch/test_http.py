"""Web sources against a server that lies, stops and never stops."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from geco_core.config.run import FetchConfig
from geco_core.errors import BadItem, Reason, Retryable
from infra.fetch.guard import UrlGuard
from infra.fetch.http import HttpSource
from infra.fetch.problems import FetchTimeout
from tests.corpus.web import PICTURE, Server, serving

LIMIT = 100_000


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def config(server: Server, **changes: object) -> FetchConfig:
    base = FetchConfig(
        schemes=("http", "https"),
        allow_hosts=("127.0.0.1", "*.example"),
        http_ports=(server.port,),
        timeout_s=5.0,
    )
    return replace(base, **changes)


def source(server: Server, **changes: object) -> HttpSource:
    settings = config(server, **changes)
    return HttpSource(settings, LIMIT, UrlGuard(settings, lambda host, port: ["127.0.0.1"]))


@pytest.mark.parametrize("path", ["picture.png", "unsized", "chunked", "hop/5"])
def test_bodies_are_read(server: Server, path: str) -> None:
    assert source(server).fetch(server.url(path), "i1") == PICTURE


def test_redirects_beyond_ascii_are_followed(server: Server) -> None:
    target = server.url("größe/picture.png").replace("/", "%2F")
    with pytest.raises(BadItem, match="404"):
        source(server).fetch(server.url(f"to/{target}"), None)
    assert server.requests[-1].startswith("GET /gr%C3%B6%C3%9Fe/picture.png HTTP/1.1")


def test_the_request_says_the_host_and_nothing_of_us(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    source(server).fetch(server.url("picture.png?token=1", host="a.example"), None)
    lines = server.requests[-1].split("\r\n")
    assert lines[0] == "GET /picture.png?token=1 HTTP/1.1"
    assert f"Host: a.example:{server.port}" in lines
    assert "Accept-Encoding: identity" in lines
    assert not [line for line in lines if line.startswith(("Cookie", "Authorization", "Referer"))]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("status/404", Reason.NOT_FOUND),
        ("status/410", Reason.NOT_FOUND),
        ("status/401", Reason.ACCESS_DENIED),
        ("status/403", Reason.ACCESS_DENIED),
        ("status/400", Reason.FETCH_FAILED),
        ("status/204", Reason.FETCH_FAILED),
        ("status/304", Reason.FETCH_FAILED),
        ("nowhere", Reason.FETCH_FAILED),
        ("gzip", Reason.FETCH_FAILED),
        ("huge", Reason.TOO_MANY_BYTES),
        ("endless", Reason.TOO_MANY_BYTES),
        ("hop/6", Reason.URI_REFUSED),
        ("to/file:///etc/passwd", Reason.URI_REFUSED),
        ("to/http:%2F%2F169.254.169.254%2Flatest", Reason.URI_REFUSED),
        ("to/http:%2F%2F10.0.0.1%2F", Reason.URI_REFUSED),
        ("to/http:%2F%2F[%2F", Reason.FETCH_FAILED),
    ],
)
def test_answers_that_end_the_row(server: Server, path: str, reason: Reason) -> None:
    with pytest.raises(BadItem) as caught:
        source(server).fetch(server.url(path) + "?X-Amz-Signature=secret", "i1")
    assert caught.value.reason is reason
    assert "secret" not in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    "path",
    [
        "status/429",
        "status/500",
        "status/503",
        "short",
        "chunk-cut",
        "chunk-garbage",
        "garbage",
        "reset",
        "many-headers",
        "long-header",
    ],
)
def test_faults_that_may_pass(server: Server, path: str) -> None:
    with pytest.raises(Retryable) as caught:
        source(server).fetch(server.url(path) + "?X-Amz-Signature=secret", "i1")
    assert not isinstance(caught.value, FetchTimeout)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("path", ["silent", "drip-head", "drip-body"])
def test_the_whole_exchange_is_limited(server: Server, path: str) -> None:
    begun = time.monotonic()
    with pytest.raises(FetchTimeout, match=r"longer than 0\.3 s") as caught:
        source(server, timeout_s=0.3).fetch(server.url(path), "i1")
    assert time.monotonic() - begun < 2.0
    assert caught.value.reason is Reason.TIMED_OUT


def test_a_closed_port_may_pass(server: Server) -> None:
    with serving() as other:
        closed = other.port
    settings = config(server, http_ports=(closed,))
    with pytest.raises(Retryable, match="refused"):
        HttpSource(settings, LIMIT).fetch(f"http://127.0.0.1:{closed}/", None)


def test_the_next_address_is_tried_when_one_does_not_answer(server: Server) -> None:
    settings = config(server, allow_hosts=("127.0.0.0/8", "a.example"))
    guard = UrlGuard(settings, lambda host, port: ["127.0.0.2", "127.0.0.1"])
    url = server.url("picture.png", host="a.example")
    assert HttpSource(settings, LIMIT, guard).fetch(url, None) == PICTURE


def test_sources_are_read_side_by_side(server: Server) -> None:
    shared = source(server)
    got: list[bytes] = []

    def read() -> None:
        got.extend(shared.fetch(server.url("hop/2"), None) for _ in range(10))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [PICTURE] * 40


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, ssl.SSLContext]]:
    """A TLS server whose certificate is good for a.example, and a client that trusts it."""
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "cert.pem"
    command = [
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-nodes", "-days", "2", "-subj", "/CN=a.example"),
        *("-addext", "subjectAltName=DNS:a.example"),
        *("-keyout", str(key), "-out", str(certificate)),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except OSError:
        pytest.skip("no openssl program")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(context) as running:
        yield running, ssl.create_default_context(cafile=str(certificate))


def secured(server: Server, tls: ssl.SSLContext | None) -> HttpSource:
    settings = config(server)
    guard = UrlGuard(settings, lambda host, port: ["127.0.0.1"])
    return HttpSource(settings, LIMIT, guard, tls)


def test_certificates_are_those_of_the_host(secure: tuple[Server, ssl.SSLContext]) -> None:
    server, tls = secure
    url = server.url("picture.png", host="a.example", scheme="https")
    assert secured(server, tls).fetch(url, None) == PICTURE
    for trusted, host in ((tls, "b.example"), (tls, "127.0.0.1"), (None, "a.example")):
        with pytest.raises(BadItem, match="certificate") as caught:
            secured(server, trusted).fetch(
                server.url("picture.png", host=host, scheme="https"), None
            )
        assert caught.value.reason is Reason.FETCH_FAILED


def test_a_redirect_does_not_leave_tls(
    secure: tuple[Server, ssl.SSLContext], server: Server
) -> None:
    safe, tls = secure
    settings = config(server, http_ports=(server.port, safe.port))
    guard = UrlGuard(settings, lambda host, port: ["127.0.0.1"])
    plain = server.url("picture.png").replace("/", "%2F")
    with pytest.raises(BadItem, match="from https") as caught:
        HttpSource(settings, LIMIT, guard, tls).fetch(
            safe.url(f"to/{plain}", host="a.example", scheme="https"), None
        )
    assert caught.value.reason is Reason.URI_REFUSED


def test_plain_text_on_a_tls_port_may_pass(server: Server) -> None:
    with pytest.raises(Retryable):
        source(server, timeout_s=0.3).fetch(server.url("picture.png", scheme="https"), None)


def test_a_handshake_that_never_ends_is_limited() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        settings = FetchConfig(
            schemes=("https",), allow_hosts=("127.0.0.1",), http_ports=(port,), timeout_s=0.3
        )
        with pytest.raises(FetchTimeout):
            HttpSource(settings, LIMIT).fetch(f"https://127.0.0.1:{port}/", None)


def test_certificates_of_the_machine_are_used_by_default(tmp_path: Path) -> None:
    made = HttpSource(FetchConfig(), LIMIT)._tls
    assert made.verify_mode is ssl.CERT_REQUIRED
    assert made.check_hostname
