"""Triangle grids that primitives are made of: surfaces of revolution, spheres, tori, cubes.

Vertices are float64 [N, 3], faces int64 [F, 3] counter-clockwise seen from outside. Results of the
cached functions are shared: read them, never write into them.

Legend: N vertices, F faces, K points of a profile.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

Array = np.ndarray


def revolve(profile_K2: Array, segments: int) -> tuple[Array, Array]:
    """Closed surface of revolution about z.

    Args:
        profile_K2: (radius, z) from the lowest to the highest point; the first and the last radius
            are 0.
        segments: number of directions around the axis.

    Returns:
        vertices float64 [2 + (K - 2) * segments, 3] (both poles last), faces int64 [F, 3], outward.
    """
    angle = np.arange(segments) * (2.0 * math.pi / segments)
    rings = profile_K2[1:-1]
    x, y = rings[:, :1] * np.cos(angle), rings[:, :1] * np.sin(angle)
    z = np.broadcast_to(rings[:, 1:], x.shape)
    body = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    poles = np.array([[0.0, 0.0, profile_K2[0, 1]], [0.0, 0.0, profile_K2[-1, 1]]])
    return np.concatenate([body, poles]), _revolved_faces(len(rings), segments)


@lru_cache(maxsize=64)
def _revolved_faces(n_rings: int, segments: int) -> Array:
    j = np.arange(segments)
    after = (j + 1) % segments
    south, north = n_rings * segments, n_rings * segments + 1
    top = (n_rings - 1) * segments
    parts = [np.stack([np.full(segments, south), after, j], axis=1)]
    for base in range(0, top, segments):
        a, b, c, d = base + j, base + after, base + segments + after, base + segments + j
        parts += [np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)]
    parts.append(np.stack([top + j, top + after, np.full(segments, north)], axis=1))
    return np.concatenate(parts)


@lru_cache(maxsize=16)
def wrapped_quads(n_ring: int, n_tube: int) -> Array:
    """Faces of a grid that closes in both directions; vertex (i, j) is number i * n_tube + j."""
    i, j = np.meshgrid(np.arange(n_ring), np.arange(n_tube), indexing="ij")
    i, j = i.ravel(), j.ravel()
    i1, j1 = (i + 1) % n_ring, (j + 1) % n_tube
    a, b, c, d = i * n_tube + j, i1 * n_tube + j, i1 * n_tube + j1, i * n_tube + j1
    return np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])


@lru_cache(maxsize=16)
def sphere_profile(segments: int) -> Array:
    """Half circle as (radius, z) [segments / 2 + 1, 2], from the south pole to the north pole."""
    latitude = np.linspace(-0.5 * math.pi, 0.5 * math.pi, segments // 2 + 1)
    profile = np.stack([np.cos(latitude), np.sin(latitude)], axis=1)
    profile[[0, -1], 0] = 0.0
    return profile


@lru_cache(maxsize=16)
def unit_sphere(segments: int) -> tuple[Array, Array]:
    """Sphere of radius 1 with `segments` meridians and half as many bands."""
    return revolve(sphere_profile(segments), segments)


@lru_cache(maxsize=4)
def cube_grid(cells: int) -> tuple[Array, Array]:
    """Surface of [-1, 1]^3 with `cells` x `cells` quads per side.

    Vertices are not shared between sides.
    """
    u, v = np.meshgrid(np.linspace(-1, 1, cells + 1), np.linspace(-1, 1, cells + 1), indexing="ij")
    n = cells + 1
    i, j = (grid.ravel() for grid in np.meshgrid(np.arange(cells), np.arange(cells), indexing="ij"))
    a, b, c, d = i * n + j, (i + 1) * n + j, (i + 1) * n + j + 1, i * n + j + 1
    quad = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
    vertices, faces = [], []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            side = np.empty((n * n, 3))
            side[:, axis] = sign
            side[:, (axis + 1) % 3], side[:, (axis + 2) % 3] = u.ravel(), v.ravel()
            faces.append((quad if sign > 0 else quad[:, ::-1]) + n * n * len(vertices))
            vertices.append(side)
    return np.concatenate(vertices), np.concatenate(faces)


def segments_for(radius: float) -> int:
    """Directions around a round solid of this radius."""
    # Keeps the sag of a chord near or below 0.01 for objects about 2 units across (a third of a
    # pixel at 64 px). A multiple of four, so that the widest points of a solid are vertices.
    return 8 if radius < 0.13 else 12 if radius < 0.3 else 16 if radius < 0.6 else 24
