"""Point samples of procedural objects: signed distances, and colours of the visible surface.

The mesh of an object is the plain union of its solids' meshes, so part of it lies inside other
solids. Such points are never seen in any picture and are left out: a surface sample must not be
more than 0.005 inside another solid. Faces are chords of round solids; colour samples are moved
along the face normal onto the exact surface of their solid, so that the signed distance there is
zero.

Legend: P points, K solids, F faces. World frame; distances in world units.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from geco_core.shapes.object import ShapeObject

BOX = 1.05
NEAR_SIGMA = 0.05
HIDDEN_DEPTH = 0.005
_ROUNDS = 6


class SurfaceSamples(NamedTuple):
    """Points on the visible surface, area-weighted.

    Attributes:
        points: float32 [P, 3], world.
        colors: float32 [P, 3] in [0, 1], with the baked light.
        normals: float32 [P, 3], unit, outward, of the flat face.
    """

    points: np.ndarray
    colors: np.ndarray
    normals: np.ndarray


class SdfSamples(NamedTuple):
    """Points in space with their signed distance.

    Attributes:
        points: float32 [P, 3]; the first P // 2 near the surface, the rest uniform in [-1.05,
            1.05]^3.
        values: float32 [P], negative inside.
    """

    points: np.ndarray
    values: np.ndarray


def sample_surface(made: ShapeObject, count: int, generator: np.random.Generator) -> SurfaceSamples:
    """`count` points of the visible surface with colours and normals."""
    points_P3, face_P = _visible_points(made, count, generator)
    return SurfaceSamples(points_P3, made.face_colors[face_P], made.face_normals[face_P])


def sample_sdf(made: ShapeObject, count: int, generator: np.random.Generator) -> SdfSamples:
    """`count` signed distances: half near the surface, half uniform in the box.

    Near means surface points + N(0, 0.05^2) per axis.
    """
    near = count // 2
    near_N3, _ = _visible_points(made, near, generator)
    near_N3 = near_N3 + NEAR_SIGMA * generator.standard_normal((near, 3), dtype=np.float32)
    wide_M3 = (generator.random((count - near, 3), dtype=np.float32) * 2.0 - 1.0) * np.float32(BOX)
    points_P3 = np.concatenate([near_N3, wide_M3]).astype(np.float32)
    return SdfSamples(points_P3, made.sdf(points_P3))


def _visible_points(
    made: ShapeObject, count: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Exactly `count` visible surface points float32 [P, 3] and their faces int64 [P]."""
    if count == 0:
        return np.zeros((0, 3), np.float32), np.zeros(0, np.int64)
    points, faces, found = [], [], 0
    for _ in range(_ROUNDS):
        points_P3, face_P = _visible_among(made, 2 * count + 16, generator)
        points.append(points_P3)
        faces.append(face_P)
        found += len(face_P)
        if found >= count:
            break
    all_P3, all_F = np.concatenate(points), np.concatenate(faces)
    # Only an object that is almost all hidden surface runs out of rounds; its points then repeat.
    keep = np.arange(count) % len(all_F)
    return all_P3[keep], all_F[keep]


def _visible_among(
    made: ShapeObject, tries: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Area-weighted draws on the whole mesh, less those inside other solids."""
    reach_F = np.cumsum(made.face_areas)
    face_P = np.searchsorted(reach_F, generator.random(tries) * reach_F[-1], side="right")
    face_P = np.minimum(face_P, len(reach_F) - 1)
    # The square root makes the draws uniform over the triangle.
    u_P = np.sqrt(generator.random(tries, dtype=np.float32))[:, None]
    v_P = generator.random(tries, dtype=np.float32)[:, None]
    a, b, c = (made.vertices[made.faces[face_P, k]] for k in range(3))
    points_P3 = (1.0 - u_P) * a + u_P * (1.0 - v_P) * b + u_P * v_P * c
    distance_KP = made.solid_sdf(points_P3)
    rank_P = np.arange(tries)
    own_P = distance_KP[made.face_solid[face_P], rank_P]
    distance_KP[made.face_solid[face_P], rank_P] = np.inf
    visible_P = distance_KP.min(axis=0) >= -HIDDEN_DEPTH
    points_P3 = points_P3 - own_P[:, None] * made.face_normals[face_P]
    return points_P3[visible_P].astype(np.float32), face_P[visible_P]
