"""What kind of image the bytes are, judged by content alone, and how large they claim to be.

File names and declared media types are not looked at. A format is opened through its own Pillow
class instead of `Image.open`: the global pixel limit, the global format registry and its warnings
stay out of the picture, so that concurrent decoders can not disturb each other.
"""

from __future__ import annotations

import io
import struct

from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

READERS: dict[str, type[ImageFile]] = {
    "PNG": PngImageFile,
    "JPEG": JpegImageFile,
    "WebP": WebPImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
}

_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
_FOREIGN = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"glTF", "a GLB mesh"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML document"),
    (b"<!DOCTYPE", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"8BPS", "a Photoshop file"),
)
_ISO_BRANDS = {
    b"avif": "an AVIF image",
    b"heic": "a HEIC image",
    b"heix": "a HEIC image",
    b"mif1": "a HEIC image",
}


def sniff(data: bytes) -> str | None:
    """A key of `READERS`, or None when the bytes start like no supported format."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if data.startswith((b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")):
        return "TIFF"
    return None


def describe(data: bytes) -> str:
    """Words for bytes `sniff` does not know, for an error message."""
    if not data:
        return "an empty file"
    start = data[:64].lstrip()
    for magic, words in _FOREIGN:
        if start[: len(magic)].lower() == magic.lower():
            return words
    if data[4:8] == b"ftyp":
        return _ISO_BRANDS.get(data[8:12], "an ISO media file")
    sample = data[:512]
    printable = sum(byte in b"\t\n\r" or 32 <= byte < 127 for byte in sample)
    return (
        "text"
        if printable > 0.95 * len(sample)
        else f"unknown data starting with {data[:8].hex(' ')}"
    )


def open_header(data: bytes, kind: str) -> ImageFile:
    """The image with its header read and no pixels decoded.

    Raises whatever the format's reader raises.
    """
    return READERS[kind](io.BytesIO(data))


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height from a WebP header, or None when it is cut short or unknown.

    Pillow's reader allocates the canvas on opening, so the size has to be known before.
    """
    chunk = data[12:16]
    if len(data) < 30:
        return None
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if chunk == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None
