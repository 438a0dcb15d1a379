"""Levels nest for any resolution; masks lead from one to the next."""

from __future__ import annotations

import pytest
import torch

from geco_core.surface.grid import RegularGrid
from geco_core.surface.levels import (
    Level,
    child_cells,
    corner_nodes,
    dilate_cells,
    level_strides,
)


@pytest.mark.parametrize(
    ("res", "factor", "strides"),
    [
        (128, 4, [4, 2, 1]),
        (256, 4, [4, 2, 1]),
        (256, 8, [8, 4, 2, 1]),
        (80, 4, [2, 1]),
        (100, 4, [2, 1]),
        (64, 4, [2, 1]),
        (40, 4, [1]),
        (256, 1, [1]),
    ],
)
def test_levels(res: int, factor: int, strides: list[int]) -> None:
    assert level_strides(res, factor) == strides


def test_dilation_includes_diagonals_and_stops_at_the_border() -> None:
    mask = torch.zeros(5, 6, 7, dtype=torch.bool)
    mask[0, 3, 3] = True
    assert dilate_cells(mask, 0).sum() == 1
    assert dilate_cells(mask, 1).sum() == 2 * 3 * 3
    assert dilate_cells(mask, 2).sum() == 3 * 5 * 5


@pytest.mark.parametrize("res", [(8, 8, 8), (13, 6, 9), (1, 2, 3)])
def test_nodes_of_levels_nest(res: tuple[int, int, int]) -> None:
    grid = RegularGrid(res)
    coarse, fine = Level(grid, 4), Level(grid, 2)
    coarse_nodes = coarse.to_grid(torch.ones(coarse.nodes).view(-1).nonzero().view(-1))
    assert (coarse_nodes.diff() > 0).all()
    assert coarse_nodes[-1] == grid.num_nodes - 1
    embedded = fine.embed(torch.ones(coarse.nodes, dtype=torch.bool)).view(-1).nonzero().view(-1)
    assert torch.equal(fine.to_grid(embedded), coarse_nodes)


def test_children_and_their_corners() -> None:
    parents = torch.zeros(2, 3, 4, dtype=torch.bool)
    parents[1, 1, 3] = True
    cells = child_cells(parents, (3, 6, 7))  # the last child along x and z lies outside
    assert cells.nonzero().tolist() == [[2, 2, 6], [2, 3, 6]]
    nodes = corner_nodes(cells)
    assert nodes.shape == (4, 7, 8)
    assert nodes.sum() == 2 * 3 * 2
    assert nodes[2:4, 2:5, 6:8].all()
