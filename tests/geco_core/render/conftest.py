"""Meshes and cameras of the rasterizer tests."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from geco_core.cameras import clip_from_world, orbit_pose, orthographic, projection, world_to_camera

OCTAHEDRON_FACES = [
    [0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5],
]  # fmt: skip


def _sphere(levels: int) -> tuple[Tensor, Tensor]:
    """Octahedron subdivided and pushed out to radius 1, slightly irregular."""
    vertices = [[1.0, 0, 0], [-1.0, 0, 0], [0, 1.0, 0], [0, -1.0, 0], [0, 0, 1.0], [0, 0, -1.0]]
    faces = OCTAHEDRON_FACES
    for _ in range(levels):
        middle: dict[tuple[int, int], int] = {}
        finer = []
        for face in faces:
            mids = []
            for a, b in ((face[0], face[1]), (face[1], face[2]), (face[2], face[0])):
                key = (min(a, b), max(a, b))
                if key not in middle:
                    middle[key] = len(vertices)
                    point = torch.tensor(vertices[a]) + torch.tensor(vertices[b])
                    vertices.append((point / point.norm()).tolist())
                mids.append(middle[key])
            finer += [
                [face[0], mids[0], mids[2]],
                [mids[0], face[1], mids[1]],
                [mids[2], mids[1], face[2]],
                mids,
            ]
        faces = finer
    jitter = torch.randn(len(vertices), 3, generator=torch.Generator().manual_seed(levels))
    return torch.tensor(vertices) + 0.03 * jitter, torch.tensor(faces)


@pytest.fixture
def sphere():
    """levels -> (vertices [N, 3], outward faces [F, 3]) of a bumpy sphere of radius about 1."""
    return _sphere


@pytest.fixture
def cameras():
    """(kind, views) -> (w2c [V, 4, 4], proj [4, 4]), radius 4, elevation 20 degrees."""

    def make(kind: str = "perspective", views: int = 3) -> tuple[Tensor, Tensor]:
        azimuths = torch.arange(views) * (360.0 / views)
        w2c = world_to_camera(orbit_pose(azimuths, 20.0, 4.0))
        return w2c, projection(30.0) if kind == "perspective" else orthographic(1.2)

    return make


@pytest.fixture
def clip(cameras):
    """(vertices, kind, views) -> clip positions [V, N, 4] of the vertices' dtype."""

    def make(vertices: Tensor, kind: str = "perspective", views: int = 3) -> Tensor:
        w2c, proj = cameras(kind, views)
        return clip_from_world(vertices, w2c, proj)

    return make
