"""View tiles: order, inverse, resizing."""

from __future__ import annotations

import torch

from geco_core.imaging.views import merge_views, resize_views, split_views


def test_views_are_row_major() -> None:
    tile = torch.arange(6.0).reshape(1, 1, 3, 2).repeat_interleave(4, 2).repeat_interleave(4, 3)
    views = split_views(tile, rows=3, columns=2)
    assert views.shape == (1, 6, 1, 4, 4)
    assert views.mean(dim=(0, 2, 3, 4)).tolist() == [0, 1, 2, 3, 4, 5]


def test_merge_is_the_inverse(generator: torch.Generator) -> None:
    tile = torch.rand(2, 3, 12, 8, generator=generator)
    assert torch.equal(merge_views(split_views(tile, 3, 2), 3, 2), tile)


def test_views_of_the_right_size_are_left_alone(generator: torch.Generator) -> None:
    views = torch.rand(1, 2, 3, 8, 8, generator=generator)
    assert torch.equal(resize_views(views, 8), views)


def test_resize_clamps_the_overshoot_of_the_filter() -> None:
    views = torch.zeros(1, 2, 3, 8, 8)
    views[..., 4:] = 1.0
    resized = resize_views(views, 20)
    assert resized.shape == (1, 2, 3, 20, 20)
    assert float(resized.min()) == 0.0
    assert float(resized.max()) == 1.0
