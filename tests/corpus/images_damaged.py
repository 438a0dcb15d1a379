"""Images of known formats that were cut short or damaged on their way."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import partial

from PIL import Image

from geco_core.errors import Reason
from tests.corpus.case import Case
from tests.corpus.pictures import PNG_MAGIC, cut, encoded, flipped, noisy, picture, png, png_chunk

CORRUPT, SMALL = Reason.CORRUPT_IMAGE, Reason.IMAGE_TOO_SMALL

FORMATS: dict[str, Callable[[], bytes]] = {
    "png": lambda: encoded(noisy(), "PNG"),
    "jpeg": lambda: encoded(noisy(), "JPEG"),
    "progressive jpeg": lambda: encoded(noisy(), "JPEG", progressive=True),
    "cmyk jpeg": lambda: encoded(noisy().convert("CMYK"), "JPEG"),
    "webp": lambda: encoded(noisy(), "WEBP"),
    "lossless webp": lambda: encoded(noisy(), "WEBP", lossless=True),
    "gif": lambda: encoded(noisy().convert("P"), "GIF"),
    "bmp": lambda: encoded(noisy(), "BMP"),
    "tiff": lambda: encoded(noisy(), "TIFF"),
    "lzw tiff": lambda: encoded(noisy(), "TIFF", compression="tiff_lzw"),
    "deflate tiff": lambda: encoded(noisy(), "TIFF", compression="tiff_adobe_deflate"),
    "jpeg tiff": lambda: encoded(noisy(), "TIFF", compression="jpeg"),
}


def _truncated() -> list[Case]:
    cases = []
    for kind, whole in FORMATS.items():
        for share in (0.25, 0.6, 0.9):
            cases.append(
                Case(
                    f"{kind} cut at {share:.0%}",
                    lambda whole=whole, share=share: cut(whole(), share),
                    CORRUPT,
                    "truncated or damaged",
                )
            )
        cases.append(
            Case(
                f"{kind} of 16 bytes",
                lambda whole=whole: whole()[:16],
                CORRUPT,
            )
        )
    return cases


def _png_chunks(*chunks: bytes, magic: bytes = PNG_MAGIC) -> bytes:
    return magic + b"".join(chunks)


def _header(
    width: int = 64, height: int = 48, depth: int = 8, colour: int = 0, *rest: int
) -> bytes:
    compression, filters, interlace = rest or (0, 0, 0)
    fields = (width, height, depth, colour, compression, filters, interlace)
    return png_chunk(b"IHDR", struct.pack(">IIBBBBB", *fields))


def _data(width: int = 64, height: int = 48, filter_type: int = 0) -> bytes:
    row = bytes([filter_type]) + bytes(width)
    return png_chunk(b"IDAT", zlib.compress(row * height))


def _stored() -> bytes:
    """A PNG whose rows are stored, so that a changed byte is a changed pixel."""
    return encoded(noisy(), "PNG", compress_level=0)


def _half() -> bytes:
    """A sound PNG but for its lower half."""
    rows = b"".join(b"\x00" + bytes(range(64)) for _ in range(24))
    return _png_chunks(_header(), png_chunk(b"IDAT", zlib.compress(rows)), END)


END = png_chunk(b"IEND", b"")
PNGS: dict[str, tuple[Callable[[], bytes], Reason | None]] = {
    "png with a bad header checksum": (lambda: flipped(png(), 30), CORRUPT),
    "png with a bad data checksum": (lambda: flipped(png(), len(png()) - 14), CORRUPT),
    "png with damaged data": (lambda: flipped(encoded(noisy(), "PNG"), 60), CORRUPT),
    "png of depth 3": (lambda: _png_chunks(_header(depth=3), _data(), END), CORRUPT),
    "png of colour type 5": (lambda: _png_chunks(_header(colour=5), _data(), END), CORRUPT),
    "png with a later compression": (
        lambda: _png_chunks(_header(64, 48, 8, 0, 9, 0, 0), _data(), END),
        CORRUPT,
    ),
    "png with filter 9": (lambda: _png_chunks(_header(), _data(filter_type=9), END), CORRUPT),
    "png without data": (lambda: _png_chunks(_header(), END), CORRUPT),
    "png without header": (lambda: _png_chunks(_data(), END), CORRUPT),
    "png that is only a signature": (lambda: PNG_MAGIC, CORRUPT),
    "png with an endless chunk": (
        lambda: _png_chunks(_header(), struct.pack(">I", 0x7FFFFFFF) + b"IDAT" + b"x"),
        CORRUPT,
    ),
    "png with too few rows": (lambda: png(rows=3), CORRUPT),
    "png with a nameless chunk": (
        lambda: _png_chunks(_header(), png_chunk(b"\x00\x01\x02\x03", b""), _data(), END),
        CORRUPT,
    ),
    "png without a palette": (lambda: _png_chunks(_header(colour=3), _data(), END), CORRUPT),
    "png with a changed pixel": (lambda: flipped(_stored(), len(_stored()) // 2), CORRUPT),
    "png with half of its rows": (_half, CORRUPT),
    "png without an end": (lambda: encoded(picture(), "PNG")[:-12], None),
    "png with 0 columns": (lambda: _png_chunks(_header(0, 48), _data(0), END), CORRUPT),
    "png with 0 rows": (lambda: _png_chunks(_header(64, 0), _data(64, 0), END), CORRUPT),
}


def _jpeg_without(marker: int) -> bytes:
    """A JPEG without its segments of one kind."""
    data = encoded(picture(), "JPEG")
    kept, position = data[:2], 2
    while data[position + 1] != 0xDA:
        size = 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if data[position + 1] != marker:
            kept += data[position : position + size]
        position += size
    return kept + data[position:]


def _patched(data: bytes, offset: int, patch: bytes) -> bytes:
    return data[:offset] + patch + data[offset + len(patch) :]


def _sof(data: bytes) -> int:
    """Where the frame header of a baseline JPEG starts."""
    return data.index(b"\xff\xc0")


def _jpeg_sized(width: int, height: int) -> bytes:
    data = encoded(picture(), "JPEG")
    return _patched(data, _sof(data) + 5, struct.pack(">HH", height, width))


OTHERS: dict[str, tuple[Callable[[], bytes], Reason]] = {
    "jpeg without quantisation": (partial(_jpeg_without, 0xDB), CORRUPT),
    "jpeg without a frame": (partial(_jpeg_without, 0xC0), CORRUPT),
    "jpeg that is only a marker": (lambda: b"\xff\xd8\xff\xe0", CORRUPT),
    "jpeg with 0 rows": (lambda: _jpeg_sized(64, 0), CORRUPT),
    "jpeg with 0 columns": (lambda: _jpeg_sized(0, 48), CORRUPT),
    "jpeg of 9 components": (
        lambda: _patched(encoded(picture(), "JPEG"), _sof(encoded(picture(), "JPEG")) + 9, b"\x09"),
        CORRUPT,
    ),
    "gif without frames": (lambda: encoded(picture("P"), "GIF")[:13] + b";", CORRUPT),
    "gif with a code size of 200": (lambda: _gif_code_size(200), CORRUPT),
    "bmp with 0 rows": (lambda: _patched(encoded(picture(), "BMP"), 22, bytes(4)), CORRUPT),
    "bmp of 77 bits": (lambda: _patched(encoded(picture(), "BMP"), 28, b"\x4d\x00"), CORRUPT),
    "bmp with compression 9": (lambda: _patched(encoded(picture(), "BMP"), 30, b"\x09"), CORRUPT),
    "bmp with its data elsewhere": (
        lambda: _patched(encoded(picture(), "BMP"), 10, b"\xff\xff\xff\x7f"),
        CORRUPT,
    ),
    "tiff with its directory elsewhere": (
        lambda: b"II*\x00\xff\xff\xff\x7f" + bytes(100),
        CORRUPT,
    ),
    "tiff without entries": (lambda: b"II*\x00\x08\x00\x00\x00" + bytes(100), CORRUPT),
    "big tiff cut short": (lambda: b"II+\x00\x08\x00\x00\x00" + bytes(8), CORRUPT),
    "webp without chunks": (lambda: b"RIFF\x04\x00\x00\x00WEBP", CORRUPT),
    "webp with a chunk of another kind": (
        lambda: b"RIFF\x24\x00\x00\x00WEBPJUNK\x18\x00\x00\x00" + bytes(24),
        CORRUPT,
    ),
    "webp with damaged data": (lambda: flipped(encoded(noisy(), "WEBP"), 23), CORRUPT),
    "one pixel": (lambda: encoded(Image.new("RGB", (1, 1)), "PNG"), SMALL),
    "fifteen rows": (lambda: encoded(Image.new("RGB", (400, 15)), "JPEG"), SMALL),
}


def _gif_code_size(value: int) -> bytes:
    data = encoded(noisy().convert("P"), "GIF")
    start = data.index(b",", 13 + 768)
    return _patched(data, start + 10, bytes([value]))


CASES = [
    *_truncated(),
    *(Case(name, make, reason) for name, (make, reason) in PNGS.items()),
    *(Case(name, make, reason) for name, (make, reason) in OTHERS.items()),
]
