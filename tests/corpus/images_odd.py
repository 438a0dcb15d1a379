"""Images that decode, with baggage: broken metadata, odd modes, several frames, nothing to see."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageCms

from geco_core.errors import Reason
from tests.corpus.case import Case
from tests.corpus.pictures import PNG_MAGIC, encoded, picture, png, png_chunk

EMPTY = Reason.EMPTY_FOREGROUND
NOISE = np.random.default_rng(3).bytes(400)


def _with_exif(body: bytes) -> bytes:
    """A JPEG whose EXIF segment holds `body`."""
    data = encoded(picture(), "JPEG")
    segment = b"Exif\x00\x00" + body
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]


def _directory(*entries: tuple[int, int, int, int], following: int = 0) -> bytes:
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    start = b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", len(entries))
    return start + body + struct.pack("<I", following)


EXIF: dict[str, tuple[bytes, str]] = {
    "exif of noise": (NOISE, ""),
    "exif of nothing": (b"", ""),
    "exif cut short": (_directory((0x0112, 3, 1, 6))[:14], ""),
    "exif orientation 99": (_directory((0x0112, 3, 1, 99)), ""),
    "exif orientation as text": (_directory((0x0112, 2, 4, 0x36363636)), ""),
    "exif that follows itself": (_directory((0x0112, 3, 1, 1), following=8), ""),
    "exif that contains itself": (_directory((0x8769, 4, 1, 8), (0x8825, 4, 1, 8)), ""),
    "exif with a value elsewhere": (_directory((0x010E, 2, 2**31, 2**31)), ""),
    "exif with 65,535 entries": (b"II*\x00\x08\x00\x00\x00\xff\xff" + bytes(60), ""),
}


def _cutout(inside: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> bytes:
    rgba = np.array(picture("RGBA"))
    y, x = np.mgrid[: rgba.shape[0], : rgba.shape[1]]
    rgba[..., 3] = np.where(inside(x, y), 255, 0)
    return encoded(Image.fromarray(rgba), "PNG")


def _frames(kind: str) -> bytes:
    others = [Image.new("RGB", (64, 48)), Image.new("RGB", (64, 48), (9, 9, 9))]
    return encoded(picture(), kind, save_all=True, append_images=others, duration=50)


def _lying_profile() -> bytes:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[0:4] = struct.pack(">I", 2**31)
    profile[128:132] = struct.pack(">I", 2**31 - 1)  # tags
    return bytes(profile)


def _interlaced() -> bytes:
    """A grey PNG in seven passes, with a disc."""
    values = np.array(picture("L", (33, 31)))
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
    raw = b"".join(
        b"\x00" + row.tobytes()
        for x, y, across, down in [*passes, (0, 1, 1, 2)]
        for row in values[y::down, x::across]
    )
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 33, 31, 8, 0, 0, 0, 1))
    data = png_chunk(b"IDAT", zlib.compress(raw))
    return PNG_MAGIC + header + data + png_chunk(b"IEND", b"")


def _adobe(transform: int) -> bytes:
    """A CMYK JPEG whose Adobe marker claims a transform that does not exist."""
    data = encoded(picture("CMYK"), "JPEG")
    start = data.index(b"Adobe")
    return data[: start + 11] + bytes([transform]) + data[start + 12 :]


ODD: dict[str, tuple[Callable[[], bytes], Reason | None, str]] = {
    **{
        name: (lambda body=body: _with_exif(body), None, text)
        for name, (body, text) in EXIF.items()
    },
    "png exif of noise": (
        lambda: (
            encoded(picture(), "PNG")[:33]
            + png_chunk(b"eXIf", NOISE)
            + encoded(picture(), "PNG")[33:]
        ),
        None,
        "",
    ),
    "profile of noise": (
        lambda: encoded(picture(), "PNG", icc_profile=NOISE),
        None,
        "ICC profile ignored",
    ),
    "profile with a lying size": (
        lambda: encoded(picture(), "JPEG", icc_profile=_lying_profile()),
        None,
        "ICC profile ignored",
    ),
    "profile of another space": (
        lambda: encoded(
            picture("L"),
            "PNG",
            icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        ),
        None,
        "ICC profile ignored",
    ),
    "cmyk with a profile of noise": (
        lambda: encoded(picture("CMYK"), "JPEG", icc_profile=NOISE),
        None,
        "CMYK",
    ),
    "cmyk with an unknown transform": (lambda: _adobe(77), None, "CMYK"),
    "gif with an empty screen": (
        lambda: encoded(picture("P"), "GIF")[:6] + bytes(4) + encoded(picture("P"), "GIF")[10:],
        None,
        "",
    ),
    "interlaced png": (_interlaced, None, ""),
    "animated gif": (lambda: _frames("GIF"), None, "first frame"),
    "animated png": (lambda: _frames("PNG"), None, "first frame"),
    "animated webp": (lambda: _frames("WEBP"), None, "first frame"),
    "two-page tiff": (lambda: _frames("TIFF"), None, "first page"),
    "fully transparent": (lambda: _cutout(lambda x, y: x < 0), EMPTY, "transparent"),
    "one visible pixel": (lambda: _cutout(lambda x, y: (x == 9) & (y == 9)), EMPTY, ""),
    "one visible row": (lambda: _cutout(lambda x, y: y == 9), EMPTY, ""),
    "one flat colour": (
        lambda: encoded(Image.new("RGB", (64, 48), (250, 250, 250)), "PNG"),
        EMPTY,
        "flat colour",
    ),
    "black png": (png, EMPTY, "flat colour"),
}

CASES = [Case(name, make, reason, text) for name, (make, reason, text) in ODD.items()]
