"""Small files that ask for much: pixels, memory or time."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from PIL import Image

from geco_core.errors import Reason
from tests.corpus.case import Case
from tests.corpus.images_damaged import _jpeg_sized, _patched
from tests.corpus.pictures import PNG_MAGIC, encoded, picture, png, png_chunk

LARGE, CORRUPT = Reason.IMAGE_TOO_LARGE, Reason.CORRUPT_IMAGE
MEGABYTE = 1 << 20


def _rows(image: Image.Image) -> list[bytes]:
    data, width = image.tobytes(), image.width
    return [data[start : start + width] for start in range(0, len(data), width)]


def _text_bomb(kind: bytes) -> bytes:
    squeezed = zlib.compress(b"x" * (50 * MEGABYTE), 9)
    head = {
        b"zTXt": b"Comment\x00\x00",
        b"iTXt": b"Comment\x00\x01\x00\x00\x00",
        b"iCCP": b"profile\x00\x00",
    }
    return png(extra=png_chunk(kind, head[kind] + squeezed))


def _many_texts() -> bytes:
    squeezed = zlib.compress(b"x" * MEGABYTE, 9)[:4096]
    return png(extra=png_chunk(b"zTXt", b"Comment\x00\x00" + squeezed) * 200)


def _overflowing_data() -> bytes:
    """64 x 48 pixels, and fifty megabytes of rows behind them."""
    rows = b"".join(b"\x00" + row for row in _rows(picture("L")))
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 48, 8, 0, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(rows + bytes(50 * MEGABYTE), 9))
    return PNG_MAGIC + header + data + png_chunk(b"IEND", b"")


def _webp(kind: bytes, body: bytes) -> bytes:
    chunk = kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk


def _webp_extended(width: int, height: int) -> bytes:
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return _webp(b"VP8X", bytes(4) + sizes + bytes(16))


def _webp_lossless(width: int, height: int) -> bytes:
    bits = (width - 1) | (height - 1) << 14
    return _webp(b"VP8L", b"\x2f" + struct.pack("<I", bits) + bytes(16))


def _webp_lossy(width: int, height: int) -> bytes:
    return _webp(
        b"VP8 ", b"\x10\x00\x00\x9d\x01\x2a" + struct.pack("<HH", width, height) + bytes(9)
    )


def _gif_frame(width: int, height: int) -> bytes:
    """A small screen with a large frame."""
    screen = b"GIF89a" + struct.pack("<HHBBB", 32, 32, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00;"
    return screen + frame


def tiff(*entries: tuple[int, int, int, int], tail: bytes = b"") -> bytes:
    """A little-endian TIFF of one directory; entries are tag, type, count, value."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", len(entries)) + body + bytes(4) + tail


def _grey_tiff(width: int, height: int, bits: int = 8, samples: int = 1) -> bytes:
    return tiff(
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, bits),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 200),
        (277, 3, 1, samples),
        (278, 4, 1, height),
        (279, 4, 1, 64 * 48),
        tail=bytes(78) + picture("L").tobytes(),
    )


def _looping_tiff() -> bytes:
    """A directory whose next directory is itself."""
    data = bytearray(_grey_tiff(64, 48))
    end = 8 + 2 + 9 * 12
    data[end : end + 4] = struct.pack("<I", 8)
    return bytes(data)


def _scans(count: int) -> bytes:
    """A progressive JPEG that sends one of its scans again and again."""
    data = encoded(picture(size=(512, 512)), "JPEG", progressive=True)
    starts = [i for i in range(len(data) - 1) if data[i : i + 2] == b"\xff\xda"]
    again = data[starts[-1] : -2]
    return data[:-2] + again * count + data[-2:]


def _bmp(width: int, height: int) -> bytes:
    return _patched(encoded(picture(), "BMP"), 18, struct.pack("<ii", width, height))


BOMBS: dict[str, tuple[Callable[[], bytes], Reason | None]] = {
    "png of 100,000 x 100,000": (lambda: png(100_000, 100_000, rows=1), LARGE),
    "png of 20,000 x 20,000": (lambda: png(20_000, 20_000, rows=1), LARGE),
    "png of 2 billion columns": (lambda: png(2**31 - 1, 16, rows=0), LARGE),
    "png of 4 billion rows": (lambda: png(16, 2**32 - 1, rows=0), LARGE),
    "png strip": (lambda: png(60_000, 16, rows=1), LARGE),
    "png with a text bomb": (lambda: _text_bomb(b"zTXt"), CORRUPT),
    "png with an international text bomb": (lambda: _text_bomb(b"iTXt"), CORRUPT),
    "png with a profile bomb": (lambda: _text_bomb(b"iCCP"), CORRUPT),
    "png with 200 text bombs": (_many_texts, CORRUPT),
    "png with more rows than it says": (_overflowing_data, None),
    "jpeg of 65,500 x 65,500": (lambda: _jpeg_sized(65_500, 65_500), LARGE),
    "jpeg strip": (lambda: _jpeg_sized(65_500, 16), LARGE),
    "jpeg of 2,000 scans": (lambda: _scans(2000), CORRUPT),
    "webp canvas of 16,384 x 16,384": (lambda: _webp_extended(16_384, 16_384), LARGE),
    "webp canvas of 16 million columns": (lambda: _webp_extended(2**24, 2**24), LARGE),
    "lossless webp of 16,383 x 16,383": (lambda: _webp_lossless(16_383, 16_383), LARGE),
    "lossy webp of 16,383 x 16,383": (lambda: _webp_lossy(16_383, 16_383), LARGE),
    "gif screen of 65,535 x 65,535": (
        lambda: _patched(encoded(picture("P"), "GIF"), 6, b"\xff" * 4),
        LARGE,
    ),
    "gif frame beyond its screen": (lambda: _gif_frame(60_000, 60_000), LARGE),
    "bmp of 60,000 x 60,000": (lambda: _bmp(60_000, 60_000), LARGE),
    "bmp upside down of 60,000 x 60,000": (lambda: _bmp(60_000, -60_000), LARGE),
    "bmp of negative width": (lambda: _bmp(-64, 48), LARGE),
    "tiff of 100,000 x 100,000": (lambda: _grey_tiff(100_000, 100_000), LARGE),
    "tiff of 4 billion columns": (lambda: _grey_tiff(2**32 - 1, 48), LARGE),
    "tiff of 65,535 samples": (lambda: _grey_tiff(64, 48, samples=65_535), CORRUPT),
    "tiff of 64 bits": (lambda: _grey_tiff(64, 48, bits=64), CORRUPT),
    "tiff of a billion bits per sample": (
        lambda: tiff((256, 4, 1, 64), (257, 4, 1, 48), (258, 3, 10**9, 8), tail=bytes(64)),
        CORRUPT,
    ),
    "tiff with a looping directory": (_looping_tiff, None),
}

CASES = [Case(name, make, reason) for name, (make, reason) in BOMBS.items()]
