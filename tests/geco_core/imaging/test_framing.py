"""Framing and the image processors, on images whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from geco_core.config.models import CodecConfig, MultiViewConfig, VisionTowerConfig
from geco_core.errors import BadItem, Reason
from geco_core.imaging.framing import (
    CLIP_MEAN,
    CLIP_STD,
    composite,
    condition_pixels,
    condition_pixels_from_tensor,
    frame_condition,
    processor_pixels,
    resize_foreground,
)

CONFIG = MultiViewConfig(condition_size=32, vision=VisionTowerConfig(image_size=32))


def rectangle(height: int, width: int, box: tuple[int, int, int, int]) -> np.ndarray:
    """Transparent image with an opaque, noisy rectangle; box is (top, bottom, left, right)."""
    rgba = np.zeros((height, width, 4), np.uint8)
    top, bottom, left, right = box
    values = np.random.default_rng(0).integers(1, 255, (bottom - top, right - left, 3))
    rgba[top:bottom, left:right, :3] = values
    rgba[top:bottom, left:right, 3] = 255
    return rgba


def test_the_foreground_is_copied_centred_and_padded() -> None:
    rgba = rectangle(40, 50, (5, 26, 10, 21))  # 21 x 11, so 20 x 10 after the lost last row, column
    framed = resize_foreground(rgba, 0.8)
    assert framed.shape == (25, 25, 4)
    opaque = np.argwhere(framed[..., 3] > 0)
    assert opaque.min(0).tolist() == [2, 7]
    assert (opaque.max(0) + 1).tolist() == [22, 17]
    np.testing.assert_array_equal(framed[2:22, 7:17], rgba[5:25, 10:20])


@pytest.mark.parametrize("ratio", [0.5, 0.85, 1.0])
def test_the_longer_side_spans_the_ratio(ratio: float) -> None:
    framed = resize_foreground(rectangle(90, 90, (3, 54, 4, 85)), ratio)
    side = framed.shape[0]
    assert framed.shape == (side, side, 4)
    assert side == int(80 / ratio)


@pytest.mark.parametrize("box", [(0, 0, 0, 0), (4, 5, 4, 9), (4, 9, 4, 5)])
def test_an_empty_foreground_is_a_bad_item(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(BadItem) as caught:
        resize_foreground(rectangle(16, 16, box), 0.85)
    assert caught.value.reason is Reason.EMPTY_FOREGROUND


def test_compositing_blends_by_alpha() -> None:
    rgba = np.array([[[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 128]]], np.uint8)
    white, gray = composite(rgba, "white"), composite(rgba, "gray")
    assert white[0, 0].tolist() == gray[0, 0].tolist() == [200, 100, 0]
    assert white[0, 1].tolist() == [255, 255, 255]
    assert gray[0, 1].tolist() == [127, 127, 127]
    np.testing.assert_allclose(white[0, 2], [227, 177, 127], atol=1)


def test_frame_condition_follows_the_configured_background() -> None:
    rgba = rectangle(20, 20, (5, 15, 5, 15))
    assert frame_condition(rgba, CONFIG)[-1, -1].tolist() == [255] * 3
    gray = MultiViewConfig(background="gray")
    assert frame_condition(rgba, gray)[-1, -1].tolist() == [127] * 3


def test_processors_without_a_resize_only_normalise() -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    vae, clip = condition_pixels([rgb], CONFIG)
    unit = torch.from_numpy(rgb).permute(2, 0, 1).double() / 255
    mean, std = (torch.tensor(x, dtype=torch.float64)[:, None, None] for x in (CLIP_MEAN, CLIP_STD))
    torch.testing.assert_close(vae[0].double(), (unit - 0.5) / 0.8, rtol=0, atol=1e-6)
    torch.testing.assert_close(clip[0].double(), (unit - mean) / std, rtol=0, atol=1e-6)
    again = condition_pixels_from_tensor(unit[None].float(), CONFIG)
    torch.testing.assert_close(again[0], vae, rtol=0, atol=1e-6)
    torch.testing.assert_close(again[1], clip, rtol=0, atol=1e-6)


def test_a_wide_image_is_resized_by_its_short_edge_and_cropped_in_the_middle() -> None:
    columns = np.arange(80, dtype=np.uint8) * 3
    rgb = np.broadcast_to(columns[None, :, None], (40, 80, 3)).copy()
    found = processor_pixels(rgb, 20, Image.Resampling.BILINEAR, (0.0,) * 3, (1.0,) * 3) * 255
    assert found.shape == (3, 20, 20)
    # 40 columns after the resize; columns 10..29 are kept, column i covers source 2i and 2i + 1.
    np.testing.assert_allclose(found[0, 10], (2 * np.arange(10, 30) + 0.5) * 3, atol=1.0)


def test_sizes_and_filters_come_from_the_configuration() -> None:
    config = MultiViewConfig(
        codec=CodecConfig(condition_mean=0.5, condition_std=0.5),
        condition_size=24,
        vision=VisionTowerConfig(image_size=14),
    )
    rgb = np.random.default_rng(2).integers(0, 256, (50, 50, 3), dtype=np.uint8)
    vae, clip = condition_pixels([rgb, rgb[::-1].copy()], config)
    assert vae.shape == (2, 3, 24, 24)
    assert clip.shape == (2, 3, 14, 14)
    assert float(vae.abs().max()) <= 1.0
    torch.testing.assert_close(vae[1], vae[0].flip(1), rtol=0, atol=2.5 / 255)
