"""Any Pillow mode to 8-bit sRGB with straight alpha.

Palettes, 16-bit and float samples, CMYK, Lab, ICC profiles.

What differs from `Image.convert("RGBA")`: samples deeper than 8 bits are scaled instead of clipped,
and an embedded ICC profile is honoured. Values without an agreed range (32-bit integers, floats
beyond 1) are stretched to their own range, with a note.

Legend: H, W pixels.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, ImageCms

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_BAND_SAMPLES = 1 << 20
_ICC_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab"}
_ICC_ERRORS = (ImageCms.PyCMSError, OSError, ValueError, TypeError, KeyError)

Notes = list[str]


def to_srgb_rgba(image: Image.Image, notes: Notes) -> Image.Image:
    """A loaded image as mode RGBA; remarks are appended to `notes`.

    Raises:
        ValueError: a mode without a conversion.
    """
    profile = image.info.get("icc_profile")
    if image.mode in (*_SIXTEEN_BIT, "I", "F"):
        image = _deep_grey(image, notes)
    color, alpha = _split_alpha(image)
    if profile:
        color = _through_profile(color, profile, notes)
    if color.mode == "LAB":
        color = _converted(color, ImageCms.createProfile("LAB"))
    if color.mode == "CMYK":
        notes.append("CMYK without a usable profile: converted approximately")
    color = color.convert("RGB")
    if alpha is None:
        color.putalpha(255)
    else:
        color.putalpha(alpha)
    return color


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colour in a mode without alpha (palettes resolved), and the alpha channel (L) if any."""
    if image.mode == "P" or "transparency" in image.info:
        if image.mode in ("P", "PA", "1", "L", "RGB"):
            has_alpha = image.has_transparency_data
            image = image.convert("RGBA" if has_alpha else "RGB")
    elif image.mode == "PA":
        image = image.convert("RGBA")
    if image.mode in ("RGBa", "La"):
        image = image.convert(image.mode[:-1] + "A")
    if image.mode in ("RGBA", "LA"):
        return image.convert(image.mode[:-1]), image.getchannel("A")
    if image.mode == "1":
        return image.convert("L"), None
    if image.mode in ("RGBX", "YCbCr", "HSV"):
        return image.convert("RGB"), None
    return image, None


def _deep_grey(image: Image.Image, notes: Notes) -> Image.Image:
    """Grey samples deeper than 8 bits, scaled to mode L.

    Mode LA where one value is declared transparent. Works in bands: in one piece, the doubles of a
    large image would take gigabytes.
    """
    values_HW = np.asarray(image)
    deep = image.mode in _SIXTEEN_BIT
    lowest, zero, full = (0.0, 0.0, 65535.0) if deep else _range(values_HW, image.mode, notes)
    grey_HW = np.empty(values_HW.shape, dtype=np.uint8)
    for rows in _bands(values_HW.shape):
        band = values_HW[rows].astype(np.float64)
        band[~np.isfinite(band)] = lowest
        grey_HW[rows] = np.rint(np.clip((band - zero) / full, 0.0, 1.0) * 255.0)
    grey = Image.fromarray(grey_HW)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int) and deep:
        grey.putalpha(Image.fromarray(np.where(values_HW == transparent, 0, 255).astype(np.uint8)))
    return grey


def _range(values_HW: np.ndarray, mode: str, notes: Notes) -> tuple[float, float, float]:
    """Lowest value, and start and extent of the scale.

    0 to 1 for floats within, 0 to 65535 for integers that fit, else their own range.
    """
    lows, highs, finite = [], [], True
    for rows in _bands(values_HW.shape):
        band = values_HW[rows]
        finite_band = np.isfinite(band)
        finite = finite and bool(finite_band.all())
        if finite_band.any():
            lows.append(float(band[finite_band].min()))
            highs.append(float(band[finite_band].max()))
    if not finite:
        notes.append("samples that are not finite were set to the lowest value")
    low, high = (min(lows), max(highs)) if lows else (0.0, 0.0)
    usual = 1.0 if mode == "F" else 65535.0
    if low >= 0.0 and high <= usual:
        return low, 0.0, usual
    notes.append(f"samples between {low:g} and {high:g} were stretched to the full range")
    return low, low, max(high - low, 1e-12)


def _bands(shape: tuple[int, ...]) -> list[slice]:
    """Slices of rows of about a million samples."""
    step = max(1, _BAND_SAMPLES // max(1, shape[1]))
    return [slice(start, start + step) for start in range(0, shape[0], step)]


def _through_profile(color: Image.Image, profile: bytes, notes: Notes) -> Image.Image:
    """The colours in sRGB where the embedded profile fits them; else unchanged, with a note."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        described: Any = source.profile
        space = described.xcolor_space.strip()
        if space != _ICC_SPACES.get(color.mode):
            notes.append(f"ICC profile ignored: made for {space}, the image is {color.mode}")
            return color
        if color.mode == "RGB" and "sRGB" in (described.profile_description or ""):
            return color
        converted = _converted(color, source)
    except _ICC_ERRORS as error:
        notes.append(f"ICC profile ignored: {error or type(error).__name__}")
        return color
    notes.append("converted to sRGB by the embedded ICC profile")
    return converted


def _converted(color: Image.Image, source: Any) -> Image.Image:
    result = ImageCms.profileToProfile(
        color, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    if result is None:
        raise ValueError("the colour transform gave no image")
    return result
