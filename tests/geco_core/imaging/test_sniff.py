from __future__ import annotations

import pytest

from geco_core.imaging.sniff import describe, sniff, webp_size
from tests.geco_core.imaging.bad_images import encoded, picture, webp_header


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WebP", "GIF", "BMP", "TIFF"])
def test_every_format_is_known_by_its_content(kind: str) -> None:
    assert sniff(encoded(picture(), kind)) == kind


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"\x00\x00\x00\x20ftypavif\x00\x00", "AVIF"),
        (b"\x00\x00\x00\x20ftypheic\x00\x00", "HEIC"),
        (b"%PDF-1.7", "PDF"),
        (b"  <!doctype html>", "HTML"),
        (b"hello", "text"),
        (b"\x01\x02\x03\x04\x05", "01 02"),
    ],
)
def test_foreign_content_is_named(data: bytes, words: str) -> None:
    assert sniff(data) is None
    assert words in describe(data)


@pytest.mark.parametrize("lossless", [False, True])
def test_webp_size_before_opening(lossless: bool) -> None:
    assert webp_size(encoded(picture(), "WEBP", lossless=lossless)) == (64, 48)
    assert webp_size(webp_header(1234, 567)) == (1234, 567)
    assert webp_size(b"RIFF\x00\x00\x00\x00WEBP") is None
