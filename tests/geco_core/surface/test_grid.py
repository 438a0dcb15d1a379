"""Arithmetic grids: numbering and coordinates."""

from __future__ import annotations

import pytest
import torch

from geco_core.surface.grid import RegularGrid, unflatten


def test_corners_follow_the_corner_convention() -> None:
    grid = RegularGrid((3, 4, 5))
    shape = grid.node_shape
    corners = grid.corners(torch.arange(grid.num_cubes))
    cube = torch.stack(unflatten(torch.arange(grid.num_cubes), grid.res), -1)
    for c in range(8):
        node = torch.stack(unflatten(corners[:, c], shape), -1)
        assert torch.equal(node - cube, torch.tensor([c & 1, c >> 1 & 1, c >> 2 & 1]).expand(60, 3))


def test_points_are_x_major_and_span_the_scale() -> None:
    grid = RegularGrid((2, 4, 8), scale=2.1)
    points = grid.points()
    assert points.shape == (grid.num_nodes, 3)
    assert torch.equal(points[0], torch.full((3,), -1.05))
    assert torch.equal(points[-1], torch.full((3,), 1.05))
    assert points[1, 2] > points[0, 2]
    assert points[1, 0] == points[0, 0]
    some = torch.tensor([0, 7, 50, grid.num_nodes - 1])
    assert torch.equal(grid.points(some), points[some])


def test_fractions_are_rounded_to_five_decimals_before_centring() -> None:
    axis = RegularGrid.cubic(128).axis(0)
    assert axis[1].item() == pytest.approx(0.00781 - 0.5, abs=1e-7)  # 1/128 = 0.0078125


@pytest.mark.parametrize("res", [(0, 4, 4), (4, -1, 4)])
def test_bad_resolution_is_refused(res: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="positive"):
        RegularGrid(res)
