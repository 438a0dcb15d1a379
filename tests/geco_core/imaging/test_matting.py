from __future__ import annotations

import numpy as np
import pytest

from geco_core.errors import BadItem, ConfigError, Reason
from geco_core.imaging.decode import Decoded
from geco_core.imaging.matting import border_color, foreground_rgba
from geco_core.imaging.matting_network import network_missing


def _decoded(rgb: np.ndarray, alpha: np.ndarray | int = 255) -> Decoded:
    rgba = np.empty((*rgb.shape[:2], 4), dtype=np.uint8)
    rgba[..., :3], rgba[..., 3] = rgb, alpha
    return Decoded(rgba, ("noted before",), "0" * 64)


def _disc(
    backdrop: tuple[int, int, int] = (255, 255, 255), blur: float = 1.5
) -> tuple[np.ndarray, np.ndarray]:
    """A dark red disc on a backdrop with an anti-aliased edge, and its true coverage."""
    y, x = np.mgrid[:96, :96]
    radius = np.hypot(x - 48, y - 48)
    coverage = np.clip((30 - radius) / blur + 0.5, 0, 1)
    rgb = coverage[..., None] * (140, 20, 30) + (1 - coverage[..., None]) * backdrop
    return np.rint(rgb).astype(np.uint8), coverage


@pytest.mark.parametrize("backdrop", [(255, 255, 255), (12, 200, 80), (128, 128, 128)])
def test_a_uniform_backdrop_is_keyed_out_softly(backdrop: tuple[int, int, int]) -> None:
    rgb, coverage = _disc(backdrop)
    rng = np.random.default_rng(0)
    noisy = np.clip(rgb.astype(int) + rng.integers(-4, 5, rgb.shape), 0, 255).astype(np.uint8)
    rgba, notes = foreground_rgba(_decoded(noisy), method="border")
    assert len(notes) == 1
    assert notes[0].startswith("background keyed out: uniform #")
    assert (rgba[coverage == 0][:, 3] == 0).all()
    assert (rgba[coverage == 1][:, 3] == 255).all()
    edge = (coverage > 0.4) & (rgba[..., 3] > 0)
    # No halo: the backdrop's share is gone from the colour of edge pixels.
    assert np.abs(rgba[edge][:, :3].astype(int) - (140, 20, 30)).mean() < 25


def test_an_enclosed_field_of_backdrop_colour_stays() -> None:
    rgb, _ = _disc()
    rgb[44:52, 44:52] = 255
    rgba, _ = foreground_rgba(_decoded(rgb))
    assert (rgba[44:52, 44:52, 3] == 255).all()


def test_real_alpha_is_kept_as_it_is() -> None:
    rgb, coverage = _disc()
    alpha = np.rint(coverage * 255).astype(np.uint8)
    decoded = _decoded(rgb, alpha)
    for strict in (False, True):
        rgba, notes = foreground_rgba(decoded, require_alpha=strict)
        np.testing.assert_array_equal(rgba, decoded.rgba)
        assert notes == ()


@pytest.mark.parametrize("alpha", [0, 3])
def test_transparent_images_have_no_foreground(alpha: int) -> None:
    rgb, _ = _disc()
    with pytest.raises(BadItem) as caught:
        foreground_rgba(_decoded(rgb, alpha), item_id="t")
    assert caught.value.reason is Reason.EMPTY_FOREGROUND
    assert caught.value.item_id == "t"


def test_one_flat_colour_has_no_foreground() -> None:
    with pytest.raises(BadItem) as caught:
        foreground_rgba(_decoded(np.full((64, 64, 3), 250, dtype=np.uint8)))
    assert caught.value.reason is Reason.EMPTY_FOREGROUND


def test_a_busy_background_is_kept_and_said() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert border_color(_decoded(rgb).rgba) is None
    rgba, notes = foreground_rgba(_decoded(rgb), method="border")
    assert (rgba[..., 3] == 255).all()
    assert "background kept" in notes[0]


def test_strict_mode_refuses_opaque_images() -> None:
    rgb, _ = _disc()
    with pytest.raises(BadItem) as caught:
        foreground_rgba(_decoded(rgb), require_alpha=True)
    assert caught.value.reason is Reason.UNSUPPORTED_INPUT


def test_keep_takes_the_whole_frame() -> None:
    rgb, _ = _disc()
    rgba, notes = foreground_rgba(_decoded(rgb), method="keep")
    assert (rgba[..., 3] == 255).all()
    assert "kept" in notes[0]


@pytest.mark.skipif(network_missing() is None, reason="rembg and its weights are installed")
def test_asking_for_a_missing_network_says_what_is_missing() -> None:
    rgb, _ = _disc()
    with pytest.raises(ConfigError, match="rembg"):
        foreground_rgba(_decoded(rgb), method="network")
