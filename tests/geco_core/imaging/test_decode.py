from __future__ import annotations

import hashlib
import io
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile

from geco_core.errors import BadItem, Reason
from geco_core.imaging.decode import DecodeLimits, decode_image
from tests.geco_core.imaging import bad_images
from tests.geco_core.imaging.bad_images import (
    CASES,
    Case,
    encoded,
    picture,
    png_header,
    rotated_by_exif,
)

REFUSED = {name: case for name, case in CASES.items() if case.reason is not None}
ACCEPTED = {name: case for name, case in CASES.items() if case.reason is None}


@pytest.mark.parametrize("case", REFUSED.values(), ids=list(REFUSED))
def test_refused(case: Case) -> None:
    with pytest.raises(BadItem) as caught:
        decode_image(case.make(), item_id="row-7")
    error = caught.value
    assert error.reason is case.reason
    assert error.item_id == "row-7"
    assert error.stage == "prepare"
    assert error.remedy
    assert "\n" not in error.message


@pytest.mark.parametrize("case", ACCEPTED.values(), ids=list(ACCEPTED))
def test_accepted(case: Case) -> None:
    data = case.make()
    decoded = decode_image(data)
    assert decoded.rgba.dtype == np.uint8
    assert decoded.rgba.shape == (48, 64, 4)
    assert decoded.sha256 == hashlib.sha256(data).hexdigest()
    assert any(case.note in note for note in decoded.notes) if case.note else decoded.notes == ()
    if case.center is not None:
        difference = np.abs(decoded.rgba[24, 32].astype(int) - case.center)
        assert difference.max() <= case.tolerance, decoded.rgba[24, 32]


def test_bombs_are_refused_without_allocating_their_pixels() -> None:
    tracemalloc.start()
    for width, height in ((20_000, 20_000), (2**31 - 1, 2**31 - 1), (16_384, 3_907)):
        with pytest.raises(BadItem):
            decode_image(png_header(width, height, rows=0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_500_000


def test_byte_cap() -> None:
    data = encoded(picture(), "PNG")
    with pytest.raises(BadItem) as caught:
        decode_image(data, limits=DecodeLimits(max_bytes=len(data) - 1))
    assert caught.value.reason is Reason.TOO_MANY_BYTES
    decode_image(data, limits=DecodeLimits(max_bytes=len(data)))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "corner"),
    [(1, "tl"), (2, "tr"), (3, "br"), (4, "bl"), (5, "tl"), (6, "tr"), (7, "br"), (8, "bl")],
)
def test_exif_orientation_puts_the_image_upright(kind: str, orientation: int, corner: str) -> None:
    rgba = decode_image(rotated_by_exif(orientation, kind)).rgba
    assert rgba.shape[:2] == ((48, 64) if orientation < 5 else (64, 48))
    height, width = rgba.shape[:2]
    row = height // 4 if corner[0] == "t" else 3 * height // 4
    column = width // 4 if corner[1] == "l" else 3 * width // 4
    assert rgba[row, column, 0] > 150
    assert rgba[height - row, width - column, 0] < 100


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    rgba = decode_image(encoded(Image.fromarray(values), "PNG")).rgba
    np.testing.assert_array_equal(rgba[..., 0], np.rint(values / 257.0).astype(np.uint8))


def test_another_tone_curve_changes_the_colours() -> None:
    plain = decode_image(encoded(picture(), "PNG")).rgba
    decoded = decode_image(encoded(picture(), "PNG", icc_profile=_linear_profile()))
    assert decoded.notes == ("converted to sRGB by the embedded ICC profile",)
    # Linear samples read as sRGB are too dark: the conversion lightens mid-tones.
    assert (decoded.rgba[24, 32, 1:3] > plain[24, 32, 1:3]).all()


def _linear_profile() -> bytes:
    """The sRGB profile with its tone curves replaced by the identity and another description."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(data[128:132], "big")
    for entry in range(count):
        start = 132 + 12 * entry
        tag = bytes(data[start : start + 4])
        offset = int.from_bytes(data[start + 4 : start + 8], "big")
        if tag in (b"rTRC", b"gTRC", b"bTRC"):
            data[offset : offset + 12] = b"curv" + bytes(8)  # no points: identity
            data[start + 8 : start + 12] = (12).to_bytes(4, "big")
    return bytes(data).replace("sRGB".encode("utf-16-be"), "LINE".encode("utf-16-be"))


def test_large_images_are_scaled_down_with_a_note() -> None:
    data = encoded(picture(size=(400, 100)), "PNG")
    decoded = decode_image(data, limits=DecodeLimits(work_side=200))
    assert decoded.rgba.shape == (50, 200, 4)
    assert decoded.notes == ("scaled down from 400x100 to 200x50",)
    with pytest.raises(BadItem) as caught:
        decode_image(data, limits=DecodeLimits(work_side=40))
    assert caught.value.reason is Reason.IMAGE_TOO_SMALL


def test_scaling_does_not_bleed_hidden_colours() -> None:
    rgba = np.zeros((64, 64, 4), dtype=np.uint8)
    rgba[..., :3] = (255, 0, 255)
    rgba[16:48, 15:49] = (0, 200, 0, 255)
    decoded = decode_image(encoded(Image.fromarray(rgba), "PNG"), limits=DecodeLimits(work_side=32))
    visible = decoded.rgba[decoded.rgba[..., 3] > 0]
    assert visible[:, 0].max() == 0


def test_global_pillow_state_is_neither_read_nor_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    monkeypatch.setattr(Image, "OPEN", {})
    monkeypatch.setattr(Image, "ID", [])
    assert decode_image(_PNG).rgba.shape == (48, 64, 4)
    assert Image.MAX_IMAGE_PIXELS == 10
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


_PNG = encoded(picture(), "PNG")


def test_concurrent_decoding_gives_the_same_pixels() -> None:
    files = [case.make() for case in ACCEPTED.values()]
    expected = [decode_image(data).rgba.tobytes() for data in files]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            results = pool.map(lambda data: decode_image(data).rgba.tobytes(), files)
            assert list(results) == expected


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_mutated_files_either_decode_or_are_refused(kind: str) -> None:
    rng = np.random.default_rng(0)
    sound = np.frombuffer(
        encoded(bad_images.picture("P" if kind == "GIF" else "RGB"), kind), dtype=np.uint8
    )
    refused = 0
    for _ in range(150):
        broken = sound.copy()
        reach = 64 if rng.random() < 0.5 else len(broken)  # headers matter most
        where = rng.integers(0, reach, size=rng.integers(1, 12))
        broken[where] = rng.integers(0, 256, size=len(where))
        try:
            decoded = decode_image(broken.tobytes())
        except BadItem:
            refused += 1
        else:
            assert decoded.rgba.ndim == 3
    assert refused > 5


def test_reading_does_not_depend_on_a_file_name(tmp_path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(_PNG)
    np.testing.assert_array_equal(
        decode_image(path.read_bytes()).rgba,
        np.asarray(Image.open(io.BytesIO(_PNG)).convert("RGBA")),
    )
