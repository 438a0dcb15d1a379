"""Web sources: addresses that must not be reached, and servers that do not behave."""

from __future__ import annotations

from geco_core.errors import Reason
from tests.corpus.case import Source

REFUSED, UNSUPPORTED, FAILED = Reason.URI_REFUSED, Reason.UNSUPPORTED_INPUT, Reason.FETCH_FAILED
SECRET = "?X-Amz-Signature=0123456789abcdef"

_CLOSED = {
    "loopback": "http://127.0.0.1/",
    "other loopback": "http://127.9.9.9/",
    "loopback by name": "http://localhost/",
    "metadata": "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
    "metadata by name": "http://metadata.google.internal/computeMetadata/v1/",
    "metadata with a dot": "http://METADATA.google.internal./",
    "container credentials": "http://169.254.170.2/v2/credentials",
    "other clouds' metadata": "http://100.100.100.200/latest/",
    "azure's metadata": "http://168.63.129.16/machine/",
    "private network": "https://10.0.0.1/",
    "private network 172": "http://172.16.0.1/",
    "private network 192": "http://192.168.0.1/",
    "carrier network": "http://100.64.0.1/",
    "this network": "http://0.0.0.0/",
    "broadcast": "http://255.255.255.255/",
    "multicast": "http://224.0.0.1/",
    "benchmark network": "http://198.18.0.1/",
    "IPv6 loopback": "http://[::1]/",
    "IPv6 nothing": "http://[::]/",
    "IPv6 mapped loopback": "http://[::ffff:127.0.0.1]/",
    "IPv6 mapped in hexadecimal": "http://[::ffff:7f00:1]/",
    "IPv6 compatible": "http://[::127.0.0.1]/",
    "6to4": "http://[2002:7f00:1::]/",
    "NAT64": "http://[64:ff9b::a9fe:a9fe]/",
    "Teredo": "http://[2001:0:7f00:1::]/",
    "IPv6 private": "http://[fd00::1]/",
    "IPv6 link-local": "http://[fe80::1]/",
    "IPv6 zone": "http://[fe80::1%25eth0]/",
    "IPv6 metadata": "http://[fd00:ec2::254]/",
    "decimal address": "http://2130706433/",
    "octal address": "http://0177.0.0.1/",
    "hexadecimal address": "http://0x7f000001/",
    "mixed address": "http://127.0x0.1/",
    "short address": "http://127.1/",
    "wide digits": "http://１２７.０.０.１/",
    "ideographic dots": "http://127。0。0。1/",
    "circled digits": "http://①②⑦.0.0.1/",
    "encoded address": "http://127%2e0%2e0%2e1/",
    "user before the host": "http://example.org@127.0.0.1/",
    "password": "https://user:hunter2@example.org/x",
    "secure shell port": "http://example.org:22/",
    "port 0": "http://example.org:0/",
}
_BROKEN = {
    "no host": "http:///x.png",
    "nothing after the scheme": "https://",
    "open bracket": "http://[::1/",
    "port out of range": "http://example.org:65536/",
    "port of letters": "http://example.org:http/",
    "backslash": "http://example.org\\@127.0.0.1/",
    "line break": "http://example.org/\r\nX-Injected: 1",
    "blank inside": "http://example.org/my picture.png",
    "very long": "http://example.org/" + "x" * 9000,
}

GUARDED = [
    *(Source(n, lambda p, u=u: u + SECRET, REFUSED, "is refused") for n, u in _CLOSED.items()),
    *(Source(n, lambda p, u=u: u, UNSUPPORTED) for n, u in _BROKEN.items()),
]

_ANSWERS: dict[str, tuple[Reason | None, str]] = {
    "picture.png": (None, ""),
    "chunked": (None, ""),
    "unsized": (None, ""),
    "hop/5": (None, ""),
    "hop/6": (REFUSED, "redirects"),
    "to/http:%2F%2F169.254.169.254%2F": (REFUSED, "metadata"),
    "to/http:%2F%2F[::1]%2F": (REFUSED, "loopback"),
    "to/file:%2F%2F%2Fetc%2Fpasswd": (REFUSED, "fetch.schemes"),
    "to/ftp:%2F%2Fexample.org%2F": (REFUSED, "fetch.schemes"),
    "to/http:%2F%2F[%2F": (FAILED, "nowhere"),
    "nowhere": (FAILED, "nowhere"),
    "status/401": (Reason.ACCESS_DENIED, "401"),
    "status/403": (Reason.ACCESS_DENIED, "403"),
    "status/404": (Reason.NOT_FOUND, "404"),
    "status/410": (Reason.NOT_FOUND, "410"),
    "status/206": (FAILED, "206"),
    "status/418": (FAILED, "418"),
    "status/503": (FAILED, "503"),
    "gzip": (FAILED, "encoded"),
    "huge": (Reason.TOO_MANY_BYTES, "limit"),
    "endless": (Reason.TOO_MANY_BYTES, "limit"),
    "short": (FAILED, "IncompleteRead"),
    "garbage": (FAILED, "BadStatusLine"),
    "reset": (FAILED, "reset"),
    "silent": (Reason.TIMED_OUT, "longer than"),
    "drip-body": (Reason.TIMED_OUT, "longer than"),
}
ANSWERED = [
    Source(path, lambda p, path=path: p.url(path) + SECRET, reason, text)
    for path, (reason, text) in _ANSWERS.items()
]
