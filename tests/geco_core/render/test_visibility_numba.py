from __future__ import annotations

import pytest
import torch

from geco_core.render import visibility

pytest.importorskip("numba")
from geco_core.render import visibility_numba


@pytest.mark.parametrize("kind", ["perspective", "orthographic"])
@pytest.mark.parametrize(("levels", "resolution"), [(1, (64, 64)), (3, (96, 96)), (4, (48, 80))])
def test_ids_equal_those_of_torch_on_spheres(sphere, clip, kind, levels, resolution):
    vertices, faces = sphere(levels)
    pos = clip(vertices, kind)
    ours = visibility_numba.visible_triangles(pos, faces, resolution)
    assert torch.equal(ours, visibility.visible_triangles(pos, faces, resolution))
    assert int((ours > 0).sum()) > 500


@pytest.mark.parametrize("seed", range(6))
def test_ids_equal_those_of_torch_on_random_triangles(seed):
    # Partly outside the image and the depth range, some vertices at w <= 0.
    generator = torch.Generator().manual_seed(seed)
    pos = torch.randn(2, 300, 4, generator=generator) * torch.tensor([1.5, 1.5, 0.8, 0.0])
    pos[..., 3] = 1 + 0.6 * torch.randn(2, 300, generator=generator)
    tri = torch.randint(0, 300, (400, 3), generator=generator)
    ours = visibility_numba.visible_triangles(pos, tri, (50, 70))
    assert torch.equal(ours, visibility.visible_triangles(pos, tri, (50, 70)))
    assert len(ours.unique()) > 50


def test_ids_equal_those_of_torch_on_exact_ties():
    # Vertices on pixel centres and duplicated faces: all the half-open rules and tie rules at once.
    line = (2 * torch.arange(0, 9) + 1) / 8 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    pos = torch.stack([x, y, 0 * x, 0 * x + 1], -1).reshape(1, -1, 4)
    generator = torch.Generator().manual_seed(0)
    tri = torch.randint(0, 81, (300, 3), generator=generator)
    tri = torch.cat([tri, tri.roll(1, 1)])
    ours = visibility_numba.visible_triangles(pos, tri, (8, 8))
    assert torch.equal(ours, visibility.visible_triangles(pos, tri, (8, 8)))


def test_huge_and_empty_inputs():
    pos = torch.tensor([[[-1e9, -1e9, 0, 1], [1e9, -1e9, 0, 1], [0, 1e9, 0, 1]]])
    assert bool(
        (visibility_numba.visible_triangles(pos, torch.tensor([[0, 1, 2]]), (4, 4)) == 1).all()
    )
    none = visibility_numba.visible_triangles(pos, torch.zeros(0, 3, dtype=torch.int32), (4, 6))
    assert none.shape == (1, 4, 6)
    assert not none.any()
