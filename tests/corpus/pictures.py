"""Small pictures and the building stones of broken ones."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


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


def noisy(size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A picture that does not compress: every part of its file matters."""
    values = np.random.default_rng(7).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


def cut(data: bytes, share: float) -> bytes:
    """The first `share` of the bytes."""
    return data[: int(len(data) * share)]


def flipped(data: bytes, position: int) -> bytes:
    """One byte inverted."""
    broken = bytearray(data)
    broken[position] ^= 0xFF
    return bytes(broken)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """One PNG chunk with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int = 64,
    height: int = 48,
    *,
    depth: int = 8,
    colour: int = 0,
    rows: int | None = None,
    extra: bytes = b"",
    interlace: int = 0,
    end: bool = True,
) -> bytes:
    """A grey PNG of zeros that stores `rows` rows (default: all), with `extra` before its data."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    body = zlib.compress(bytes((width + 1) * (height if rows is None else rows)), 9)
    chunks = png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", body)
    return PNG_MAGIC + chunks + (png_chunk(b"IEND", b"") if end else b"")
