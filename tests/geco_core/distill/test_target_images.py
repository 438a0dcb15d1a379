"""Straight alpha and back: what is stored is what was rendered, to a level."""

from __future__ import annotations

import torch

from geco_core.distill.target_images import over_white, straight_rgba


def test_blended_edges_survive_the_way_through_straight_alpha() -> None:
    g = torch.Generator().manual_seed(0)
    surface = torch.rand(4, 3, 16, 16, generator=g)
    mask = torch.rand(4, 1, 16, 16, generator=g)
    mask[:, :, :4] = 0.0
    mask[:, :, 12:] = 1.0
    rgb = surface * mask + (1 - mask)
    stored = straight_rgba(rgb, mask)
    assert (stored[:, :4] == (255, 255, 255, 0)).all()
    back, alpha = over_white(stored)
    assert float((alpha - mask).abs().max()) <= 0.51 / 255
    assert float((back - rgb).abs().max()) <= 1.01 / 255
    assert back.shape == rgb.shape
    colour = torch.from_numpy(stored[:, 12:, :, :3].copy()).movedim(-1, 1) / 255.0
    assert float((colour - surface[:, :, 12:]).abs().max()) <= 0.51 / 255


def test_leading_axes_are_kept() -> None:
    stored = torch.zeros(2, 3, 8, 8, 4, dtype=torch.uint8).numpy()
    rgb, mask = over_white(stored)
    assert rgb.shape == (2, 3, 3, 8, 8)
    assert float(rgb.min()) == 1.0
    assert float(mask.max()) == 0.0
