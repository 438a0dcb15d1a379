"""Triplane sampling: axes, zero padding, precision."""

from __future__ import annotations

import pytest
import torch

from geco_core.fields.triplane import PLANE_AXES, sample_planes


@pytest.mark.parametrize("plane", [0, 1, 2])
def test_each_plane_reads_its_axes_column_first(plane: int) -> None:
    res = 9
    planes = torch.zeros(1, 3, 1, res, res)
    planes[0, plane, 0, 2, 7] = 1.0  # row 2, column 7
    point = torch.zeros(3)
    column_axis, row_axis = PLANE_AXES[plane]
    point[column_axis] = (7 + 0.5) / res * 2 - 1
    point[row_axis] = (2 + 0.5) / res * 2 - 1
    point[3 - column_axis - row_axis] = 0.123  # the third axis does not matter
    features = sample_planes(planes, point.view(1, 1, 3))
    torch.testing.assert_close(features[0, 0, plane], torch.tensor(1.0))
    assert features[0, 0].sum() == features[0, 0, plane]


def test_features_fade_to_zero_outside() -> None:
    planes = torch.ones(1, 3, 2, 4, 4)
    points = torch.tensor([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.5, 1.5, 1.5]]])
    features = sample_planes(planes, points)
    torch.testing.assert_close(features[0, 0], torch.ones(6))
    torch.testing.assert_close(features[0, 1, :4], torch.full((4,), 0.5))  # planes over x
    torch.testing.assert_close(features[0, 2], torch.zeros(6))


def test_autocast_does_not_reach_the_sampler() -> None:
    planes = torch.randn(2, 3, 4, 8, 8)
    points = torch.rand(2, 50, 3) * 2 - 1
    with torch.autocast("cpu", torch.bfloat16):
        sampled = sample_planes(planes, points)
    assert sampled.dtype == torch.float32
    torch.testing.assert_close(sampled, sample_planes(planes, points))
