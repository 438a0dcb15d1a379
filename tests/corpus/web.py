"""A web server on the loopback that behaves as badly as its paths say.

It speaks raw bytes, so that it can lie about lengths, stop in the middle, and never stop.
"""

from __future__ import annotations

import gzip
import socket
import socketserver
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from tests.corpus.pictures import encoded, picture

Send = Callable[[bytes], None]
PICTURE = encoded(picture(), "PNG")


@dataclass
class Server:
    """A running server: its port, and the requests it got, head by head."""

    port: int
    requests: list[str] = field(default_factory=list)

    def url(self, path: str, host: str = "127.0.0.1", scheme: str = "http") -> str:
        """URL of a path, without leading slash."""
        return f"{scheme}://{host}:{self.port}/{path}"


def head(status: str, *lines: str) -> bytes:
    """Status line and headers."""
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def whole(body: bytes, *lines: str, status: str = "200 OK") -> bytes:
    """A complete answer."""
    return head(status, f"Content-Length: {len(body)}", *lines) + body


def answer(path: str, send: Send, connection: socket.socket) -> None:
    """Behave as `path` asks."""
    kind, _, rest = path.partition("/")
    if kind == "status":
        send(whole(b"no", status=f"{rest} Word"))
    elif kind == "to":
        send(whole(b"", f"Location: {unquote(rest)}", status="302 Found"))
    elif kind == "hop":
        left = int(rest)
        send(
            whole(PICTURE)
            if left == 0
            else whole(b"", f"Location: /hop/{left - 1}", status="301 Moved")
        )
    elif kind in FIXED:
        send(FIXED[kind])
    elif kind in LIVE:
        LIVE[kind](send, connection)
    else:
        send(whole(b"not found", status="404 Not Found"))


def _drip(send: Send, data: bytes) -> None:
    for index in range(len(data)):
        send(data[index : index + 1])
        time.sleep(0.05)


def _endless(send: Send, _: socket.socket) -> None:
    send(head("200 OK"))
    while True:
        send(bytes(1 << 16))


def _reset(_: Send, connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _silent(_: Send, connection: socket.socket) -> None:
    connection.settimeout(30)
    with suppress(OSError):
        connection.recv(1)


FIXED: dict[str, bytes] = {
    "picture.png": whole(PICTURE, "Content-Type: text/html"),
    "unsized": head("200 OK") + PICTURE,
    "chunked": head("200 OK", "Transfer-Encoding: chunked")
    + b"%x\r\n%s\r\n0\r\n\r\n" % (len(PICTURE), PICTURE),
    "chunk-cut": head("200 OK", "Transfer-Encoding: chunked") + b"ffff\r\nabc",
    "chunk-garbage": head("200 OK", "Transfer-Encoding: chunked") + b"zz\r\nabc",
    "short": head("200 OK", f"Content-Length: {len(PICTURE)}") + PICTURE[:40],
    "huge": head("200 OK", "Content-Length: 99999999999"),
    "length-garbage": head("200 OK", "Content-Length: many") + PICTURE,
    "gzip": whole(gzip.compress(bytes(1 << 20)), "Content-Encoding: gzip"),
    "page.html": whole(b"<!DOCTYPE html><h1>hello</h1>", "Content-Type: image/png"),
    "empty": whole(b""),
    "nowhere": whole(b"", status="302 Found"),
    "garbage": b"\x00\x01\x02 this is no HTTP\r\n\r\n",
    "many-headers": head("200 OK", *[f"X-{i}: y" for i in range(500)]) + PICTURE,
    "long-header": head("200 OK", "X-Long: " + "y" * 100_000) + PICTURE,
}
LIVE: dict[str, Callable[[Send, socket.socket], None]] = {
    "endless": _endless,
    "reset": _reset,
    "silent": _silent,
    "drip-body": lambda send, _: (send(head("200 OK")), _drip(send, bytes(10_000)))[0],
    "drip-head": lambda send, _: _drip(send, whole(bytes(10_000))),
}


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with suppress(OSError, ValueError):
            asked = b""
            while b"\r\n\r\n" not in asked:
                block = self.request.recv(65536)
                if not block:
                    return
                asked += block
            text = asked.decode("latin-1")
            server: Any = self.server
            server.seen.append(text)
            path = text.split(" ")[1].lstrip("/").split("?")[0]
            answer(path, self.request.sendall, self.request)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[str] = []
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken connections are the point here."""


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """A server on a free port of 127.0.0.1."""
    server = _Server(tls)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield Server(server.server_address[1], server.seen)
    finally:
        server.shutdown()
        server.server_close()
