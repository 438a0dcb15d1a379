"""An HTTP/1.1 proxy between an S3 client and an S3 server that breaks requests on purpose.

The client talks to the proxy as if it were the server. A list of `Fault`s says which requests break
and how; everything else passes unchanged, the Host header included, because signatures cover it.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import random
import re
import socket
import socketserver
import struct
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from tests.support.s3_servers import client_environment

Kind = Literal[
    "error_500",  # an answer, and the server never saw the request
    "slow_down",  # 503 SlowDown, likewise
    "error_after",  # the server did it, the client is told 500
    "reset_before",  # the connection breaks before the server saw the request
    "reset_after",  # the server did it, the connection breaks before the answer
    "stall",  # silence for `seconds`, then a broken connection; the server never saw it
    "stall_after",  # likewise, but the server did it
    "slow_body",  # the answer's body dribbles within `seconds`
    "truncated",  # the answer's body ends early, although Content-Length promised more
    "cut_upload",  # the server receives half of the body, then a closed connection
    "error_in_200",  # status 200 with an error document, as for CompleteMultipartUpload
]
UPSTREAM_TIMEOUT_S = 60.0
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "proxy-connection"}


@dataclass
class Fault:
    """Which requests break, and how.

    Attributes:
        kind: see `Kind`.
        method: regular expression that the whole method matches.
        key: regular expression found in the path and query.
        nth: which of the matching requests, from 0; None for all.
        probability: chance of a matching request, after `nth`.
        times: at most so many; None for any number.
        seconds: of stalls and slow bodies.
    """

    kind: Kind
    method: str = ".*"
    key: str = ""
    nth: Collection[int] | None = None
    probability: float = 1.0
    times: int | None = None
    seconds: float = 1.0
    seen: int = field(default=0, init=False)
    done: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"unknown fault {self.kind!r}")

    def strikes(self, method: str, path: str, rng: random.Random) -> bool:
        """Whether this request breaks; counts it."""
        if not re.fullmatch(self.method, method) or not re.search(self.key, path):
            return False
        self.seen += 1
        if self.nth is not None and self.seen - 1 not in self.nth:
            return False
        if self.times is not None and self.done >= self.times:
            return False
        if rng.random() >= self.probability:
            return False
        self.done += 1
        return True


class FaultProxy(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """The listening proxy. `faults` may be replaced at any time; the first that strikes counts."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, upstream_port: int, faults: Sequence[Fault] = (), seed: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream_port = upstream_port
        self.faults = list(faults)
        self.counts: Counter[str] = Counter()
        self.requests: list[tuple[str, str, str]] = []  # method, path, fault or ""
        self._rng = random.Random(seed)
        self._lock = threading.Lock()

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def env(self) -> dict[str, str]:
        """Environment of a client process behind the proxy."""
        return client_environment(self.endpoint_url)

    def choose(self, method: str, path: str) -> Fault | None:
        """The fault of this request."""
        with self._lock:
            for fault in self.faults:
                if fault.strikes(method, path, self._rng):
                    self.counts[fault.kind] += 1
                    self.requests.append((method, path, fault.kind))
                    return fault
            self.counts["passed"] += 1
            self.requests.append((method, path, ""))
            return None

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """Close without the orderly goodbye, so that a reset stays one."""
        self.close_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that went away are nothing to print about."""
        self.counts["client_gone"] += 1


@contextlib.contextmanager
def fault_proxy(
    upstream_port: int, faults: Sequence[Fault] = (), *, seed: int = 0
) -> Iterator[FaultProxy]:
    """A proxy in front of the server at `upstream_port`, in threads of this process."""
    proxy = FaultProxy(upstream_port, faults, seed)
    thread = threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()


@dataclass(frozen=True)
class _Answer:
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes


class _Handler(http.server.BaseHTTPRequestHandler):
    """One client connection, and the connection to the server behind it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def _proxy(self) -> FaultProxy:
        assert isinstance(self.server, FaultProxy)
        return self.server

    def setup(self) -> None:
        super().setup()
        self._upstream: http.client.HTTPConnection | None = None

    def finish(self) -> None:
        self._drop_upstream()
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: `FaultProxy.requests` has it all."""

    def _pass_on(self) -> None:
        body = self._read_body()
        fault = self._proxy.choose(self.command, self.path)
        kind = fault.kind if fault else ""
        if fault is None:
            self._send(self._forward(body))
        elif kind in ("error_500", "slow_down"):
            self._send(_error(500 if kind == "error_500" else 503))
        elif kind == "reset_before":
            self._reset()
        elif kind == "stall":
            time.sleep(fault.seconds)
            self._reset()
        elif kind == "cut_upload":
            self._cut(body)
            self._reset()
        else:
            self._spoil(fault, self._forward(body))

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_OPTIONS = _pass_on

    def _spoil(self, fault: Fault, answer: _Answer) -> None:
        """What happens to the answer to a request that the server has handled."""
        if fault.kind == "error_after":
            self._send(_error(500))
        elif fault.kind == "error_in_200":
            self._send(_error(200))
        elif fault.kind == "slow_body":
            self._send(answer, seconds=fault.seconds)
        elif fault.kind == "truncated" and answer.body:
            self._send(answer, length=len(answer.body) // 2)
        else:
            if fault.kind == "stall_after":
                time.sleep(fault.seconds)
            self._reset()

    def _read_body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _forward(self, body: bytes) -> _Answer:
        try:
            return self._ask(body)
        except (OSError, http.client.HTTPException):
            self._drop_upstream()  # an idle connection the server gave up: once more on a new one
        try:
            return self._ask(body)
        except (OSError, http.client.HTTPException):
            self._drop_upstream()
            self._proxy.counts["upstream_gone"] += 1
            return _error(503)

    def _ask(self, body: bytes) -> _Answer:
        upstream = self._begin(len(body))
        upstream.send(body)
        response = upstream.getresponse()
        data = response.read()
        if response.will_close:
            self._drop_upstream()
        headers = [(k, v) for k, v in response.getheaders() if k.lower() not in _HOP_BY_HOP]
        return _Answer(response.status, response.reason, headers, data)

    def _begin(self, length: int) -> http.client.HTTPConnection:
        """Send the request line and the headers as they came."""
        if self._upstream is None:
            port = self._proxy.upstream_port
            self._upstream = http.client.HTTPConnection(
                "127.0.0.1", port, timeout=UPSTREAM_TIMEOUT_S
            )
        upstream = self._upstream
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in _HOP_BY_HOP | {"content-length"}:
                upstream.putheader(name, value)
        if length or self.command in ("PUT", "POST"):
            upstream.putheader("Content-Length", str(length))
        upstream.endheaders()
        return upstream

    def _cut(self, body: bytes) -> None:
        self._drop_upstream()
        with contextlib.suppress(OSError, http.client.HTTPException):
            self._begin(max(len(body), 1)).send(body[: len(body) // 2])
        self._drop_upstream()

    def _drop_upstream(self) -> None:
        if self._upstream is not None:
            self._upstream.close()
            self._upstream = None

    def _send(self, answer: _Answer, *, length: int | None = None, seconds: float = 0.0) -> None:
        head = self.command == "HEAD"
        names = {name.lower() for name, _ in answer.headers}
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.headers:
            if head or name.lower() != "content-length":
                self.send_header(name, value)
        if not head and answer.status not in (204, 304):
            self.send_header("Content-Length", str(len(answer.body)))
        elif head and "content-length" not in names:
            self.send_header("Content-Length", "0")
        self.end_headers()
        body = b"" if head else answer.body[:length]
        pieces = 10 if seconds else 1
        step = max(1, -(-len(body) // pieces))
        for start in range(0, len(body), step):
            self.wfile.write(body[start : start + step])
            self.wfile.flush()
            time.sleep(seconds / pieces)
        if length is not None:
            self._reset()

    def _reset(self) -> None:
        """Close with RST as soon as the handler returns."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True


def _error(status: int) -> _Answer:
    code, text = (
        ("SlowDown", "Reduce your request rate")
        if status == 503
        else (
            "InternalError",
            "We encountered an internal error",
        )
    )
    body = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{text}"
    body += "</Message><RequestId>0</RequestId></Error>"
    headers = [("Content-Type", "application/xml"), ("x-amz-request-id", "0")]
    return _Answer(status, "Injected", headers, body.encode())
