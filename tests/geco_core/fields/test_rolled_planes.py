"""Which point reads which texel of which plane."""

from __future__ import annotations

import pytest
import torch

from geco_core.fields.rolled_planes import (
    plane_features,
    roll_planes,
    sample_rolled,
    unroll_planes,
)


def linear_planes(size: int = 9) -> torch.Tensor:
    """Planes [1, 3, 2, S, S]: channel 0 is the column coordinate, channel 1 the row coordinate."""
    ramp = torch.linspace(-1, 1, size)
    row, column = torch.meshgrid(ramp, ramp, indexing="ij")
    return torch.stack([column, row]).expand(1, 3, 2, size, size)


def test_columns_and_rows_of_xy_yz_zx() -> None:
    points = torch.tensor([[[0.1, 0.2, 0.3], [-1.0, 0.55, 1.0]]])
    found = plane_features(linear_planes(), points)
    for plane, (column, row) in enumerate(((0, 1), (1, 2), (2, 0))):
        torch.testing.assert_close(found[0, plane, :, 0], points[0, :, column])
        torch.testing.assert_close(found[0, plane, :, 1], points[0, :, row])
    torch.testing.assert_close(sample_rolled(linear_planes(), points), found.sum(1))


def test_the_border_repeats_outside() -> None:
    inside, outside = torch.tensor([[[1.0, -1.0, 1.0]]]), torch.tensor([[[1.7, -3.0, 1.01]]])
    planes = torch.randn(1, 3, 4, 6, 6)
    torch.testing.assert_close(sample_rolled(planes, inside), sample_rolled(planes, outside))


def test_planes_lie_side_by_side() -> None:
    rolled = torch.randn(2, 5, 4, 12)
    planes = unroll_planes(rolled)
    assert torch.equal(planes[1, 2], rolled[1, :, :, 8:])
    assert torch.equal(roll_planes(planes), rolled)
    with pytest.raises(ValueError, match="4 x 12, not 4 x 8"):
        unroll_planes(rolled[..., :8])


def test_sampling_stays_in_float32_under_autocast() -> None:
    planes, points = torch.randn(1, 3, 4, 64, 64), torch.rand(1, 50, 3) * 2 - 1
    exact = sample_rolled(planes, points)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(sample_rolled(planes, points), exact)
