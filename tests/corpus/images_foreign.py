"""Files that are no images of a known format, whatever they are called, and files that are two
things at once.
"""

from __future__ import annotations

import gzip
import io
import pickle
import zipfile
from collections.abc import Callable

import numpy as np

from geco_core.errors import Reason
from tests.corpus.case import Case
from tests.corpus.pictures import encoded, picture


def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x.png", encoded(picture(), "PNG"))
    return stream.getvalue()


def _brand(brand: bytes) -> bytes:
    return b"\x00\x00\x00\x18ftyp" + brand + bytes(400)


FOREIGN: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty file": (lambda: b"", "an empty file"),
    "one byte": (lambda: b"\x89", "unknown data"),
    "zeros": (lambda: bytes(4096), "unknown data"),
    "random bytes": (lambda: np.random.default_rng(0).bytes(4096), "unknown data"),
    "text": (lambda: b"chair, brown, used\n" * 20, "text"),
    "text like a bitmap": (lambda: b"BMW chair, brown, used\n", "text"),
    "wide text": (lambda: "a chair".encode("utf-16"), "unknown data"),
    "json": (lambda: b'{"error": "not found"}', "text"),
    "html error page": (lambda: b"<!DOCTYPE html><h1>404</h1>", "an HTML page"),
    "html in capitals": (lambda: b"\n <HTML><body>404", "an HTML page"),
    "svg": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
    "svg that reads files": (
        lambda: b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        "an XML document",
    ),
    "xml error": (lambda: b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code>", "an XML document"),
    "pdf": (lambda: b"%PDF-1.7\n1 0 obj", "a PDF document"),
    "postscript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n", "text"),
    "zip": (_zip, "a ZIP archive"),
    "gzip": (lambda: gzip.compress(encoded(picture(), "PNG")), "gzip data"),
    "pickle": (lambda: pickle.dumps({"image": 1}), "unknown data"),
    "program": (lambda: b"\x7fELF\x02\x01\x01" + bytes(200), "unknown data"),
    "mesh": (lambda: b"glTF\x02\x00\x00\x00" + bytes(200), "a GLB mesh"),
    "parquet": (lambda: b"PAR1" + bytes(200) + b"PAR1", "unknown data"),
    "heic": (lambda: _brand(b"heic"), "a HEIC image"),
    "heif": (lambda: _brand(b"mif1"), "a HEIC image"),
    "avif": (lambda: _brand(b"avif"), "an AVIF image"),
    "video": (lambda: _brand(b"isom"), "an ISO media file"),
    "jpeg xl": (lambda: b"\xff\x0a" + bytes(200), "a JPEG XL image"),
    "jpeg 2000": (lambda: b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(200), "unknown data"),
    "photoshop": (lambda: b"8BPS\x00\x01" + bytes(200), "a Photoshop file"),
    "icon": (lambda: encoded(picture(), "ICO"), "unknown data"),
    "portable pixmap": (lambda: encoded(picture(), "PPM"), ""),
    "targa": (lambda: encoded(picture(), "TGA"), "unknown data"),
    "pcx": (lambda: encoded(picture(), "PCX"), "unknown data"),
    "direct draw surface": (lambda: encoded(picture("RGBA"), "DDS"), "unknown data"),
    "sound": (lambda: b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(30), "unknown data"),
    "gif of another year": (lambda: b"GIF88a" + bytes(100), "unknown data"),
    "png sent as text": (
        lambda: encoded(picture(), "PNG").replace(b"\r\n", b"\n"),
        "unknown data",
    ),
    "png behind a byte order mark": (
        lambda: b"\xef\xbb\xbf" + encoded(picture(), "PNG"),
        "unknown data",
    ),
    "jpeg behind a blank": (lambda: b"\n" + encoded(picture(), "JPEG"), "unknown data"),
    "base64": (lambda: b"iVBORw0KGgoAAAANSUhEUgAAAEAAAAAwCAIAAAAuKetI", "text"),
    "data uri": (lambda: b"data:image/png;base64,iVBORw0KGgo=", "text"),
    "large file pointer": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
        "text",
    ),
    "page with a picture inside": (
        lambda: b"<html><!--" + encoded(picture(), "PNG") + b"-->",
        "an HTML page",
    ),
}

POLYGLOTS: dict[str, Callable[[], bytes]] = {
    "png and zip": lambda: encoded(picture(), "PNG") + _zip(),
    "jpeg and pdf": lambda: encoded(picture(), "JPEG") + b"%PDF-1.7\n%%EOF",
    "jpeg with a script as comment": lambda: encoded(
        picture(), "JPEG", comment=b"<?php system($_GET['c']); ?>"
    ),
    "gif and script": lambda: encoded(picture("P"), "GIF") + b"*/=alert(1);",
    "two pngs": lambda: encoded(picture(), "PNG") * 2,
}

CASES = [
    *(
        Case(f"{name}", make, Reason.NOT_AN_IMAGE, f"found {text}" if text else "expected an image")
        for name, (make, text) in FOREIGN.items()
    ),
    *(Case(name, make, None) for name, make in POLYGLOTS.items()),
]
