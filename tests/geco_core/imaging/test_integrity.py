"""Damage that the image readers overlook is found; sound files of every kind pass."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from geco_core.imaging.integrity import MAX_SCANS, check_integrity, count_scans


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()


def noisy(width: int = 37, height: int = 23) -> Image.Image:
    values = np.random.default_rng(1).integers(0, 256, (height, width, 4), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (37, 23), (8, 1), (300, 200)])
def test_sound_pngs_pass(mode: str, size: tuple[int, int]) -> None:
    image = noisy(*size)
    if mode == "I;16":
        image = Image.fromarray(np.zeros((size[1], size[0]), dtype=np.uint16))
    else:
        image = image.convert("L").convert(mode) if mode in ("1", "LA") else image.convert(mode)
    check_integrity(encoded(image, "PNG"), "PNG")


def test_every_changed_byte_of_the_pixel_data_is_found() -> None:
    data = encoded(noisy().convert("RGB"), "PNG")
    start = data.index(b"IDAT")
    for position in range(start + 4, len(data) - 12, 61):
        broken = bytearray(data)
        broken[position] ^= 1
        with pytest.raises(ValueError, match="checksum"):
            check_integrity(bytes(broken), "PNG")


def test_animations_are_judged_by_their_first_frame() -> None:
    frames = [noisy().convert("RGB") for _ in range(3)]
    data = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    check_integrity(data, "PNG")


def test_missing_rows_are_found() -> None:
    data = encoded(noisy().convert("L"), "PNG", compress_level=0)
    start = data.index(b"IDAT")
    rows = zlib.compress(bytes(38 * 10))
    chunk = b"IDAT" + rows
    whole = data[: start - 4] + len(rows).to_bytes(4, "big") + chunk
    whole += zlib.crc32(chunk).to_bytes(4, "big") + bytes(4) + b"IEND" + bytes(4)
    with pytest.raises(ValueError, match="494 bytes of pixel rows are missing"):
        check_integrity(whole, "PNG")


def test_scans_are_counted_up_to_the_end_of_the_image() -> None:
    plain = encoded(noisy().convert("RGB"), "JPEG")
    assert count_scans(plain) == 1
    assert count_scans(plain + b"\xff\xda" * 500) == 1
    commented = encoded(noisy().convert("RGB"), "JPEG", comment=b"\xff\xda" * 500)
    assert count_scans(commented) == 1
    assert 4 < count_scans(encoded(noisy().convert("RGB"), "JPEG", progressive=True)) < 20
    assert count_scans(b"\xff\xd8\xff") == 0


def test_files_of_many_scans_are_refused() -> None:
    data = encoded(noisy().convert("RGB"), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    many = data[:-2] + data[last:-2] * MAX_SCANS + data[-2:]
    with pytest.raises(ValueError, match="scans, at most 100"):
        check_integrity(many, "JPEG")


def test_other_formats_are_left_to_their_readers() -> None:
    check_integrity(b"anything", "GIF")
