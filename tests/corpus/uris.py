"""Sources that a manifest may name and a run must not choke on: paths, file URIs, other schemes."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

from geco_core.errors import Reason
from tests.corpus.case import Place, Source

REFUSED, MISSING, UNSUPPORTED = Reason.URI_REFUSED, Reason.NOT_FOUND, Reason.UNSUPPORTED_INPUT


def _link(name: str, target: Callable[[Place], Path]) -> Callable[[Place], str]:
    def make(place: Place) -> str:
        (place.inside / name).symlink_to(target(place))
        return name

    return make


def _pipe(place: Place) -> str:
    os.mkfifo(place.inside / "pipe.png")
    return "pipe.png"


def _socket(place: Place) -> str:
    here = Path.cwd()
    os.chdir(place.inside)  # the name of a socket has to be short
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket.png")
    finally:
        os.chdir(here)
    return "socket.png"


def _large(place: Place) -> str:
    with (place.inside / "large.png").open("wb") as file:
        file.truncate(1 << 40)  # a hole: it takes no space
    return "large.png"


def _written(name: str) -> Callable[[Place], str]:
    def make(place: Place) -> str:
        (place.inside / name).write_bytes(b"data")
        return name

    return make


def _raw_name(place: Place) -> str:
    path = Path(os.fsdecode(os.fsencode(place.inside) + b"/\xff\xfe.png"))
    path.write_bytes(b"data")
    return path.as_uri()


def _folder_link(place: Place) -> str:
    (place.inside / "folder").symlink_to(place.outside)
    return "folder/secret.png"


def _nested(place: Place) -> str:
    (place.inside / "a file").write_bytes(b"data")
    return "a file/x.png"


PATHS = [
    Source("path that is not there", lambda p: "none.png", MISSING, "does not exist"),
    Source("absolute path that is not there", lambda p: f"{p.inside}/none.png", MISSING),
    Source("path below a file", _nested, MISSING),
    Source("folder", lambda p: ".", UNSUPPORTED, "folder"),
    Source("folder with a slash", lambda p: f"{p.inside}/", UNSUPPORTED, "folder"),
    Source("pipe", _pipe, UNSUPPORTED, "pipe"),
    Source("socket", _socket, UNSUPPORTED, "socket"),
    Source("device", lambda p: "/dev/zero", REFUSED, 'fetch.roots=["/dev"]'),
    Source("link to a device", _link("zero.png", lambda p: Path("/dev/zero")), REFUSED),
    Source("endless memory", lambda p: "/proc/self/mem", REFUSED),
    Source("passwords", lambda p: "/etc/passwd", REFUSED, 'fetch.roots=["/etc"]'),
    Source("environment", lambda p: "/proc/self/environ", REFUSED, "fetch.roots"),
    Source("climbing path", lambda p: "../outside/secret.png", REFUSED, "fetch.roots"),
    Source("long climbing path", lambda p: "../" * 60 + "etc/passwd", REFUSED),
    Source("path outside", lambda p: f"{p.outside}/secret.png", REFUSED, "outside"),
    Source("missing path outside", lambda p: f"{p.outside}/none.png", REFUSED),
    Source("link outside", _link("link.png", lambda p: p.outside / "secret.png"), REFUSED),
    Source("linked folder outside", _folder_link, REFUSED),
    Source("link to itself", _link("loop.png", lambda p: p.inside / "loop.png"), UNSUPPORTED),
    Source("broken link", _link("broken.png", lambda p: p.inside / "none"), MISSING),
    Source("terabyte", _large, Reason.TOO_MANY_BYTES, "max_source_bytes"),
    Source("long name", lambda p: "n" * 300 + ".png", UNSUPPORTED, "too long"),
    Source("long path", lambda p: "n/" * 5000 + "x.png", UNSUPPORTED, "too long"),
    Source("long text", lambda p: "word " * 100_000, UNSUPPORTED, "too long"),
    Source("NUL in a path", lambda p: "a\x00b.png", UNSUPPORTED, "NUL"),
    Source("line break in a path", lambda p: "a\nb.png", MISSING, "a\\nb.png"),
    Source("terminal codes in a path", lambda p: "\x1b[31mred.png", MISSING, "\\x1b"),
    Source("home of a user", lambda p: "~/x.png", MISSING),
    Source("variable", lambda p: "$HOME/x.png", MISSING),
    Source("pattern", lambda p: "*.png", MISSING),
    Source("path of another system", lambda p: "C:\\images\\x.png", MISSING),
    Source("blank", lambda p: " ", MISSING),
    Source("name with a question mark", _written("what?.png"), None),
    Source("name with a hash", _written("a#b.png"), None),
    Source("name with a percent sign", _written("100%41.png"), None),
    Source("name beyond ascii", _written("größe 大.png"), None),
    Source("sound path", _written("sound.png"), None),
]

FILE_URIS = [
    Source("file URI outside", lambda p: "file:///etc/passwd", REFUSED, "fetch.roots"),
    Source("file URI climbing", lambda p: f"file://{p.inside}/../outside/secret.png", REFUSED),
    Source("file URI climbing in code", lambda p: f"file://{p.inside}/%2e%2e/outside/x", REFUSED),
    Source("file URI with NUL", lambda p: f"file://{p.inside}/a%00b", UNSUPPORTED, "NUL"),
    Source("file URI of another machine", lambda p: "file://server/share/x.png", REFUSED),
    Source("file URI of nothing", lambda p: "file://", REFUSED),
    Source("file URI with a broken host", lambda p: "file://[", UNSUPPORTED),
    Source("file URI in capitals", lambda p: f"FILE://{p.inside}/none.png", MISSING),
    Source("file URI of raw bytes", _raw_name, None),
]

SCHEMES = [
    Source(
        "http unasked", lambda p: "http://example.org/x", REFUSED, "fetch.schemes=[file,s3,http]"
    ),
    Source("https unasked", lambda p: "https://example.org/x", REFUSED, "fetch.schemes"),
    Source("ftp", lambda p: "ftp://example.org/x.png", REFUSED, "copy the images"),
    Source("gopher", lambda p: "gopher://127.0.0.1:6379/_FLUSHALL", REFUSED),
    Source("dict", lambda p: "dict://127.0.0.1:11211/stats", REFUSED),
    Source("jar", lambda p: "jar://x!/y", REFUSED),
    Source("gs", lambda p: "gs://bucket/x.png", REFUSED),
    Source("hdfs", lambda p: "hdfs://name/x.png", REFUSED),
    Source("data URI", lambda p: "data:image/png;base64,iVBORw0KGgo=", REFUSED, "binary column"),
    Source("data URI in capitals", lambda p: "DATA:,x", REFUSED, "binary column"),
    Source("s3 without bucket", lambda p: "s3:///x.png", UNSUPPORTED, "s3://bucket/key"),
    Source("s3 without key", lambda p: "s3://bucket", UNSUPPORTED, "s3://bucket/key"),
    Source("s3 with an impossible bucket", lambda p: "s3://no_bucket!/x", UNSUPPORTED),
]


OBJECTS = [
    Source("object", lambda p: "s3://pictures/a%20b.png", None),
    Source("object that is not there", lambda p: "s3://pictures/none.png", MISSING, "NoSuchKey"),
    Source("bucket that is not there", lambda p: "s3://none-such/x.png", MISSING, "NoSuchBucket"),
    Source("object of a terabyte", lambda p: "s3://pictures/large", Reason.TOO_MANY_BYTES),
    Source("object with a secret", lambda p: "s3://pictures/x?sig=0123456789abcdef", MISSING),
    Source("bucket in capitals", lambda p: "s3://PICTURES/x.png", MISSING),
    Source("object outside", lambda p: "s3://others/x.png", MISSING),
]
