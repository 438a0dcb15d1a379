"""Points spread evenly over the surface of a mesh.

Legend: N vertices, F faces, P points.
"""

from __future__ import annotations

import numpy as np


def sample_surface(
    vertices_N3: np.ndarray, faces_F3: np.ndarray, count: int, seed: int
) -> np.ndarray:
    """Points float64 [count, 3] drawn uniformly by area, the same for the same mesh and seed.

    Faces are chosen by area along a stratified sequence, so that every patch gets its share up to
    one point; inside a face a point is uniform.

    Args:
        vertices_N3: positions.
        faces_F3: indices; inner surfaces count like outer ones.
        count: how many points.
        seed: of the draws.

    Raises:
        ValueError: the surface has no area, or `count` is not positive.
    """
    if count < 1:
        raise ValueError(f"count must be positive, got {count}")
    corners_F33 = np.asarray(vertices_N3, dtype=np.float64)[faces_F3]
    a_F3, b_F3, c_F3 = corners_F33[:, 0], corners_F33[:, 1], corners_F33[:, 2]
    area_F = 0.5 * np.linalg.norm(np.cross(b_F3 - a_F3, c_F3 - a_F3), axis=1)
    total = float(area_F.sum()) if len(area_F) else 0.0
    if not 0.0 < total < np.inf:
        raise ValueError(f"a surface of area {total} can not be sampled")
    generator = np.random.default_rng(seed)
    place_P = (np.arange(count) + generator.random(count)) / count
    bounds_F = np.cumsum(area_F) / total
    face_P = np.minimum(np.searchsorted(bounds_F, place_P, side="right"), len(area_F) - 1)
    u_P1 = np.sqrt(generator.random((count, 1)))  # the root makes points uniform in a triangle
    v_P1 = generator.random((count, 1))
    return (1 - u_P1) * a_F3[face_P] + u_P1 * (1 - v_P1) * b_F3[face_P] + u_P1 * v_P1 * c_F3[face_P]
