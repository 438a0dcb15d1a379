"""CRM's preparation: sizes, offsets, backgrounds, and the pixels encoders read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geco_core.imaging.content import (
    codec_pixels,
    drop_alpha,
    expand_to_square,
    prepare_image,
    resize_content,
    vision_pixels,
)
from geco_core.imaging.framing import CLIP_MEAN, CLIP_STD


def cut_out(height: int, width: int) -> np.ndarray:
    rgba = np.full((height, width, 4), (250, 10, 60, 0), np.uint8)
    rgba[2:-2, 2:-2] = (250, 10, 60, 255)
    return rgba


def test_a_wide_picture_is_squared_over_grey() -> None:
    found = prepare_image(cut_out(7, 12))
    assert found.shape == (12, 12, 3)
    assert found[0].tolist() == [[127, 127, 127]] * 12  # hidden colour does not show
    assert found[2 + 2, 2].tolist() == [250, 10, 60]  # padding above is (12 - 7) // 2
    assert prepare_image(cut_out(7, 12), background=(255, 0, 9))[0, 0].tolist() == [255, 0, 9]


def test_content_shrinks_about_the_centre() -> None:
    rgba = np.full((10, 20, 4), 255, np.uint8)
    found = resize_content(rgba, 0.55)  # 11 x 5, at (4, 2)
    ys, xs = np.nonzero(found[..., 3])
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (2, 6, 4, 14)
    assert found.shape == rgba.shape
    assert resize_content(rgba, 1.0) is rgba
    rgb = resize_content(rgba[..., :3], 0.5)
    assert rgb.shape == (10, 20, 3)
    for ratio in (1.5, 0.01):
        with pytest.raises(ValueError, match="not within its frame"):
            resize_content(rgba, ratio)


def test_squares_are_centred() -> None:
    found = expand_to_square(np.full((4, 7, 4), 9, np.uint8))
    assert found.shape == (7, 7, 4)
    assert np.flatnonzero(found[:, 0, 3]).tolist() == [1, 2, 3, 4]


def test_alpha_that_is_dropped_leaves_black() -> None:
    assert drop_alpha(cut_out(7, 7))[0, 0].tolist() == [0, 0, 0]


def test_encoder_pixels() -> None:
    white = np.full((30, 30, 3), 255, np.uint8)
    pixels = codec_pixels(white, 8)
    assert pixels.shape == (3, 8, 8)
    assert torch.equal(pixels, torch.ones(3, 8, 8))
    seen = vision_pixels(white, 6)
    expected = (1.0 - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)
    torch.testing.assert_close(seen, expected[:, None, None].expand(3, 6, 6))
