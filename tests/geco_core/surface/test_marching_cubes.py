"""Marching cubes: vertices on grid edges, closed and outward surfaces, agreement with PyMCubes."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from geco_core.surface.marching_cubes import marching_cubes


def _closed_noise(seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    field = torch.full((12, 14, 10), -3.0)
    field[1:-1, 1:-1, 1:-1] = torch.randn(10, 12, 8, generator=draw)
    return field


def test_sphere_has_its_volume_and_faces_outward(
    volume: Callable[[Tensor, Tensor], float], assert_closed: Callable[[Tensor], None]
) -> None:
    axis = torch.linspace(-1, 1, 41)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    density = 10 * (0.8 - (x**2 + y**2 + z**2).sqrt())
    verts, faces = marching_cubes(density, 0.5)
    assert_closed(faces)
    assert verts.shape[0] - faces.shape[0] // 2 == 2
    assert volume(verts / 20 - 1, faces) == pytest.approx(4 / 3 * math.pi * 0.75**3, rel=0.01)


def test_noise_is_closed_and_welded(assert_closed: Callable[[Tensor], None]) -> None:
    verts, faces = marching_cubes(_closed_noise(0), 0.2)
    assert_closed(faces)
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(dim=1).values
    assert (torch.unique(edges, dim=0, return_counts=True)[1] == 2).all()
    assert torch.unique(verts, dim=0).shape == verts.shape
    assert torch.equal(torch.unique(faces), torch.arange(verts.shape[0]))


@pytest.mark.parametrize("seed", [0, 1])
def test_same_vertices_and_triangle_count_as_pymcubes(seed: int) -> None:
    mcubes = pytest.importorskip("mcubes")
    field = _closed_noise(seed)
    verts, faces = marching_cubes(field, 0.2)
    their_verts, their_faces = mcubes.marching_cubes(field.numpy(), 0.2)
    theirs = torch.from_numpy(their_verts)
    assert verts.shape == theirs.shape
    assert len(faces) == len(their_faces)
    distance = torch.cdist(verts.double(), theirs)
    assert distance.amin(0).max() < 1e-5
    assert distance.amin(1).max() < 1e-5


def test_vertices_lie_on_edges_at_the_level_and_are_differentiable() -> None:
    field = torch.zeros(2, 2, 2)
    field[0, 0, 0] = 4.0
    field.requires_grad_()
    verts, faces = marching_cubes(field, 1.0)
    assert verts.tolist() == [[0.75, 0, 0], [0, 0.75, 0], [0, 0, 0.75]]
    assert faces.shape == (1, 3)
    verts.sum().backward()
    assert field.grad is not None
    assert field.grad[0, 0, 0].item() == pytest.approx(3 / 16)  # d(1 - 1/v)/dv = 1/v^2, three times


def test_level_not_reached_gives_an_empty_mesh() -> None:
    verts, faces = marching_cubes(torch.zeros(4, 5, 6), 1.0)
    assert verts.shape == (0, 3)
    assert faces.shape == (0, 3)


@pytest.mark.parametrize("shape", [(4, 4), (1, 4, 4)])
def test_not_a_volume_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="2 or more nodes"):
        marching_cubes(torch.zeros(shape), 0.0)
