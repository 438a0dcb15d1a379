"""A corpus of awkward images, made by script, each with its expected refusal or note.

Nothing large is allocated: the 20,000 x 20,000 PNG is a hand-written header with a few kilobytes of
compressed zeros.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

from geco_core.errors import Reason


@dataclass(frozen=True)
class Case:
    """One file: how to make it, and either the reason it is refused for or a fragment of its notes
    ("" for none).

    Attributes:
        make: returns the bytes.
        reason: of the refusal; None when the file decodes.
        note: a fragment that must occur in the notes; "" when there must be no note.
        center: expected rgba at the centre, or None to leave it open.
        tolerance: for `center`, per channel.
    """

    make: Callable[[], bytes]
    reason: Reason | None = None
    note: str = ""
    center: tuple[int, int, int, int] | None = None
    tolerance: int = 2


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The file for `image`."""
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()


def picture(mode: str = "RGB", size: tuple[int, int] = (64, 48)) -> Image.Image:
    """An orange disc in the middle of a grey-blue field."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    inside = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (min(size) / 3) ** 2
    rgb = np.where(inside[..., None], (230, 120, 40), (90, 110, 130)).astype(np.uint8)
    return Image.fromarray(rgb).convert(mode)


def cutout(alpha_inside: int = 255) -> Image.Image:
    """The disc on a transparent field."""
    image = picture("RGBA")
    rgba = np.array(image)
    rgba[..., 3] = np.where(rgba[..., 0] > 200, alpha_inside, 0)
    return Image.fromarray(rgba)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """One PNG chunk with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width: int, height: int, rows: int = 1) -> bytes:
    """A PNG that claims `width` x `height` grey pixels and stores `rows` rows of zeros."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes((width + 1) * rows))
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def webp_header(width: int, height: int) -> bytes:
    """A WebP whose extended header claims `width` x `height`."""
    body = struct.pack("<4sI4s", b"VP8X", 10, bytes(4)) + (width - 1).to_bytes(3, "little")
    body += (height - 1).to_bytes(3, "little") + bytes(16)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def gif_frame_beyond_screen() -> bytes:
    """A GIF with a small logical screen and a frame of 60,000 x 60,000."""
    screen = b"GIF89a" + struct.pack("<HHBBB", 32, 32, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 60000, 60000, 0) + b"\x02\x02\x4c\x01\x00;"
    return screen + frame


def grey16() -> bytes:
    """A 16-bit grey PNG, half the full scale in the middle."""
    values = np.full((48, 64), 8000, dtype=np.uint16)
    values[12:36, 16:48] = 32768
    return encoded(Image.fromarray(values), "PNG")


def rotated_by_exif(orientation: int, kind: str = "JPEG") -> bytes:
    """A 64 x 48 picture, red in its stored top-left quarter, with an EXIF orientation."""
    rgb = np.full((48, 64, 3), 40, dtype=np.uint8)
    rgb[:24, :32] = (220, 30, 30)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(
        Image.fromarray(rgb), kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {})
    )


def animated(kind: str) -> bytes:
    """Three frames: orange disc, then black twice."""
    black = Image.new("RGB", (64, 48))
    grey = Image.new("RGB", (64, 48), (9, 9, 9))
    options = {"lossless": True} if kind == "WEBP" else {}
    return encoded(
        picture(), kind, save_all=True, append_images=[black, grey], duration=50, **options
    )


def pages() -> bytes:
    """A TIFF of two pages."""
    return encoded(picture(), "TIFF", save_all=True, append_images=[Image.new("RGB", (64, 48))])


def with_profile(mode: str, kind: str) -> bytes:
    """A picture with an sRGB profile, or with one that belongs to another colour space."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return encoded(picture(mode), kind, icc_profile=profile)


def _cut(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


def _flipped_byte(data: bytes, position: int) -> bytes:
    broken = bytearray(data)
    broken[position] ^= 0xFF
    return bytes(broken)


def _float_tiff() -> bytes:
    values = np.full((48, 64), 0.25, dtype=np.float32)
    values[12:36, 16:48] = 0.5
    return encoded(Image.fromarray(values), "TIFF")


def _wide_tiff() -> bytes:
    values = np.full((48, 64), -1000, dtype=np.int32)
    values[0, 0], values[12:36, 16:48] = -3000, 1000
    return encoded(Image.fromarray(values), "TIFF")


def _palette(kind: str) -> bytes:
    # Pillow's GIF writer takes a quantised cut-out's four-channel palette for three channels.
    return encoded(cutout() if kind == "GIF" else cutout().quantize(16), kind)


ORANGE = (230, 120, 40, 255)

CASES: dict[str, Case] = {
    # refused
    "empty file": Case(lambda: b"", Reason.NOT_AN_IMAGE),
    "text file": Case(lambda: b"item_id,image\n1,chair.png\n" * 9, Reason.NOT_AN_IMAGE),
    "text that starts like a bitmap": Case(
        lambda: b"BMW chair, brown, used\n", Reason.NOT_AN_IMAGE
    ),
    "html error page": Case(lambda: b"<!DOCTYPE html><h1>404</h1>" * 9, Reason.NOT_AN_IMAGE),
    "svg": Case(lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", Reason.NOT_AN_IMAGE),
    "random bytes": Case(lambda: np.random.default_rng(0).bytes(4096), Reason.NOT_AN_IMAGE),
    "one pixel": Case(lambda: encoded(Image.new("RGB", (1, 1)), "PNG"), Reason.IMAGE_TOO_SMALL),
    "fifteen pixels": Case(
        lambda: encoded(Image.new("RGB", (400, 15)), "PNG"), Reason.IMAGE_TOO_SMALL
    ),
    "png 20000 x 20000": Case(lambda: png_header(20_000, 20_000), Reason.IMAGE_TOO_LARGE),
    "png 2 billion wide": Case(lambda: png_header(2**31 - 1, 16, rows=0), Reason.IMAGE_TOO_LARGE),
    "png of a thin strip": Case(lambda: png_header(60_000, 16), Reason.IMAGE_TOO_LARGE),
    "webp 16000 x 16000": Case(lambda: webp_header(16_000, 16_000), Reason.IMAGE_TOO_LARGE),
    "gif frame beyond its screen": Case(gif_frame_beyond_screen, Reason.IMAGE_TOO_LARGE),
    "png truncated": Case(lambda: _cut(encoded(picture(), "PNG"), 0.6), Reason.CORRUPT_IMAGE),
    "jpeg truncated": Case(lambda: _cut(encoded(picture(), "JPEG"), 0.8), Reason.CORRUPT_IMAGE),
    "webp truncated": Case(lambda: _cut(encoded(picture(), "WEBP"), 0.6), Reason.CORRUPT_IMAGE),
    "gif truncated": Case(lambda: _cut(encoded(picture("P"), "GIF"), 0.9), Reason.CORRUPT_IMAGE),
    "bmp truncated": Case(lambda: _cut(encoded(picture(), "BMP"), 0.5), Reason.CORRUPT_IMAGE),
    "tiff truncated": Case(lambda: _cut(encoded(picture(), "TIFF"), 0.5), Reason.CORRUPT_IMAGE),
    "png signature only": Case(lambda: b"\x89PNG\r\n\x1a\n", Reason.CORRUPT_IMAGE),
    "jpeg marker only": Case(lambda: b"\xff\xd8\xff\xe0", Reason.CORRUPT_IMAGE),
    "png damaged data": Case(
        lambda: _flipped_byte(encoded(picture(), "PNG"), 60), Reason.CORRUPT_IMAGE
    ),
    "png damaged header": Case(
        lambda: _flipped_byte(encoded(picture(), "PNG"), 20), Reason.CORRUPT_IMAGE
    ),
    # accepted
    "opaque png": Case(lambda: encoded(picture(), "PNG"), center=ORANGE),
    "opaque rgba png": Case(lambda: encoded(picture("RGBA"), "PNG"), center=ORANGE),
    "cut-out png": Case(lambda: encoded(cutout(), "PNG"), center=ORANGE),
    "cut-out webp": Case(lambda: encoded(cutout(), "WEBP", lossless=True), center=ORANGE),
    "fully transparent": Case(lambda: encoded(cutout(0), "PNG"), center=(230, 120, 40, 0)),
    "jpeg": Case(lambda: encoded(picture(), "JPEG", quality=95), center=ORANGE, tolerance=4),
    "bmp": Case(lambda: encoded(picture(), "BMP"), center=ORANGE),
    "tiff": Case(lambda: encoded(picture(), "TIFF"), center=ORANGE),
    "tiff lzw cut-out": Case(
        lambda: encoded(cutout(), "TIFF", compression="tiff_lzw"), center=ORANGE
    ),
    "grey jpeg": Case(
        lambda: encoded(picture("L"), "JPEG"), center=(144, 144, 144, 255), tolerance=4
    ),
    "grey alpha png": Case(lambda: encoded(picture("LA"), "PNG"), center=(144, 144, 144, 255)),
    "one bit png": Case(
        lambda: encoded(picture("L").point(lambda v: 255 * (v > 120), "1"), "PNG"),
        center=(255,) * 4,
    ),
    "palette png with alpha": Case(lambda: _palette("PNG"), center=ORANGE, tolerance=12),
    "palette gif with alpha": Case(lambda: _palette("GIF"), center=ORANGE, tolerance=12),
    "16-bit grey png": Case(grey16, center=(128, 128, 128, 255)),
    "float tiff": Case(_float_tiff, center=(128, 128, 128, 255)),
    "32-bit tiff": Case(_wide_tiff, note="stretched", center=(255, 255, 255, 255)),
    "cmyk jpeg": Case(
        lambda: encoded(picture("CMYK"), "JPEG", quality=95),
        note="CMYK",
        center=ORANGE,
        tolerance=6,
    ),
    "cmyk tiff": Case(lambda: encoded(picture("CMYK"), "TIFF"), note="CMYK", center=ORANGE),
    "lab tiff": Case(
        lambda: encoded(_lab(), "TIFF"), note="converted to sRGB", center=ORANGE, tolerance=6
    ),
    "animated gif": Case(
        lambda: animated("GIF"), note="animated: first frame", center=ORANGE, tolerance=4
    ),
    "animated webp": Case(lambda: animated("WEBP"), note="animated: first frame", center=ORANGE),
    "animated png": Case(lambda: animated("PNG"), note="animated: first frame", center=ORANGE),
    "two-page tiff": Case(pages, note="multi-page: first page", center=ORANGE),
    "srgb profile": Case(lambda: with_profile("RGB", "PNG"), center=ORANGE),
    "profile of another space": Case(lambda: with_profile("L", "PNG"), note="ICC profile ignored"),
    "profile of garbage": Case(
        lambda: encoded(picture(), "PNG", icc_profile=b"not a profile"),
        note="ICC profile ignored",
        center=ORANGE,
    ),
}


def _lab() -> Image.Image:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    converted = ImageCms.profileToProfile(picture(), srgb, lab, outputMode="LAB")
    assert converted is not None
    return converted
