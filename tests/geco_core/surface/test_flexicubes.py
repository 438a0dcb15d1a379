"""FlexiCubes against an independent twin, analytic shapes and finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from benchmarks.rowwise_flexicubes import rowwise_flexicubes
from geco_core.surface.cells import select_cells
from geco_core.surface.flexicubes import extract_cells, flexicubes, split_weights
from geco_core.surface.grid import RegularGrid
from geco_core.surface.tables import tables_on

_SIZES = {"beta": 12, "alpha": 8}


def _random_case(
    res: tuple[int, int, int], seed: int, dtype: torch.dtype = torch.float32
) -> tuple[RegularGrid, Tensor, Tensor, dict[str, Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    grid = RegularGrid(res)
    jitter = 0.3 * (torch.rand(grid.num_nodes, 3, generator=draw, dtype=dtype) - 0.5) / max(res)
    x = grid.points().to(dtype) + jitter
    s = torch.randn(grid.num_nodes, generator=draw, dtype=dtype)
    raw = torch.randn(grid.num_cubes, 21, generator=draw, dtype=dtype)
    return grid, x, s, split_weights(raw)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("res", [(9, 9, 9), (4, 9, 6), (11, 3, 5)])
def test_equals_the_direct_implementation(res: tuple[int, int, int], training: bool) -> None:
    grid, x, s, weights = _random_case(res, seed=sum(res))
    cubes = grid.corners(torch.arange(grid.num_cubes))
    verts, faces, deviation = flexicubes(x, s, grid, **weights, training=training)
    expected = rowwise_flexicubes(x, s, cubes, res, **weights, training=training)
    assert torch.equal(faces, expected[1])
    torch.testing.assert_close(verts, expected[0], rtol=0, atol=2e-6)
    torch.testing.assert_close(deviation, expected[2], rtol=0, atol=2e-6)


def test_cubes_array_and_surface_weights_give_the_same_mesh() -> None:
    grid, x, s, weights = _random_case((5, 6, 7), seed=3)
    whole = flexicubes(x, s, grid, **weights)
    cubes = grid.corners(torch.arange(grid.num_cubes))
    by_array = flexicubes(x, s, cubes, grid.res, **weights)
    cells = select_cells(s, grid, grid.res)
    assert cells.cubes.shape[0] < grid.num_cubes
    picked = {name: value[cells.cubes] for name, value in weights.items()}
    by_rows = flexicubes(x, s, grid, **picked)
    for other in (by_array, by_rows):
        assert all(torch.equal(a, b) for a, b in zip(whole, other, strict=True))


def test_face_orders_hold_the_same_triangles() -> None:
    grid, x, s, weights = _random_case((6, 6, 6), seed=4)
    _, ours, _ = flexicubes(x, s, grid, **weights)
    _, upstream, _ = flexicubes(x, s, grid, **weights, order="upstream")
    assert not torch.equal(ours, upstream)
    assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, upstream.tolist()))


@pytest.mark.parametrize("training", [False, True])
def test_sphere_is_closed_and_faces_outward(
    training: bool,
    sphere: Callable[[Tensor], Tensor],
    volume: Callable[[Tensor, Tensor], float],
    assert_closed: Callable[[Tensor], None],
) -> None:
    grid = RegularGrid((24, 30, 27), scale=2.0)
    x = grid.points()
    verts, faces, deviation = flexicubes(x, sphere(x), grid, training=training)
    assert_closed(faces)
    assert volume(verts, faces) == pytest.approx(4 / 3 * math.pi * 0.7**3, rel=0.02)
    assert verts.shape[0] - faces.shape[0] // 2 == 2
    assert deviation.min() >= 0
    dual = verts[: verts.shape[0] - (faces.shape[0] // 4 if training else 0)]
    assert (dual.norm(dim=1) - 0.7).abs().max() < 0.01


def test_exact_zeros_do_not_turn_faces_inside_out(assert_closed: Callable[[Tensor], None]) -> None:
    grid = RegularGrid.cubic(8, scale=2.0)
    x = grid.points()
    s = x.abs().amax(dim=1) - 0.5  # a cube whose sides run through grid nodes
    assert (s == 0).sum() == 5**3 - 3**3
    _, faces, _ = flexicubes(x, s, grid)
    assert_closed(faces)
    _, published, _ = flexicubes(x, s, grid, zeros_outside=False)
    assert published.shape == faces.shape
    assert not torch.equal(published, faces)


@pytest.mark.parametrize("value", [1.0, -1.0])
def test_no_surface_gives_empty_tensors_that_can_be_differentiated(value: float) -> None:
    grid = RegularGrid.cubic(4)
    x = grid.points().requires_grad_()
    s = torch.full((grid.num_nodes,), value, requires_grad=True)
    beta = torch.zeros(grid.num_cubes, 12)
    verts, faces, deviation = flexicubes(x, s, grid, beta=beta, training=True)
    assert verts.shape == (0, 3)
    assert faces.shape == (0, 3)
    assert faces.dtype == torch.int64
    assert deviation.shape == (0,)
    (verts.sum() + deviation.sum()).backward()
    assert s.grad is not None
    assert not s.grad.any()


def test_surface_in_one_corner_cube_has_no_quads() -> None:
    grid = RegularGrid.cubic(2)
    s = torch.ones(grid.num_nodes)
    s[0] = -1.0
    verts, faces, _ = flexicubes(grid.points(), s, grid)
    assert verts.shape == (1, 3)
    assert faces.shape == (0, 3)


@pytest.mark.parametrize("training", [False, True])
def test_gradients_match_finite_differences(training: bool) -> None:
    grid, x, s, weights = _random_case((2, 3, 2), seed=11, dtype=torch.float64)
    s = s + 0.2 * s.sign()  # no sign flips within the step
    leaves = [t.clone().requires_grad_() for t in (x, s, *weights.values())]

    def run(x: Tensor, s: Tensor, beta: Tensor, alpha: Tensor, gamma: Tensor) -> tuple[Tensor, ...]:
        verts, _, deviation = flexicubes(
            x, s, grid, beta=beta, alpha=alpha, gamma=gamma, training=training
        )
        return verts, deviation

    verts, deviation = run(*leaves)
    assert verts.shape[0] > 5
    assert torch.autograd.gradcheck(run, leaves, eps=1e-7, atol=1e-5, fast_mode=True)
    (gamma_gradient,) = torch.autograd.grad(
        verts.sum() + deviation.sum(), leaves[4], allow_unused=True
    )
    reached = gamma_gradient is not None and bool(gamma_gradient.any())
    assert reached == training


def test_gradients_stay_on_surface_cubes() -> None:
    grid, x, _, weights = _random_case((6, 6, 6), seed=5)
    s = x.norm(dim=1) - 0.3
    alpha = weights["alpha"].clone().requires_grad_()
    s.requires_grad_()
    verts, _, _ = flexicubes(x, s, grid, alpha=alpha)
    verts.square().sum().backward()
    cells = select_cells(s, grid, grid.res)
    off = torch.ones(grid.num_cubes, dtype=torch.bool)
    off[cells.cubes] = False
    node_off = torch.ones(grid.num_nodes, dtype=torch.bool)
    node_off[cells.corners.view(-1)] = False
    assert alpha.grad is not None
    assert s.grad is not None
    assert not alpha.grad[off].any()
    assert alpha.grad[~off].any(dim=1).all()
    assert not s.grad[node_off].any()


def test_wrong_arguments_are_refused() -> None:
    grid, x, s, weights = _random_case((3, 3, 3), seed=6)
    with pytest.raises(ValueError, match="beta has 5 rows"):
        flexicubes(x, s, grid, beta=weights["beta"][:5])
    with pytest.raises(ValueError, match="needs `res`"):
        flexicubes(x, s, grid.corners(torch.arange(27)))


def test_nodes_may_be_compacted() -> None:
    grid, x, s, weights = _random_case((5, 5, 5), seed=7)
    s = s + 1.0  # a few inside nodes
    cells = select_cells(s, grid, grid.res)
    nodes, corners = torch.unique(cells.corners, return_inverse=True)
    compact = type(cells)(cells.res, cells.cubes, corners)
    picked = {name: value[cells.cubes] for name, value in weights.items()}
    expected = flexicubes(x, s, grid, **weights, training=True)
    got = extract_cells(x[nodes], s[nodes], compact, **picked, training=True)
    assert nodes.shape[0] < grid.num_nodes
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))


def test_tables_first_used_in_inference_serve_training() -> None:
    grid = RegularGrid.cubic(8, 2.1)
    points = grid.points()
    sdf = points.norm(dim=-1) - 0.7
    tables_on.cache_clear()
    with torch.inference_mode():
        flexicubes(points, sdf, grid)
    leaf = sdf.clone().requires_grad_()
    weights = {n: torch.zeros(grid.num_cubes, k, requires_grad=True) for n, k in _SIZES.items()}
    vertices, _, deviation = flexicubes(
        points, leaf, grid, **weights, gamma=torch.zeros(grid.num_cubes), training=True
    )
    (vertices.square().sum() + deviation.sum()).backward()
    assert leaf.grad is not None
    assert all(w.grad is not None for w in weights.values())
