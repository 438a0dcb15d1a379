"""Repair of empty shapes and the SDF entropy."""

from __future__ import annotations

import torch

from geco_core.reconstruct.regularise import (
    grid_edges,
    one_signed,
    repair_empty,
    sdf_entropy,
    surface_edges,
)
from geco_core.surface.cells import select_cells
from geco_core.surface.grid import RegularGrid

GRID = RegularGrid.cubic(6, 2.0)


def test_every_edge_once() -> None:
    edges = grid_edges(GRID.node_shape, torch.device("cpu"))
    assert len(edges) == 3 * 6 * 7 * 7
    assert len(edges.sort(-1).values.unique(dim=0)) == len(edges)
    points = GRID.points()
    lengths = (points[edges[:, 0]] - points[edges[:, 1]]).norm(dim=-1)
    assert float((lengths - 2 / 6).abs().max()) < 1e-4


def test_surface_edges_hold_every_crossed_edge() -> None:
    sdf = torch.randn(GRID.num_nodes, generator=torch.Generator().manual_seed(0)) + 0.8
    index = select_cells(sdf, GRID, GRID.res).corners.unique()
    sdf_surface = sdf[index][surface_edges(GRID, index)]
    dense = sdf[grid_edges(GRID.node_shape, sdf.device)]
    torch.testing.assert_close(sdf_entropy(sdf_surface), sdf_entropy(dense))
    assert len(sdf_surface) <= len(dense)


def test_entropy_by_hand_and_without_crossings() -> None:
    ends = torch.tensor([[1.0, -2.0], [3.0, 4.0]], requires_grad=True)
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    expected = bce(torch.tensor(1.0), torch.tensor(0.0)) + bce(
        torch.tensor(-2.0), torch.tensor(1.0)
    )
    torch.testing.assert_close(sdf_entropy(ends), expected)
    calm = sdf_entropy(ends[1:])
    calm.backward()
    assert float(calm.detach()) == 0.0


def test_only_inner_nodes_count() -> None:
    inside_border = torch.ones(GRID.node_shape)
    inside_border[0, 0, 0] = -1.0
    inner = torch.ones(GRID.node_shape)
    inner[3, 3, 3] = -1.0
    sdf = torch.stack([inside_border.flatten(), inner.flatten(), -torch.ones(GRID.num_nodes)])
    assert one_signed(sdf, GRID).tolist() == [True, False, True]


def test_zeros_are_of_neither_sign() -> None:
    zeros = torch.zeros(GRID.num_nodes)
    touching = torch.ones(GRID.node_shape)
    touching[3, 3, 3] = 0.0
    sdf = torch.stack([zeros, touching.flatten(), -touching.flatten()])
    assert one_signed(sdf, GRID).all()
    repaired = repair_empty(sdf, one_signed(sdf, GRID), GRID)
    assert all(len(select_cells(row, GRID, GRID.res).cubes) for row in repaired)


def test_repair_gives_a_surface_to_broken_samples_only() -> None:
    whole = torch.randn(GRID.num_nodes)
    sdf = torch.stack([whole, torch.full((GRID.num_nodes,), -0.3)]).requires_grad_()
    broken = one_signed(sdf.detach(), GRID)
    assert broken.tolist() == [False, True]
    repaired = repair_empty(sdf, broken, GRID)
    assert torch.equal(repaired[0], sdf[0])
    assert len(select_cells(repaired[1], GRID, GRID.res).cubes) > 0
    repaired.sum().backward()
    assert sdf.grad is not None
    assert float(sdf.grad[1].abs().max()) == 0.0
    assert float(sdf.grad[0].min()) == 1.0
