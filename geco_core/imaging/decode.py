"""Untrusted bytes to 8-bit sRGB RGBA, or a typed refusal.

The order matters: byte cap, format by content, size by header, and only then pixels, so that a few
kilobytes can not ask for gigabytes. Nothing global is read or changed; decoding is thread-safe and
a pure function of the bytes.

Legend: H, W pixels.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from geco_core.errors import BadItem, Reason
from geco_core.imaging.convert import to_srgb_rgba
from geco_core.imaging.integrity import check_integrity
from geco_core.imaging.sniff import describe, open_header, sniff, webp_size

STAGE = "prepare"

_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's readers raise on hostile input, found by mutating files of every format.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    RuntimeError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class DecodeLimits:
    """What is accepted.

    Attributes:
        max_bytes: of the encoded file.
        max_pixels: width times height according to the header.
        max_side: longer side according to the header, in pixels.
        min_side: shorter side, in pixels.
        work_side: images with a longer side are scaled down to it after decoding, with a note.
            Bounds the memory of everything downstream, where a strip of 16384 x 16 would be padded
            to a square.
    """

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 64_000_000
    max_side: int = 16_384
    min_side: int = 16
    work_side: int = 4096


@dataclass(frozen=True)
class Decoded:
    """A decoded image.

    Attributes:
        rgba: uint8 [H, W, 4], sRGB, straight alpha, upright, row 0 at the top.
        notes: remarks for the output row, e.g. "animated: first frame used".
        sha256: hex digest of the encoded bytes.
    """

    rgba: np.ndarray
    notes: tuple[str, ...]
    sha256: str


DEFAULT_LIMITS = DecodeLimits()


def decode_image(
    data: bytes, *, item_id: str | None = None, limits: DecodeLimits = DEFAULT_LIMITS
) -> Decoded:
    """Decode PNG, JPEG, WebP, GIF, BMP or TIFF bytes, whatever the file was called.

    Palettes, grey, 16-bit, float and CMYK become 8-bit RGBA; an ICC profile is converted to sRGB;
    the EXIF orientation is applied; of animations and multi-page files the first frame is taken.

    Raises:
        BadItem: `TOO_MANY_BYTES`, `NOT_AN_IMAGE`, `CORRUPT_IMAGE` (truncated or damaged),
            `IMAGE_TOO_LARGE`, `IMAGE_TOO_SMALL`.
    """
    if len(data) > limits.max_bytes:
        raise _refusal(
            f"{len(data)} bytes, the limit is {limits.max_bytes}",
            Reason.TOO_MANY_BYTES,
            item_id,
            "compress the image",
        )
    kind = sniff(data)
    if kind is None:
        raise _refusal(
            f"expected an image, found {describe(data)}",
            Reason.NOT_AN_IMAGE,
            item_id,
            "supply PNG, JPEG, WebP, GIF, BMP or TIFF",
        )
    image = _opened(data, kind, item_id, limits)
    notes: list[str] = []
    try:
        check_integrity(data, kind)
        animated = bool(getattr(image, "is_animated", False))
        image.load()
        upright = _upright(image, notes)
        rgba_image = to_srgb_rgba(upright, notes)
    except _DECODER_ERRORS as error:
        raise _corrupt(kind, error, item_id) from error
    if animated:
        notes.append(
            "multi-page: first page used" if kind == "TIFF" else "animated: first frame used"
        )
    rgba_image = _bounded(rgba_image, limits, notes)
    _check_small(rgba_image.size, limits, item_id)
    return Decoded(np.array(rgba_image), tuple(notes), hashlib.sha256(data).hexdigest())


def _opened(data: bytes, kind: str, item_id: str | None, limits: DecodeLimits) -> ImageFile:
    """The image with its header read and its size accepted."""
    size = webp_size(data) if kind == "WebP" else None
    if size is not None:
        _check_large(size, limits, item_id)
    try:
        image = open_header(data, kind)
    except Image.DecompressionBombError as error:
        raise _refusal(
            f"the {kind} file claims more pixels than any limit allows",
            Reason.IMAGE_TOO_LARGE,
            item_id,
            _SHRINK,
        ) from error
    except _DECODER_ERRORS as error:
        raise _corrupt(kind, error, item_id) from error
    _check_large(image.size, limits, item_id)
    _check_small(image.size, limits, item_id)
    return image


def _upright(image: ImageFile, notes: list[str]) -> Image.Image:
    """The image turned as its EXIF orientation asks; damaged EXIF data is noted and ignored."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except _DECODER_ERRORS as error:
        notes.append(f"EXIF ignored: {type(error).__name__}")
        return image
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _bounded(image: Image.Image, limits: DecodeLimits, notes: list[str]) -> Image.Image:
    """The image within `limits.work_side`; Pillow resizes RGBA with premultiplied alpha."""
    width, height = image.size
    longest = max(width, height)
    if longest <= limits.work_side:
        return image
    scale = limits.work_side / longest
    size = max(1, round(width * scale)), max(1, round(height * scale))
    notes.append(f"scaled down from {width}x{height} to {size[0]}x{size[1]}")
    return image.resize(size, Image.Resampling.BOX)


_SHRINK = "scale the image down; 4096 pixels per side are more than any system uses"


def _check_large(size: tuple[int, int], limits: DecodeLimits, item_id: str | None) -> None:
    width, height = size
    if width * height > limits.max_pixels or max(size) > limits.max_side:
        raise _refusal(
            f"{width}x{height} pixels, the limits are {limits.max_pixels} in all"
            f" and {limits.max_side} per side",
            Reason.IMAGE_TOO_LARGE,
            item_id,
            _SHRINK,
        )


def _check_small(size: tuple[int, int], limits: DecodeLimits, item_id: str | None) -> None:
    if min(size) < limits.min_side:
        raise _refusal(
            f"{size[0]}x{size[1]} pixels, at least {limits.min_side} per side are needed",
            Reason.IMAGE_TOO_SMALL,
            item_id,
            "supply a larger image",
        )


def _corrupt(kind: str, error: Exception, item_id: str | None) -> BadItem:
    detail = " ".join(str(error).split())[:160] or type(error).__name__
    return _refusal(
        f"the {kind} data is truncated or damaged: {detail}",
        Reason.CORRUPT_IMAGE,
        item_id,
        "fetch or export the image again",
    )


def _refusal(message: str, reason: Reason, item_id: str | None, remedy: str) -> BadItem:
    return BadItem(message, reason=reason, remedy=remedy, item_id=item_id, stage=STAGE)
