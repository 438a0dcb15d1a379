"""Deep samples are scaled band by band, and the bands do not show."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from geco_core.imaging import convert
from geco_core.imaging.convert import to_srgb_rgba


def samples(kind: str) -> np.ndarray:
    rng = np.random.default_rng(5)
    if kind == "sixteen":
        return rng.integers(0, 65536, (37, 11)).astype(np.uint16)
    if kind == "integers":
        return rng.integers(-70_000, 90_000, (37, 11)).astype(np.int32)
    values = rng.random((37, 11)).astype(np.float32)
    if kind == "holes":
        values[rng.random((37, 11)) < 0.3] = np.nan
        values[36, 10] = np.inf
    return values if kind != "wide" else values * 400 - 100


@pytest.mark.parametrize("kind", ["sixteen", "integers", "floats", "holes", "wide"])
def test_bands_do_not_show(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.fromarray(samples(kind))
    whole_notes: list[str] = []
    whole = np.asarray(to_srgb_rgba(image.copy(), whole_notes))
    monkeypatch.setattr(convert, "_BAND_SAMPLES", 16)
    notes: list[str] = []
    assert np.array_equal(np.asarray(to_srgb_rgba(image.copy(), notes)), whole)
    assert notes == whole_notes


def test_values_are_scaled_and_holes_become_the_lowest_value() -> None:
    values = np.array([[0.25, np.nan], [0.5, 1.0]], dtype=np.float32)
    notes: list[str] = []
    rgba = np.asarray(to_srgb_rgba(Image.fromarray(values), notes))
    assert rgba[..., 0].tolist() == [[64, 64], [128, 255]]
    assert notes == ["samples that are not finite were set to the lowest value"]


def test_samples_beyond_the_usual_range_are_stretched() -> None:
    notes: list[str] = []
    image = Image.fromarray(np.array([[-1000, 0], [500, 1000]], dtype=np.int32))
    assert np.asarray(to_srgb_rgba(image, notes))[..., 0].tolist() == [[0, 128], [191, 255]]
    assert "between -1000 and 1000" in notes[0]
