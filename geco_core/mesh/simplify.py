"""Fewer faces: quadric edge collapse (Garland and Heckbert 1997), by fast-simplification.

Vertex colours are taken over from the nearest vertex of the full mesh: a collapse moves vertices,
and interpolating along it would smear colour edges.

Legend: N vertices, F faces.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial import KDTree

from geco_core.config.finish import MIN_FACES
from geco_core.errors import BadItem, Reason
from geco_core.mesh.clean import clean
from geco_core.types import Mesh

AGGRESSIVENESS = 5.0  # of the library, 0 slow and exact to 10 fast and rough


def simplify(mesh: Mesh, face_budget: int) -> Mesh:
    """At most about `face_budget` faces of the same shape; the mesh itself when it has no more.

    Args:
        mesh: a checked mesh without texture coordinates.
        face_budget: wanted number of faces, at least 4. The library may stop a few faces early
            where another collapse would turn a face over.

    Raises:
        ValueError: a budget below 4, or a mesh with texture coordinates.
        BadItem: `INVALID_MESH` when nothing is left.
    """
    import fast_simplification  # noqa: PLC0415 - native, and only for those who simplify

    if face_budget < MIN_FACES:
        raise ValueError(f"face_budget must be at least {MIN_FACES}, got {face_budget}")
    if mesh.uvs is not None:
        raise ValueError("simplify before unwrapping: texture coordinates would not survive")
    if len(mesh.faces) <= face_budget:
        return mesh
    given_N3: Any = np.ascontiguousarray(mesh.vertices, dtype=np.float32)
    points_N3, faces_F3 = fast_simplification.simplify(
        given_N3,
        np.ascontiguousarray(mesh.faces, dtype=np.int32),
        target_count=face_budget,
        agg=AGGRESSIVENESS,
    )[:2]
    if len(faces_F3) == 0:
        raise BadItem(
            f"simplifying {len(mesh.faces)} faces to {face_budget} left nothing",
            reason=Reason.INVALID_MESH,
            remedy="raise finish.face_budget",
            stage="finish",
        )
    reduced = Mesh(points_N3.astype(np.float32), faces_F3.astype(np.int32))
    if mesh.colors is not None:
        _, nearest_N = KDTree(mesh.vertices).query(reduced.vertices)
        reduced.colors = mesh.colors[nearest_N]
    return clean(reduced)
