"""Coarse-to-fine evaluation finds what dense evaluation finds, with far fewer evaluations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from geco_core.config.models import ExtractionConfig
from geco_core.surface.extract import extract_nodes, extract_surface
from geco_core.surface.grid import RegularGrid
from geco_core.surface.sparse import evaluate_sparse


def _wavy(points: Tensor) -> Tensor:
    x, y, z = points.unbind(-1)
    return points.norm(dim=-1) - 0.7 + 0.08 * (5 * x).sin() * (4 * y + 1).cos() * (6 * z).sin()


@pytest.mark.parametrize(
    "res", [(64, 64, 64), (80, 80, 80), (100, 70, 97), (131, 67, 66), (9, 8, 7)]
)
def test_sparse_equals_dense_on_smooth_fields(res: tuple[int, int, int]) -> None:
    grid = RegularGrid(res, 2.1)
    dense = evaluate_sparse(_wavy, grid, exact=True)
    sparse = evaluate_sparse(_wavy, grid, chunk_points=5000)
    assert torch.equal(dense.values, _wavy(grid.points()))
    assert torch.equal(sparse.cubes, dense.cubes)
    assert (sparse.nodes.diff() > 0).all()
    torch.testing.assert_close(sparse.values, dense.values[sparse.nodes], rtol=0, atol=1e-6)
    if max(res) >= 64:
        assert sparse.nodes.shape[0] < 0.5 * grid.num_nodes
    a, b = dense.surface(), sparse.surface()
    assert torch.equal(a.nodes, b.nodes)
    assert torch.equal(a.cells.corners, b.cells.corners)
    mesh_a, mesh_b = extract_nodes(a), extract_nodes(b)
    assert torch.equal(mesh_a[1], mesh_b[1])
    torch.testing.assert_close(mesh_a[0], mesh_b[0], rtol=0, atol=1e-5)


def test_reported_corners_are_the_cubes_corners() -> None:
    grid = RegularGrid((40, 64, 50), 2.1)
    surface = evaluate_sparse(_wavy, grid).surface()
    assert torch.equal(surface.nodes[surface.cells.corners], grid.corners(surface.cells.cubes))
    assert torch.equal(surface.sdf, _wavy(surface.points()))
    inside = surface.sdf[surface.cells.corners] < 0
    assert inside.any(dim=1).all()
    assert not inside.all(dim=1).any()


def _spike(points: Tensor) -> Tensor:
    """A ball with a needle too thin for the coarse level, reaching far beyond the dilated band."""
    x, y, z = points.unbind(-1)
    ball = points.norm(dim=-1) - 0.35
    # Off the planes of the coarse nodes (cells are 2.1 / 128 wide, every fourth node is coarse).
    offset = 2.1 / 128 * 1.5
    needle = torch.maximum(torch.hypot(y - offset, z - offset) - 0.02, torch.maximum(-x, x - 0.95))
    return torch.minimum(ball, needle)


def test_growth_follows_a_surface_out_of_the_band() -> None:
    grid = RegularGrid.cubic(128, 2.1)
    dense = evaluate_sparse(_spike, grid, exact=True)
    without = evaluate_sparse(_spike, grid, growth=False)
    grown = evaluate_sparse(_spike, grid)
    missed = dense.cubes.shape[0] - without.cubes.shape[0]
    assert missed > 20
    assert torch.equal(grown.cubes, dense.cubes)
    assert grown.nodes.shape[0] - without.nodes.shape[0] < 20 * missed


def test_what_is_missed_is_only_what_is_documented() -> None:
    """A speck below the coarse cell size, away from everything, is lost; `exact` finds it."""
    centre = torch.tensor([0.8, 0.8, 0.8]) + 2.1 / 128 * 2

    def with_speck(points: Tensor) -> Tensor:
        return torch.minimum(points.norm(dim=-1) - 0.5, (points - centre).norm(dim=-1) - 0.02)

    grid = RegularGrid.cubic(128, 2.1)
    dense = evaluate_sparse(with_speck, grid, exact=True)
    sparse = evaluate_sparse(with_speck, grid)
    assert torch.isin(sparse.cubes, dense.cubes).all()
    lost = dense.cubes[~torch.isin(dense.cubes, sparse.cubes)]
    assert lost.shape[0] > 0
    assert ((grid.points(grid.corners(lost)[:, 0]) - centre).norm(dim=1) < 0.06).all()


@pytest.mark.parametrize("exact", [False, True])
def test_empty_field_gives_an_empty_mesh_without_callbacks(exact: bool) -> None:
    def never(*_: Tensor) -> Tensor:
        raise AssertionError("called for an empty surface")

    def outside(points: Tensor) -> Tensor:
        assert points.shape[0] > 0, "empty batch"
        return torch.ones(points.shape[0])

    config = ExtractionConfig(exact=exact)
    verts, faces = extract_surface(outside, never, never, RegularGrid.cubic(64, 2.1), config)
    assert verts.shape == (0, 3)
    assert faces.shape == (0, 3)


def test_callbacks_see_surface_nodes_and_cubes_only(sphere: Callable[[Tensor], Tensor]) -> None:
    grid = RegularGrid.cubic(64, 2.1)
    seen: dict[str, int] = {}

    def offset(points: Tensor) -> Tensor:
        seen["points"] = points.shape[0]
        return 0.002 * points.sin()

    def weights(points: Tensor, corners: Tensor) -> Tensor:
        seen["cubes"] = corners.shape[0]
        features = points[corners].flatten(1)  # [S, 24]
        return torch.cat([features[:, :21].sin(), features[:, :0]], dim=1)

    sparse = extract_surface(sphere, offset, weights, grid, ExtractionConfig())
    dense = extract_surface(sphere, offset, weights, grid, ExtractionConfig(exact=True))
    assert seen["points"] < 0.1 * grid.num_nodes
    assert seen["cubes"] < 0.1 * grid.num_cubes
    assert torch.equal(sparse[1], dense[1])
    torch.testing.assert_close(sparse[0], dense[0], rtol=0, atol=1e-6)
    assert (sparse[0].norm(dim=1) - 0.7).abs().max() < 0.02


def test_chunks_are_bounded(sphere: Callable[[Tensor], Tensor]) -> None:
    sizes: list[int] = []

    def counted(points: Tensor) -> Tensor:
        sizes.append(points.shape[0])
        return sphere(points)

    evaluate_sparse(counted, RegularGrid.cubic(40, 2.1), chunk_points=1000)
    assert max(sizes) <= 1000
    assert sum(sizes) == 41**3  # too coarse for a second level: dense


def test_no_node_is_evaluated_twice() -> None:
    points: list[Tensor] = []

    def recorded(p: Tensor) -> Tensor:
        points.append(p)
        return _spike(p)

    evaluate_sparse(recorded, RegularGrid((130, 70, 129), 2.1))
    everything = torch.cat(points)
    assert torch.unique(everything, dim=0).shape == everything.shape


def test_values_can_be_replaced_by_differentiable_ones(sphere: Callable[[Tensor], Tensor]) -> None:
    """Training: find the surface without gradients, then evaluate its nodes alone with them."""
    grid = RegularGrid.cubic(16, 2.1)
    radius = torch.tensor(0.7, requires_grad=True)
    with torch.no_grad():
        surface = evaluate_sparse(sphere, grid).surface()
    values = surface.points().norm(dim=-1) - radius
    verts, _, _ = extract_nodes(dataclasses.replace(surface, sdf=values), training=True)
    verts.norm(dim=1).mean().backward()
    assert radius.grad is not None
    assert radius.grad.item() == pytest.approx(1.0, abs=0.1)
